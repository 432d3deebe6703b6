"""CelebA's attribute names, the groupings of them in the literature, and its colour statistics.

Example:
    >>> from mtattn.data import CELEBA_ATTRIBUTES, CELEBA_GROUPS, CELEBA_GROUPS_MCNN, CELEBA_GROUPS_PSMCNN
    >>> len(CELEBA_ATTRIBUTES), CELEBA_ATTRIBUTES[0]
    (40, '5_o_Clock_Shadow')
    >>> CELEBA_GROUPS["Chin"]
    ('Double_Chin', 'Goatee', 'No_Beard')
    >>> [len(groups) for groups in (CELEBA_GROUPS, CELEBA_GROUPS_MCNN, CELEBA_GROUPS_PSMCNN)]
    [8, 9, 4]
    >>> CELEBA_MEAN, CELEBA_STD  # red, green, blue
    ((0.5063, 0.4258, 0.3832), (0.3105, 0.2903, 0.2897))
"""

from mtattn.groups import AttributeGroups

_NAMES = """
5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair
Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones
Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
Wearing_Necktie Young
"""
CELEBA_ATTRIBUTES = tuple(_NAMES.split())
"""The 40 attribute names in the order of CelebA's ``list_attr_celeba.txt``."""


def _groups(**members: str) -> AttributeGroups:
    return AttributeGroups({name: attributes.split() for name, attributes in members.items()})


CELEBA_GROUPS = _groups(
    Holistic="Attractive Blurry Chubby Heavy_Makeup Male Oval_Face Pale_Skin Smiling Young",
    Hair="""Bald Bangs Black_Hair Blond_Hair Brown_Hair Gray_Hair Receding_Hairline Straight_Hair Wavy_Hair
        Wearing_Hat""",
    Eyes="Arched_Eyebrows Bags_Under_Eyes Bushy_Eyebrows Eyeglasses Narrow_Eyes",
    Nose="Big_Nose Pointy_Nose",
    Cheek="High_Cheekbones Rosy_Cheeks Sideburns Wearing_Earrings",
    Mouth="5_o_Clock_Shadow Big_Lips Mouth_Slightly_Open Mustache Wearing_Lipstick",
    Chin="Double_Chin Goatee No_Beard",
    Neck="Wearing_Necklace Wearing_Necktie",
)
"""Eight groups by place in the face, the default.

Source:
    A grouping in the style of DMTL (Han, Jain, Wang, Shan and Chen 2018, arXiv 1706.00906), not checked against the
    paper. Which groups FAR-AMTN uses is not known to us, so this default is our choice.
"""

CELEBA_GROUPS_MCNN = _groups(
    Gender="Male",
    Nose="Big_Nose Pointy_Nose",
    Mouth="Big_Lips Smiling Wearing_Lipstick Mouth_Slightly_Open",
    Eyes="Arched_Eyebrows Bags_Under_Eyes Bushy_Eyebrows Narrow_Eyes Eyeglasses",
    Face="Attractive Blurry Oval_Face Pale_Skin Young Heavy_Makeup",
    AroundHead="""Black_Hair Blond_Hair Brown_Hair Gray_Hair Bald Receding_Hairline Bangs Straight_Hair Wavy_Hair
        Wearing_Hat Wearing_Earrings Wearing_Necklace Wearing_Necktie""",
    FacialHair="5_o_Clock_Shadow Mustache No_Beard Sideburns Goatee",
    Cheeks="High_Cheekbones Rosy_Cheeks",
    Fat="Chubby Double_Chin",
)
"""Nine groups.

Source:
    MCNN-AUX (Hand and Chellappa 2017, arXiv 1604.07360). From memory, not checked against the paper: the places of
    Wearing_Hat, Wearing_Earrings, Wearing_Necklace, Wearing_Necktie and Double_Chin.
"""

CELEBA_GROUPS_PSMCNN = _groups(
    Upper="""Arched_Eyebrows Bags_Under_Eyes Bald Bangs Black_Hair Blond_Hair Brown_Hair Bushy_Eyebrows Eyeglasses
        Gray_Hair Narrow_Eyes Receding_Hairline Wearing_Hat""",
    Middle="Big_Nose High_Cheekbones Pointy_Nose Rosy_Cheeks Sideburns Wearing_Earrings",
    Lower="""Big_Lips Double_Chin Goatee Mustache Mouth_Slightly_Open No_Beard Wearing_Lipstick Wearing_Necklace
        Wearing_Necktie""",
    Whole="""5_o_Clock_Shadow Attractive Blurry Chubby Heavy_Makeup Male Oval_Face Pale_Skin Straight_Hair Smiling
        Wavy_Hair Young""",
)
"""Four groups.

Source:
    PS-MCNN (Cao, Li and Zhang 2018, CVPR). From memory, not checked against the paper: the names of the groups.
"""

LFWA_CROP = 0.43
"""The share of LFW's own pictures, 250 x 250 pixels, that the recipe keeps, which is the middle 108 pixels.

The eyes are about 40 pixels apart, here as in CelebA's aligned pictures. A copy whose pictures were cut to their
middle 180 pixels before needs 0.6. Of four shares this one was best on the validation part (benchmarks/study/crops.py).
"""

CELEBA_CROP = 0.65
"""The share of CelebA's pictures, 178 x 218 pixels, that the recipe keeps, which is their middle 116 x 142 pixels.

Of four shares this one was best on the validation part, at 96 pixels (benchmarks/study/crops.py). Necks and the upper
edge of hats are outside; whether large images still gain from the crop was not measured.
"""

CELEBA_MEAN = (0.5063, 0.4258, 0.3832)
"""Mean of red, green and blue over CelebA's training images, in [0, 1]."""

CELEBA_STD = (0.3105, 0.2903, 0.2897)
"""Standard deviation of red, green and blue over CelebA's training images, in [0, 1]."""
