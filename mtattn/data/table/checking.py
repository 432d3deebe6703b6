"""Look at a table and its pictures before anybody trains."""

import hashlib
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from mtattn._extras import needed_by
from mtattn.data.dataset import skip_unreadable
from mtattn.data.table.images import TableImages
from mtattn.data.table.plan import Plan
from mtattn.data.table.reading import Table
from mtattn.data.table.values import MOST_CLASSES, PARTS
from mtattn.groups import Attribute, Categorical, Number

FEW_POSITIVES = 20  # of all, so that a tenth of them are two: no score of a test part means anything below
COPY = 0.99
RELATED = 0.3  # the mean correlation of a proposed group, at least
_SHOWN = 3


@dataclass(frozen=True)
class LabelCounts:
    """How often each value of an attribute is labelled.

    Args:
        kind: The attribute.
        labels: How many images have a label.
        missing: How many have none.
        values: How many images have each value; of a number, least, mean and greatest.
        parts: How many of the rarest value each part has.
    """

    kind: Attribute
    labels: int
    missing: int
    values: dict[str, float]
    parts: dict[str, int]


@dataclass(frozen=True)
class Findings:
    """What a table is like.

    Args:
        images: How many images can be read.
        parts: How many images each part has.
        attributes: What each attribute is like, by name.
        problems: What has to be fixed before training means anything.
        warnings: What is good to know.
        groups: Attributes that occur together, as groups; empty if nothing does.
        rare: A few images of the rarest value of each attribute, by the attribute's name.
    """

    images: int
    parts: dict[str, int]
    attributes: dict[str, LabelCounts]
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    groups: list[list[str]] = field(default_factory=list)
    rare: dict[str, list[Path]] = field(default_factory=dict)


def check_table(table: Table, folder: str | Path, plan: Plan) -> Findings:
    """Look at labels, pictures, persons and parts.

    Raises:
        ValueError: The table has faults, see :class:`mtattn.data.TableImages`.
        FileNotFoundError: The folder, or every picture, is missing.
    """
    data, problems = _readable(table, folder, plan)
    targets = data.targets.numpy()
    counts = {
        name: _counts(kind, targets[:, column], data.parts)
        for column, (name, kind) in enumerate(zip(data.attributes, plan.groups.kinds, strict=True))
    }
    same = _same_bytes([data.path(index) for index in range(len(data))])
    notes = [*_label_notes(counts), *_few_numbers(counts, targets), *_copies(data.attributes, targets)]
    problems += [
        f"{name!r} is {_only(found)} in every row: there is nothing to learn, leave it out"
        for name, found in counts.items()
        if _is_constant(found)
    ]
    problems += [*_shared_pictures(data, same), *_shared_persons(data)]
    doubled = [files for files in same if data.parts is None or len({data.parts[index] for index in files}) == 1]
    if doubled:
        notes.append(f"{sum(map(len, doubled))} pictures have the same bytes as another: {_few(data, doubled)}")
    if data.persons is None:
        notes.append("no column says who is in a picture: if somebody is in several, name one, or scores will flatter")
    return Findings(
        images=len(data),
        parts={} if data.parts is None else _by_part(data.parts),
        attributes=counts,
        problems=problems,
        warnings=notes,
        groups=related_groups(data.attributes, plan.groups.kinds, targets),
        rare={name: _rarest(data, column, plan.groups.kinds[column]) for column, name in enumerate(data.attributes)},
    )


def related_groups(
    attributes: Sequence[str], kinds: Sequence[Attribute], targets: Float[np.ndarray, "image attribute"]
) -> list[list[str]]:
    """Propose groups of attributes whose labels go together, by hierarchical clustering of their correlations.

    Classes without an order have no correlation and stay out; of fewer than three others there is no proposal.
    """
    chosen = [index for index, kind in enumerate(kinds) if not isinstance(kind, Categorical)]
    if len(chosen) < 3:
        return []
    with needed_by("mtattn check", extra="tables"):
        from scipy.cluster.hierarchy import fcluster, linkage  # noqa: PLC0415
        from scipy.spatial.distance import squareform  # noqa: PLC0415
    distance = 1 - np.nan_to_num(abs(_correlations(targets[:, chosen])))
    np.fill_diagonal(distance, 0)
    cluster = fcluster(linkage(squareform(distance, checks=False), "average"), 1 - RELATED, "distance")
    found = defaultdict(list)
    for index, number in zip(chosen, cluster.tolist(), strict=True):
        found[number].append(attributes[index])
    return sorted((group for group in found.values() if len(group) > 1), key=len, reverse=True)


def _readable(table: Table, folder: str | Path, plan: Plan) -> tuple[TableImages, list[str]]:
    with warnings.catch_warnings(action="ignore"):  # what is left out is told below
        data = TableImages(table, folder, plan, missing="skip")
        absent = data.skipped
        data = skip_unreadable(data)
    damaged = data.skipped[len(absent) :]
    told = (("missing", absent), ("that cannot be read", damaged))
    return data, [f"{len(files)} pictures {what}: {_some(files)}" for what, files in told if files]


def _counts(kind: Attribute, values: Float[np.ndarray, " image"], parts: np.ndarray | None) -> LabelCounts:
    labelled = values[~np.isnan(values)]
    if isinstance(kind, Number):
        named = {name: float(of(labelled)) for name, of in (("min", np.min), ("mean", np.mean), ("max", np.max))}
        return LabelCounts(kind, len(labelled), len(values) - len(labelled), named if len(labelled) else {}, {})
    choices = ("no", "yes") if isinstance(kind, str) else kind.classes if isinstance(kind, Categorical) else kind.levels
    named = {choice: float((labelled == index).sum()) for index, choice in enumerate(choices)}
    rarest = float(_rare_value(kind, labelled))
    by_part = {} if parts is None else _by_part(parts[values == rarest])
    return LabelCounts(kind, len(labelled), len(values) - len(labelled), named, by_part)


