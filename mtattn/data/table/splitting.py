"""Split images by person and balanced over many labels at once, the same way every time."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Shaped

from mtattn.groups import AttributeGroups

SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}
_BINS = 4  # of a number: its quarters


def balanced_parts(
    targets: Float[np.ndarray, "image attribute"],
    groups: AttributeGroups,
    *,
    persons: Sequence[str] | Shaped[np.ndarray, " image"] | None = None,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
) -> Shaped[np.ndarray, " image"]:
    """Give each image a part, so that every part has its share of every label, and no person is in two.

    Persons with the rarest labels are dealt out first, those with many images before the others, each to the part that
    lacks most of what they have.

    Args:
        targets: NaN where an attribute is unlabelled.
        groups: The attributes of the columns.
        persons: Who each image shows, "" where nobody knows; everybody appears once if None.
        shares: The share of the images of each part; they add up to 1.
        seed: Decides between parts that lack the same.

    Returns:
        The name of the part of each image.

    Raises:
        ValueError: The shares are none, or there are fewer persons than parts.

    Example:
        >>> targets = np.array([[1.0], [0.0]] * 10)
        >>> parts = balanced_parts(targets, AttributeGroups({"head": ["Hat"]}), shares={"train": 0.5, "test": 0.5})
        >>> [float(targets[parts == name].mean()) for name in ("train", "test")]
        [0.5, 0.5]

    Source:
        After iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011), which deals out images, label after
        label. scikit-learn and iterative-stratification balance either persons or many labels, not both.
    """
    names, wanted = list(shares), np.array(list(shares.values()), float)
    if min(wanted, default=0) <= 0 or abs(wanted.sum() - 1) > 1e-6:
        raise ValueError(f"balanced_parts: shares are above 0 and add up to 1, got {dict(shares)}.")
    units, of_unit = _units(len(targets), persons)
    if units < len(names):
        raise ValueError(f"balanced_parts: needs a person for each of the {len(names)} parts, got {units}.")
    labels = _indicators(np.asarray(targets, float), groups)
    counts = np.zeros((units, labels.shape[1]))
    np.add.at(counts, of_unit, labels)
    part_of = _deal(counts, wanted, np.random.default_rng(seed))
    parts: np.ndarray = np.array(names)[part_of[of_unit]]
    return parts


def _units(num_images: int, persons: Sequence[str] | Shaped[np.ndarray, " image"] | None) -> tuple[int, np.ndarray]:
    if persons is None:
        return num_images, np.arange(num_images)
    names = [person or f"\0{index}" for index, person in enumerate(persons)]  # an unknown person is somebody else
    known, of_unit = np.unique(names, return_inverse=True)
    return len(known), of_unit


def _indicators(
    targets: Float[np.ndarray, "image attribute"], groups: AttributeGroups
) -> Float[np.ndarray, "image label"]:
    """Make a column for each label that is to be balanced, and in the end one for the images themselves."""
    columns = []
    for kind, values in zip(groups.kinds, targets.T, strict=True):
        if type(kind).__name__ == "Number":
            edges = np.nanquantile(values, np.linspace(0, 1, _BINS + 1)[1:-1])
            values = np.where(np.isnan(values), np.nan, np.searchsorted(edges, values))  # noqa: PLW2901
        columns += [values == label for label in np.unique(values[~np.isnan(values)])]
    return np.stack([*columns, np.ones(len(targets))], 1).astype(float)


def _deal(
    counts: Float[np.ndarray, "unit label"], wanted: Float[np.ndarray, " part"], random: np.random.Generator
) -> Shaped[np.ndarray, " unit"]:
    """Give each unit to the part where the squares of what is lacking, over what was wanted, fall most."""
    totals = counts.sum(0)
    weighted = counts / totals
    rarest = np.where(counts > 0, totals, np.inf).min(1)
    lacking = wanted[:, None] * totals
    part_of = np.zeros(len(counts), int)
    for unit in np.lexsort((random.random(len(counts)), -counts[:, -1], rarest)):
        fall = ((2 * lacking - counts[unit]) @ weighted[unit]) / wanted
        part = int(np.argmax(fall + 1e-9 * random.random(len(wanted))))
        part_of[unit] = part
        lacking[part] -= counts[unit]
    return part_of
