"""AAFACE from the parts: attributes help to tell who it is.

| part | known from public text | our reading |
| --- | --- | --- |
| branches | soft biometrics beside recognition, in one network | a convolution each on the features of any timm backbone |
| integration (AAI) | recognition maps mixed with those of attributes, by channels and positions; no formula | AttentionalFusion; or "listen": CGFF in which identity is a group that hears all others, and none hears it |
| attributes | an auxiliary task | WSGSA and GroupHeads |
| loss, training | not public | CosFace (64, 0.4) and binary cross-entropy, one weight a group |

Source: the abstract of arXiv 2308.07243; of the integration only words are public. From scratch on a few thousand
pictures this compares heads; it makes no recogniser.

python examples/systems/aaface.py --root path/to/lfwa --output runs/aaface
python examples/systems/aaface.py --root path/to/lfwa --output runs/aaface-listen --fusion listen
"""  # noqa: E501  (a table)

from argparse import ArgumentParser, Namespace

import timm
import torch
from identities import CosFace, cosines, people_of, verify, with_identity, without_identity
from system_runs import MEAN, STD, new_folder, system_parser, train, write_scores
from torch import Tensor, nn

from mtattn import CGFF, WSGSA, AttributeGroups, GroupHeads
from mtattn.data import CELEBA_GROUPS, LFWA, image_transform
from mtattn.modules import AttentionalFusion, EmbeddingHead


class System(nn.Module):
    def __init__(self, groups: AttributeGroups, backbone: str, fusion: str, *, pretrained: bool) -> None:
        super().__init__()
        self.groups, attributes = groups, without_identity(groups)
        self.trunk = timm.create_model(backbone, pretrained=pretrained, features_only=True, out_indices=(3,))
        (channels,), width, number = self.trunk.feature_info.channels(), 256, len(attributes)
        self.soft, self.face = (nn.Conv2d(channels, width, 3, padding=1) for _ in range(2))
        self.wsgsa, self.heads = WSGSA(width, number), GroupHeads(width, attributes)
        self.fusion = AttentionalFusion(width) if fusion == "mix" else None
        listens = [[i in (j, number) for j in range(number + 1)] for i in range(number + 1)]  # identity is the last
        self.cgff = CGFF(width, allowed=listens) if fusion == "listen" else None
        self.embedding = EmbeddingHead(width, 128)
        self.people = nn.Parameter(torch.randn(len(groups.kinds[-1].classes), 128))

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(images)[-1]
        soft, face = self.soft(x).relu(), self.face(x).relu()
        grouped = 2 * self.wsgsa.pooled(soft)  # gates start near one half
        who = (face if self.fusion is None else self.fusion(face, soft)).mean((2, 3))
        if self.cgff is not None:
            fused = self.cgff(torch.cat([grouped, who[:, None]], 1))
            grouped, who = fused[:, :-1], fused[:, -1]
        return grouped, self.embedding(who)

    def embed(self, images: Tensor) -> Tensor:
        return self.features(images)[1]

    def forward(self, images: Tensor) -> Tensor:
        grouped, who = self.features(images)
        return torch.cat([self.heads(grouped), cosines(who, self.people)], 1)


def main(options: Namespace) -> None:
    output = new_folder(options)
    size = (options.image_size, options.image_size)
    plain, changed = (image_transform(size, mean=MEAN, std=STD, augment=how) for how in ("none", "light"))
    faces = {
        part: LFWA(
            options.root,
            part,
            attributes=CELEBA_GROUPS.attributes,
            transform=changed if part == "train" else plain,
        )
        for part in ("train", "valid", "test")
    }
    identity = people_of(faces["train"].files)
    parts = {part: with_identity(data, options.root, identity) for part, data in faces.items()}
    groups = AttributeGroups({**CELEBA_GROUPS, "who": [identity]})
    model = System(groups, options.backbone, options.fusion, pretrained=options.pretrained)
    scores = train(model, CosFace(groups), parts, options, output)
    write_scores(scores | verify(model.embed, model, options, plain), output)


def parser() -> ArgumentParser:
    options = system_parser(__doc__.partition("\n")[0], drawn=False)
    options.add_argument(
        "--fusion", choices=["mix", "listen", "none"], default="mix", help="how identity takes in the attributes"
    )
    return options


if __name__ == "__main__":
    main(parser().parse_args())
