"""Give a trained model other groups: what it knows of groups and attributes that stay is kept, by name."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtattn.groups import AttributeGroups, Number
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
    kept: list[str] = []
    if "own_heads" not in fresh.config and isinstance(model.heads, GroupHeads):
        kept = _kept_attributes(before, after)
        _keep_heads(model.heads, fresh.heads, kept)
    _tell(before, after, kept)
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


def _keep_heads(old: GroupHeads, new: GroupHeads, kept: Collection[str]) -> None:
    """Give new heads the rows of the attributes that stay; others start fresh."""
    before = {column: index for index, column in enumerate(old.groups.columns.attributes)}
    attributes = [new.groups.attributes[index] for index in new.groups.attribute_of]
    rows = {
        index: before[column]
        for index, (column, attribute) in enumerate(zip(new.groups.columns.attributes, attributes, strict=True))
        if attribute in kept and column in before
    }
    _fill(new.weight, old.weight, rows)
    _fill(new.bias, old.bias, rows)
    kinds = _by_name(old.groups)
    for name, kind in _by_name(new.groups).items():
        if name in kept and isinstance(kind, Number):
            _rescale(new, new.groups.columns_of(name), kinds[name], kind)


def _kept_attributes(before: AttributeGroups, after: AttributeGroups) -> list[str]:
    """Name the attributes of the new groups that the old ones have, as the same kind and in the same unit."""
    kinds = _by_name(before)
    return [name for name, kind in _by_name(after).items() if name in kinds and _same_kind(kinds[name], kind)]


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


def _same_kind(before: Any, after: Any) -> bool:
    return type(before) is type(after) and getattr(before, "unit", None) == getattr(after, "unit", None)


@torch.no_grad()
def _fill(new: nn.Parameter, old: Tensor, rows: Mapping[int, int]) -> None:
    new.data = new.data.to(old.device, old.dtype)
    if rows:
        new[list(rows)] = old[list(rows.values())]


@torch.no_grad()
def _rescale(heads: GroupHeads, column: slice, before: Number, after: Number) -> None:
    """Let a number that is told from another mean and standard deviation come out the same in its unit."""
    assert before.mean is not None and before.std is not None and after.mean is not None and after.std is not None  # noqa: PT018
    if (before.mean, before.std) != (after.mean, after.std):
        heads.weight[column] *= before.std / after.std
        heads.bias[column] = (before.std * heads.bias[column] + before.mean - after.mean) / after.std
