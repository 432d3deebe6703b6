"""What property tests draw: groups of every kind, and outputs and targets for them. Import it within a test file."""

from itertools import pairwise

import torch
from hypothesis import strategies as st

from mtattn import AttributeGroups, Categorical, Number, Ordinal

NAN = torch.nan


@st.composite
def groups_of_every_kind(draw):
    kinds = draw(st.lists(st.sampled_from(["binary", "categorical", "ordinal", "number"]), min_size=1, max_size=8))
    attributes = []
    for index, kind in enumerate(kinds):
        choices = tuple(f"{letter}{index}" for letter in "abcdef"[: draw(st.integers(2, 6))])
        attribute = {
            "binary": f"binary {index}",
            "categorical": Categorical(f"class {index}", choices),
            "ordinal": Ordinal(f"level {index}", choices),
            "number": Number(f"number {index}", "m", mean=draw(st.floats(-5, 5)), std=draw(st.floats(0.1, 9))),
        }[kind]
        attributes.append(attribute)
    cuts = sorted(draw(st.sets(st.integers(1, len(attributes)), max_size=3)) | {0, len(attributes)})
    return AttributeGroups({f"g{a}": attributes[a:b] for a, b in pairwise(cuts)})


def num_choices(kind):
    """How many classes or levels an attribute has, None for a number."""
    match kind:
        case Categorical(_, choices) | Ordinal(_, choices):
            return len(choices)
        case Number():
            return None
    return 2


def labelled(groups, seed, *, size=6, missing=0.3, dtype=torch.float64):
    """Outputs and targets that may be, some of them missing."""
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(size, len(groups.columns.attributes), generator=generator, dtype=dtype)
    columns = []
    for kind in groups.kinds:
        choices = num_choices(kind)
        if choices is None:
            columns.append(kind.mean + kind.std * torch.randn(size, generator=generator, dtype=dtype))
        else:
            columns.append(torch.randint(0, choices, (size,), generator=generator).to(dtype))
    targets = torch.stack(columns, 1)
    targets[torch.rand(targets.shape, generator=generator) < missing] = NAN
    return outputs, targets
