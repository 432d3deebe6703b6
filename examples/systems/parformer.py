"""PARFormer from the parts: pedestrians, centres of attributes, and images of one view close to each other.

| part | known from the public code | our reading |
| --- | --- | --- |
| trunk | Swin-B or Swin-L, 224 x 224 | any timm backbone |
| batch random mask | after the last stage, the same tokens for the whole batch | exactly this |
| heads | one linear layer on the mean over tokens | WSGSA first: each group of attributes has its gate |
| viewpoint | a linear layer to 3 scores | a categorical attribute in a group of its own |
| L1, attributes | asymmetric loss, summed | DWSLoss with equal weights: binary cross-entropy |
| L5, centres | one an attribute in the space of the mean; the code draws them again in every epoch | in the features of the attribute's own group; parameters that learn |
| L8, views | NT-Xent over the view scores, temperature 0.1 | exactly this, by pytorch-metric-learning |
| total | L1 + 0.5 L5 + 1.0 L8 | the same |
| evaluation | on the test part after every epoch | on a validation part; --by-person keeps a person in one part |

Source: arXiv 2304.07230, and its public code, read but not copied. In PETA's official split 57.7 % of the test images
show a person who was also trained on.

pip install pytorch-metric-learning
python examples/systems/parformer.py --root path/to/peta --by-person --output runs/parformer
"""  # noqa: E501  (a table)

from argparse import ArgumentParser, Namespace

import timm
from pytorch_metric_learning.losses import NTXentLoss
from system_runs import MEAN, STD, faces, new_folder, system_parser, train
from torch import Tensor, nn

from mtattn import WSGSA, AttributeGroups, DWSLoss, GroupHeads
from mtattn.data import CELEBA_GROUPS, PETA, PETA_GROUPS, AttributeImages, image_transform
from mtattn.modules import AttributeCenterLoss, BatchRandomMask

GROUPS = AttributeGroups(
    {
        name: [kind for kind in PETA_GROUPS.only(members).kinds if isinstance(kind, str)]
        for name, members in PETA_GROUPS.items()
    }
    | {"view": PETA_GROUPS.only(["viewpoint"]).kinds}
)


class System(nn.Module):
    def __init__(self, groups: AttributeGroups, backbone: str, *, pretrained: bool, mask: float) -> None:
        super().__init__()
        self.trunk = timm.create_model(backbone, pretrained=pretrained, features_only=True, out_indices=(3,))
        channels = self.trunk.feature_info.channels()[-1]
        binary = AttributeGroups({name: members for name, members in groups.items() if name != "view"})
        self.mask, self.wsgsa = BatchRandomMask(mask), WSGSA(channels, len(groups))
        self.heads, self.centers = GroupHeads(channels, groups), AttributeCenterLoss(binary, channels)

    def forward(self, images: Tensor) -> Tensor:
        self.grouped = 2 * self.wsgsa.pooled(self.mask(self.trunk(images)[-1]))  # the losses read it, too
        return self.heads(self.grouped)


class Losses(DWSLoss):
    """L1 + 0.5 L5 + L8; without a viewpoint among the groups there is no L8."""

    def __init__(self, groups: AttributeGroups, model: System) -> None:
        super().__init__(groups, rule="equal")
        self.model, self.views = (model,), NTXentLoss(temperature=0.1)  # in a tuple: its parameters are not the loss's

    def forward(self, outputs: Tensor, targets: Tensor, counts: Tensor | None = None) -> Tensor:
        (model,) = self.model
        total = super().forward(outputs, targets, counts)
        binary = model.centers.groups
        columns = [self.groups.attributes.index(name) for name in binary.attributes]
        total = total + 0.5 * model.centers(model.grouped[:, : len(binary)], targets[:, columns])
        if "viewpoint" in self.groups.attributes:
            views, scores = targets[:, self.groups.attributes.index("viewpoint")], self.groups.columns_of("viewpoint")
            known = ~views.isnan()
            total = total + self.views(outputs[known][:, scores], views[known].long())
        return total


def people(options: Namespace) -> dict[str, AttributeImages]:
    size = (2 * options.image_size, options.image_size)  # people stand
    return {
        part: PETA(
            options.root,
            part,
            attributes=GROUPS.attributes,
            by_person=options.by_person,
            transform=image_transform(size, mean=MEAN, std=STD, augment="light" if part == "train" else "none"),
        )
        for part in ("train", "valid", "test")
    }


def main(options: Namespace) -> None:
    output = new_folder(options)
    groups, parts = faces(options, CELEBA_GROUPS) if options.root is None else (GROUPS, people(options))
    model = System(groups, options.backbone, pretrained=options.pretrained, mask=options.mask)
    train(model, Losses(groups, model), parts, options, output)


def parser() -> ArgumentParser:
    options = system_parser(__doc__.partition("\n")[0], data="PETA")
    options.add_argument("--by-person", action="store_true", help="take the split in which nobody is in two parts")
    options.add_argument("--mask", type=float, default=0.1, help="share of positions to hide while training, in [0, 1)")
    return options


if __name__ == "__main__":
    main(parser().parse_args())
