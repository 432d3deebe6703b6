"""MGMTN from the parts: each group looks where its part of the face is.

| part | known from public text | our reading |
| --- | --- | --- |
| masks (AML) | a UNet, trained on masks drawn from 98 keypoints that FaRL finds | fixed: soft discs at the places of an aligned face; learned: one layer on the features, which the attributes train |
| groups | Mouth, Ear, Lower Face, Cheeks, Nose, Eyes, Hair, Object (all of the face) | the members of each |
| trunk | ResNeSt50, levels F_3 to F_5 | any timm backbone, three levels joined by MultiLevelFusion |
| group feature | mask times level, element by element | the same, normalised: the mean under the mask |
| G2FF | combines group and global features; no formula | attention in which a part hears itself and Object only |
| loss, training | not public | DWSLoss, ours |

Source: arXiv 2601.01408. The masks are the floor that learned ones from keypoints would have to beat.

python examples/systems/mgmtn.py --root path/to/lfwa --output runs/mgmtn
python examples/systems/mgmtn.py --root path/to/lfwa --output runs/mgmtn-learned --masks learned
"""  # noqa: E501  (a table)

from argparse import Namespace

import timm
import torch
from system_runs import faces, new_folder, system_parser, train
from torch import Tensor, nn

from mtattn import CGFF, WSGSA, AttributeGroups, DWSLoss, GroupHeads, functional
from mtattn.modules import MaskHead, MultiLevelFusion

GROUPS = AttributeGroups(
    {
        "mouth": ["Big_Lips", "Mouth_Slightly_Open", "Smiling", "Wearing_Lipstick", "Mustache"],
        "ear": ["Wearing_Earrings"],
        "lower face": ["5_o_Clock_Shadow", "Double_Chin", "Goatee", "No_Beard", "Wearing_Necklace", "Wearing_Necktie"],
        "cheeks": ["High_Cheekbones", "Rosy_Cheeks", "Sideburns"],
        "nose": ["Big_Nose", "Pointy_Nose"],
        "eyes": ["Arched_Eyebrows", "Bags_Under_Eyes", "Bushy_Eyebrows", "Eyeglasses", "Narrow_Eyes"],
        "hair": [
            "Bald", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Receding_Hairline",
            "Straight_Hair", "Wavy_Hair", "Wearing_Hat",
        ],
        "object": ["Attractive", "Blurry", "Chubby", "Heavy_Makeup", "Male", "Oval_Face", "Pale_Skin", "Young"],
    }
)  # fmt: skip
DISCS = {  # height, width and radius, in shares of an aligned face (LFWA's, and the drawn ones); several make one mask
    "mouth": [(0.65, 0.50, 0.11)],
    "ear": [(0.50, 0.23, 0.09), (0.50, 0.77, 0.09)],
    "lower face": [(0.78, 0.50, 0.20)],
    "cheeks": [(0.55, 0.34, 0.10), (0.55, 0.66, 0.10)],
    "nose": [(0.52, 0.50, 0.11)],
    "eyes": [(0.40, 0.37, 0.12), (0.40, 0.63, 0.12)],
    "hair": [(0.15, 0.50, 0.22), (0.32, 0.21, 0.14), (0.32, 0.79, 0.14)],
    "object": [(0.48, 0.50, 0.42)],
}


def discs(groups: AttributeGroups, side: int = 32) -> Tensor:
    """One soft mask a group, in [0, 1]: one half at the edge of each disc."""
    place = (torch.arange(side) + 0.5) / side
    return discs_at(groups, place[:, None], place[None, :])


def discs_at(groups: AttributeGroups, y: Tensor, x: Tensor) -> Tensor:
    """The same at places of any kind, in shares of the image: (group, height, width)."""
    masks = []
    for name in groups:
        distances = [((y - v).square() + (x - u).square()).sqrt() / r for v, u, r in DISCS[name]]
        masks.append((6 * (1 - torch.stack(distances).amin(0))).sigmoid())
    return torch.stack(masks)


class System(nn.Module):
    def __init__(self, groups: AttributeGroups, backbone: str, *, pretrained: bool, learned: bool) -> None:
        super().__init__()
        self.trunk = timm.create_model(backbone, pretrained=pretrained, features_only=True, out_indices=(1, 2, 3))
        self.fuse = MultiLevelFusion(self.trunk.feature_info.channels(), 256)
        self.masks = MaskHead(256, len(groups)) if learned else None
        self.register_buffer("discs", discs(groups))
        self.wsgsa = WSGSA(256, len(groups))
        allowed = [[speaker in (listener, "object") for speaker in groups] for listener in groups]
        self.g2ff = CGFF(256, allowed=allowed)
        self.heads = GroupHeads(256, groups)

    def forward(self, images: Tensor) -> Tensor:
        x = self.fuse(self.trunk(images)).relu()
        masks = self.discs.expand(len(x), -1, -1, -1) if self.masks is None else self.masks(x).sigmoid()
        positions = functional.mask_positions(masks, x.shape[-2:])
        return self.heads(self.g2ff(2 * self.wsgsa.pooled(x, positions)))  # gates start near one half


def main(options: Namespace) -> None:
    output = new_folder(options)
    groups, parts = faces(options, GROUPS)
    model = System(groups, options.backbone, pretrained=options.pretrained, learned=options.masks == "learned")
    train(model, DWSLoss(groups), parts, options, output)


if __name__ == "__main__":
    parser = system_parser(__doc__.partition("\n")[0])
    parser.add_argument("--masks", choices=["fixed", "learned"], default="fixed", help="discs, or from the features")
    main(parser.parse_args())