def _by_part(parts: Shaped[np.ndarray, " image"]) -> dict[str, int]:
    return {part: int((parts == part).sum()) for part in PARTS if (parts == part).any()}


def _rare_value(kind: Attribute, labelled: Float[np.ndarray, " image"]) -> float:
    if isinstance(kind, str) or not len(labelled):
        return 1.0
    values, counts = np.unique(labelled, return_counts=True)
    return float(values[counts.argmin()])


def _is_constant(found: LabelCounts) -> bool:
    if isinstance(found.kind, Number):
        return bool(found.values) and found.values["min"] == found.values["max"]
    return sum(count > 0 for count in found.values.values()) < 2


def _only(found: LabelCounts) -> str:
    if isinstance(found.kind, Number):
        return f"{found.values['min']:g}"
    return next((repr(value) for value, count in found.values.items() if count), "empty")


def _label_notes(counts: dict[str, LabelCounts]) -> Iterator[str]:
    for name, found in counts.items():
        if isinstance(found.kind, Number) or _is_constant(found):
            continue
        few = {value: int(count) for value, count in found.values.items() if count < FEW_POSITIVES}
        if few:
            told = ", ".join(f"{value} {count}" for value, count in few.items())
            yield f"{name!r} has values with fewer than {FEW_POSITIVES} images, too few to learn or to measure: {told}"


def _few_numbers(counts: dict[str, LabelCounts], targets: Float[np.ndarray, "image attribute"]) -> Iterator[str]:
    for (name, found), values in zip(counts.items(), targets.T, strict=True):
        different = np.unique(values[~np.isnan(values)])
        if isinstance(found.kind, Number) and 2 < len(different) <= MOST_CLASSES and not (different % 1).any():
            told = ", ".join(f"{value:g}" for value in different)
            yield (
                f"{name!r} is taken for a number and has {len(different)} whole values ({told}): if they are classes "
                f"or levels, say so in the file of --write-config"
            )


def _copies(attributes: Sequence[str], targets: Float[np.ndarray, "image attribute"]) -> Iterator[str]:
    correlation = _correlations(targets)
    for first, second in combinations(range(len(attributes)), 2):
        if abs(correlation[first, second]) >= COPY:
            how = "copy each other" if correlation[first, second] > 0 else "are each other's opposite"
            yield f"{attributes[first]!r} and {attributes[second]!r} {how}: one of them would do"


def _correlations(targets: Float[np.ndarray, "image attribute"]) -> Float[np.ndarray, "attribute attribute"]:
    """Correlate columns over the images that both label; NaN where one of them is constant there."""
    known = ~np.isnan(targets)
    values, weights = np.where(known, targets, 0).astype(float), known.astype(float)
    both = weights.T @ weights
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (values.T @ weights) / both
        square = (values**2).T @ weights / both
        deviation = np.sqrt(np.clip(square - mean**2, 0, None))
        covariance = values.T @ values / both - mean * mean.T
        correlation: np.ndarray = covariance / (deviation * deviation.T)
    return np.where(np.isfinite(correlation), correlation, np.nan)


def _same_bytes(files: Sequence[Path]) -> list[list[int]]:
    sizes = defaultdict(list)
    for index, file in enumerate(files):
        sizes[file.stat().st_size].append(index)
    candidates = [index for indices in sizes.values() if len(indices) > 1 for index in indices]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        digests = pool.map(lambda index: hashlib.sha256(files[index].read_bytes()).digest(), candidates)
    same = defaultdict(list)
    for index, digest in zip(candidates, digests, strict=True):
        same[digest].append(index)
    return [indices for indices in same.values() if len(indices) > 1]


def _shared_pictures(data: TableImages, same: list[list[int]]) -> Iterator[str]:
    if data.parts is None:
        return
    across = [indices for indices in same if len({data.parts[index] for index in indices}) > 1]
    if across:
        yield f"{len(across)} pictures are in two parts, byte for byte: {_few(data, across)}; keep one of each"


def _shared_persons(data: TableImages) -> Iterator[str]:
    if data.parts is None or data.persons is None:
        return
    in_test, known = data.parts == "test", data.persons != ""
    elsewhere = set(data.persons[~in_test & known].tolist())
    shared = np.array([person in elsewhere for person in data.persons[in_test].tolist()])
    if shared.any():
        yield (
            f"{shared.mean():.1%} of the test images show somebody who is in another part as well "
            f"(column {data.plan.person!r}): scores will flatter; have it parted by person, without a line 'split' in "
            f"the file of --write-config"
        )
    train, valid = (set(data.persons[(data.parts == part) & known].tolist()) for part in ("train", "valid"))
    if both := train & valid:
        yield f"{len(both)} of {len(valid)} persons of the validation part are in the training part as well"


def _rarest(data: TableImages, column: int, kind: Attribute) -> list[Path]:
    values = data.targets[:, column].numpy()
    if isinstance(kind, Number):
        return []
    return [data.path(index) for index in np.flatnonzero(values == _rare_value(kind, values[~np.isnan(values)]))[:8]]


def _few(data: TableImages, groups: list[list[int]]) -> str:
    told = [" and ".join(data.files[index] for index in indices) for indices in groups[:_SHOWN]]
    return ", ".join(told) + (f" and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else "")


def _some(files: Sequence[Path]) -> str:
    return ", ".join(map(str, files[:_SHOWN])) + (f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else "")
