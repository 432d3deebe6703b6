"""FAR-AMTN from the parts: the network of the README, written out.

| part | known from public text | our reading |
| --- | --- | --- |
| trunk | ResNet-50 to conv5_2, all groups share it | any timm backbone, cut before its last block |
| WSGSA | one shared block f, one channel gate a group | exactly this |
| CGFF | interaction between group features, after WSGSA | attention across the groups |
| heads | one fully connected layer a group | exactly this |
| DWS | synchronized convergence | weights by the loss that is left |

Source: Gao, Wang, Liu and Zhao 2025 (arXiv 2601.01537). ``mtattn.FARAMTN`` adds what is ours: places and a projection.

python examples/systems/far_amtn.py --root path/to/lfwa --output runs/far-amtn
"""

from argparse import Namespace

from system_runs import faces, new_folder, system_parser, train
from torch import Tensor, nn

from mtattn import CGFF, WSGSA, AttributeGroups, DWSLoss, GroupHeads
from mtattn.data import CELEBA_GROUPS
from mtattn.models.backbones import build_backbone


class System(nn.Module):
    def __init__(self, groups: AttributeGroups, backbone: str, *, pretrained: bool) -> None:
        super().__init__()
        cut = build_backbone(backbone, pretrained=pretrained, drop_stages=1)  # 64 pixels leave 2 x 2 after layer4
        self.trunk = cut.trunk
        self.wsgsa = WSGSA(cut.channels, len(groups), shared=cut.shared, out_channels=cut.out_channels)
        self.cgff = CGFF(cut.out_channels)
        self.heads = GroupHeads(cut.out_channels, groups)

    def forward(self, images: Tensor) -> Tensor:
        grouped = 2 * self.wsgsa.pooled(self.trunk(images))  # gates start near one half
        return self.heads(self.cgff(grouped))


def main(options: Namespace) -> None:
    output = new_folder(options)
    groups, parts = faces(options, CELEBA_GROUPS)
    model = System(groups, options.backbone, pretrained=options.pretrained)
    train(model, DWSLoss(groups), parts, options, output)


if __name__ == "__main__":
    main(system_parser(__doc__.partition("\n")[0]).parse_args())
