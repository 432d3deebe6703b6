"""SwinFace from the parts: who it is, how old, what the face shows, in one network whose data are partly labelled.

| part | known from the public code | our reading |
| --- | --- | --- |
| trunk | Swin-T at 112 x 112 with patches of 2, first trained on 5.8 M faces | any timm backbone, from scratch |
| levels (MLFF) | four, each pooled and convolved to its share of 512 channels | three, of 256 channels |
| gates (CA) | CBAM's: the same layers on mean and maximum | the same, one gate a branch |
| convolutions | each of 11 branches has its own: 32.7 M parameters | all branches share one |
| branch | maximum over positions, batch norm, two layers with dropout 0.5 | the same |
| outputs | 42 tasks; expression in 7 classes, age in years | 40 of LFWA, Smiling for the expression; age from FairFace |
| recognition | batch-normed layers to 512, CosFace (64, 0.4), Partial FC | the same to 128, without Partial FC |
| weights | all 1 | the rule "equal": one a branch |
| data | a slice of each batch from each data set | JointDataset: LFWA knows no age, FairFace nothing else |

Source: arXiv 2308.11509, and its public code, read but not copied. From scratch on a few thousand pictures this
compares heads; it makes no recogniser. FairFace's ages are impressions of annotators.

python examples/systems/swinface.py --root path/to/lfwa --fairface path/to/fairface --output runs/swinface
"""  # noqa: E501  (a table)

from argparse import ArgumentParser, Namespace
from pathlib import Path

import timm
import torch
from identities import CosFace, cosines, people_of, verify, with_identity, without_identity
from system_runs import MEAN, STD, new_folder, system_parser, train, write_scores
from torch import Tensor, nn

from mtattn import WSGSA, AttributeGroups, GroupHeads, Number
from mtattn.data import LFWA, FairFace, JointDataset, image_transform
from mtattn.modules import EmbeddingHead, GroupMLP, MultiLevelFusion

BRANCHES = AttributeGroups(  # SwinFace's eleven
    {
        "gender": ["Male"],
        "age": [Number("years", unit="years"), "Young"],
        "expression": ["Smiling"],
        "whole face": ["Attractive", "Blurry", "Chubby", "Heavy_Makeup", "Oval_Face", "Pale_Skin"],
        "hair": [
            "Bald", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Receding_Hairline",
            "Straight_Hair", "Wavy_Hair", "Wearing_Hat",
        ],
        "eyes": ["Arched_Eyebrows", "Bags_Under_Eyes", "Bushy_Eyebrows", "Eyeglasses", "Narrow_Eyes"],
        "nose": ["Big_Nose", "Pointy_Nose"],
        "cheeks": ["High_Cheekbones", "Rosy_Cheeks", "Sideburns", "Wearing_Earrings"],
        "mouth": [
            "5_o_Clock_Shadow", "Big_Lips", "Mouth_Slightly_Open", "Mustache", "No_Beard", "Wearing_Lipstick",
        ],
        "chin": ["Double_Chin", "Goatee"],
        "neck": ["Wearing_Necklace", "Wearing_Necktie"],
    }
)  # fmt: skip


class System(nn.Module):
    def __init__(self, groups: AttributeGroups, backbone: str, *, pretrained: bool) -> None:
        super().__init__()
        self.groups, branches = groups, without_identity(groups)
        self.trunk = timm.create_model(backbone, pretrained=pretrained, features_only=True, out_indices=(1, 2, 3))
        channels, width, number = self.trunk.feature_info.channels(), 256, len(branches)
        self.fuse, self.wsgsa = MultiLevelFusion(channels, width), WSGSA(width, number, squeeze="mean+max")
        self.norm = nn.BatchNorm1d(number * width)
        self.subnets = GroupMLP(width, number, (width, width), dropout=0.5)
        self.heads = GroupHeads(width, branches)
        self.embedding = EmbeddingHead(channels[-1], 128)
        self.people = nn.Parameter(torch.randn(len(groups.kinds[-1].classes), 128))

    def embed(self, images: Tensor) -> Tensor:
        return self.embedding(self.trunk(images)[-1].mean((2, 3)))

    def forward(self, images: Tensor) -> Tensor:
        levels = self.trunk(images)
        grouped = self.wsgsa.pooled(self.fuse(levels).relu(), pool="max")
        grouped = self.norm(grouped.flatten(1)).view_as(grouped)
        who = self.embedding(levels[-1].mean((2, 3)))
        return torch.cat([self.heads(self.subnets(grouped)), cosines(who, self.people)], 1)


def main(options: Namespace) -> None:
    output = new_folder(options)
    size = (options.image_size, options.image_size)
    plain, changed = (image_transform(size, mean=MEAN, std=STD, augment=how) for how in ("none", "light"))
    faces = {part: LFWA(options.root, part, transform=plain) for part in ("train", "valid", "test")}
    faces["train"].transform = changed
    identity = people_of(faces["train"].files)
    ages = {
        part: FairFace(options.fairface, part, attributes=["years"], transform=changed if part == "train" else plain)
        for part in faces
    }
    groups = AttributeGroups({name: BRANCHES.only(own).kinds for name, own in BRANCHES.items()} | {"who": [identity]})
    names = groups.attributes
    parts = {
        part: JointDataset(
            with_identity(faces[part], options.root, identity), ages[part], attributes=names, shares=(0.5, 0.5)
        )
        for part in faces
    }
    groups = groups.fitted(parts["train"].targets)
    model = System(groups, options.backbone, pretrained=options.pretrained)
    scores = train(model, CosFace(groups), parts, options, output)
    write_scores(scores | verify(model.embed, model, options, plain), output)


def parser() -> ArgumentParser:
    options = system_parser(__doc__.partition("\n")[0], drawn=False)
    options.add_argument("--fairface", type=Path, required=True, help="the folder of FairFace, for the ages")
    return options


if __name__ == "__main__":
    main(parser().parse_args())
