"""Give a trained model other groups: what it knows of groups and attributes that stay is kept, by name."""

import logging
from collections.abc import Collection, Mapping
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn

from mtattn.groups import AttributeGroups, Categorical, Number, Ordinal
from mtattn.groups.kinds import Attribute
from mtattn.modules import CGFF, WSGSA, GroupHeads

_LOG = logging.getLogger("mtattn")
_OF_A_GROUP = ("down_weight", "down_bias", "up_weight", "up_bias", "queries", "place_weight")


def take_over(model: Any, fresh: Any) -> None:
    """Give a model the parts that depend on groups of a fresh one, filled with what it knows; say what was kept.

    Args:
        model: The FARAMTN to change.
        fresh: One with the new groups on the same trunk and shared module.
    """
    before, after = model.groups, fresh.groups
    _keep_gates(model.wsgsa, fresh.wsgsa, before, after)
    _keep_pairs(model.cgff, before, after)
    kept: dict[int, int] = {}
    if "own_heads" not in fresh.config and isinstance(model.heads, GroupHeads):
        kept = _kept_columns(before, after)
        _keep_heads(model.heads, fresh.heads, kept)
    _tell(before, after, dict.fromkeys(after.attributes[after.attribute_of[column]] for column in kept))
    fresh.wsgsa.training = model.wsgsa.training  # and not train(), which would set modes of the shared module as well
    fresh.heads.train(model.heads.training)
    model.groups, model.wsgsa, model.heads = after, fresh.wsgsa, fresh.heads
    model.config |= {name: fresh.config[name] for name in ("groups", "own_heads") if name in fresh.config}


def _keep_gates(old: WSGSA, new: WSGSA, before: AttributeGroups, after: AttributeGroups) -> None:
    """Give a new WSGSA the gates and queries of the groups that stay, and what does not depend on groups."""
    rows = {index: list(before).index(name) for index, name in enumerate(after) if name in before}
    for name in _OF_A_GROUP:
        ours, theirs = getattr(old, name), getattr(new, name)
        if ours is not None:
            _fill(theirs, ours, rows)
    new.key_weight = old.key_weight


@torch.no_grad()
def _keep_pairs(cgff: nn.Module, before: AttributeGroups, after: AttributeGroups) -> None:
    """Give CGFF the learned pairs of groups that stay, in their new places; the others start at zero."""
    if not isinstance(cgff, CGFF) or cgff.prior is None:
        return
    stay = [name for name in after if name in before]
    there, here = ([list(groups).index(name) for name in stay] for groups in (before, after))
    pairs = cgff.prior.new_zeros(len(cgff.prior), len(after), len(after))
    pairs[:, torch.tensor(here)[:, None], here] = cgff.prior[:, torch.tensor(there)[:, None], there]
    cgff.prior, cgff.num_groups = nn.Parameter(pairs, requires_grad=cgff.prior.requires_grad), len(after)


def _keep_heads(old: GroupHeads, new: GroupHeads, kept: Mapping[int, int]) -> None:
    """Give new heads the rows of the columns that stay; others start fresh."""
    _fill(new.weight, old.weight, kept)
    _fill(new.bias, old.bias, kept)
    kinds = _by_name(old.groups)
    for name, kind in _by_name(new.groups).items():
        columns = new.groups.columns_of(name)
        if isinstance(kind, Number) and columns.start in kept:
            _rescale(new, columns, kinds[name], kind)


def _kept_columns(before: AttributeGroups, after: AttributeGroups) -> dict[int, int]:
    """Find the columns of the new groups that said the same in the old ones, and where: {new: old}."""
    kinds, kept = _by_name(before), dict[int, int]()
    for name, kind in _by_name(after).items():
        if name in kinds:
            old, new = before.columns_of(name).start, after.columns_of(name).start
            kept |= {new + place: old + there for place, there in _same_places(kinds[name], kind).items()}
    return kept


def _same_places(before: Attribute, after: Attribute) -> dict[int, int]:
    """Find which columns of an attribute say the same as a column of the attribute that had its name: {new: old}."""
    match before, after:
        case str(), str():
            return {0: 0}
        case Number(), Number() if before.unit == after.unit:
            return {0: 0}
        case Categorical(), Categorical():
            known = before.classes
            return {place: known.index(name) for place, name in enumerate(after.classes) if name in known}
        case Ordinal(), Ordinal():  # "above this level" is the same where the levels up to it are the same
            pairs = zip(before.levels[:-1], after.levels[:-1], strict=False)
            return {place: place for place, _ in enumerate(takewhile(lambda pair: pair[0] == pair[1], pairs))}
    return {}


def _tell(before: AttributeGroups, after: AttributeGroups, attributes: Collection[str]) -> None:
    """Say in one line what was kept."""
    groups = [name for name in after if name in before]
    _LOG.warning(
        "FARAMTN.reset_groups: kept by name %s and %s; fresh are %s and %s.",
        _listed("group", groups),
        _listed("attribute", attributes),
        _listed("group", [name for name in after if name not in before]),
        _listed("attribute", [name for name in after.attributes if name not in attributes]),
    )


def _listed(what: str, names: Collection[str], most: int = 8) -> str:
    told = ", ".join(list(names)[:most]) + ", ..." * (len(names) > most)
    return f"{len(names)} {what}{'s' * (len(names) != 1)}" + f" ({told})" * bool(names)


def _by_name(groups: AttributeGroups) -> Mapping[str, Any]:
    return dict(zip(groups.attributes, groups.kinds, strict=True))


@torch.no_grad()
def _fill(new: nn.Parameter, old: Tensor, rows: Mapping[int, int]) -> None:
    new.data = new.data.to(old.dtype)
    if rows:
        new[list(rows)] = old[list(rows.values())]


@torch.no_grad()
def _rescale(heads: GroupHeads, column: slice, before: Number, after: Number) -> None:
    """Let a number that is told from another mean and standard deviation come out the same in its unit."""
    assert before.mean is not None and before.std is not None and after.mean is not None and after.std is not None  # noqa: PT018
    if (before.mean, before.std) != (after.mean, after.std):
        heads.weight[column] *= before.std / after.std
        heads.bias[column] = (before.std * heads.bias[column] + before.mean - after.mean) / after.std
