"""The groups of attributes that the study compares."""

import random
from collections.abc import Sequence

import numpy as np
from scipy.cluster import hierarchy

from mtattn import AttributeGroups
from mtattn.data import CELEBA_GROUPS, CELEBA_GROUPS_MCNN, CELEBA_GROUPS_PSMCNN, PETA_GROUPS, PlantedRelations


def default_groups(attributes: Sequence[str]) -> AttributeGroups:
    """Give the groups of the data set that has these attributes."""
    if set(attributes) == set(PlantedRelations.groups.attributes):
        return PlantedRelations.groups
    known = CELEBA_GROUPS if set(attributes) <= set(CELEBA_GROUPS.attributes) else PETA_GROUPS
    return known.only(attributes)


def grouping(name: str, attributes: Sequence[str], labels: np.ndarray, seed: int) -> AttributeGroups:
    """Build the groups of a row; ``labels`` are those of training, ``seed`` decides random groups."""
    if name == "default":
        return default_groups(attributes)
    fixed = {"4": CELEBA_GROUPS_PSMCNN, "9": CELEBA_GROUPS_MCNN}
    if name in fixed:
        return fixed[name].only(attributes)
    if name in {"1", "40"}:
        return AttributeGroups({"all": list(attributes)} if name == "1" else {name: [name] for name in attributes})
    default = default_groups(attributes)
    if name == "random":
        shuffled = iter(random.Random(seed).sample(list(attributes), len(attributes)))
        return AttributeGroups({f"random {i}": [next(shuffled) for _ in range(n)] for i, n in enumerate(default.sizes)})
    likeness = np.abs(np.nan_to_num(np.corrcoef(labels.T.astype(np.float64))))
    tree = hierarchy.linkage(1 - likeness[np.triu_indices(len(attributes), 1)], "average")
    cluster = hierarchy.fcluster(tree, len(default), "maxclust")
    members = {
        str(c): [a for a, own in zip(attributes, cluster, strict=True) if own == c] for c in sorted(set(cluster))
    }
    return AttributeGroups(members)
