"""metrics.json and metrics.csv, written whole or not at all."""

import csv
import json
import math
import os
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from mtattn._files import write_whole
from mtattn.groups import AttributeGroups
from mtattn.report.kinds import is_mixed
from mtattn.report.numbers import Scores, number

ATTRIBUTE_SCORES = ("accuracy", "balanced_accuracy", "f1", "average_precision", "majority_accuracy")


def write_metrics(folder: str | os.PathLike[str], metrics: Mapping[str, Any], groups: AttributeGroups) -> None:
    """Write ``metrics.json``, and ``metrics.csv`` with one row an attribute of the test split.

    What is undefined (NaN or infinite) becomes null in the one and an empty cell in the other.

    Args:
        folder: Where to write; made if it does not exist.
        metrics: ``{"test": ..., "valid": ..., "settings": ..., "versions": ...}``, the splits as
            :meth:`mtattn.metrics.AttributeMetrics.compute` returns them. Keys keep their order.
        groups: The group of each attribute.

    Example:
        >>> import tempfile
        >>> folder, groups = Path(tempfile.mkdtemp()), AttributeGroups({"mouth": ["Smiling"]})
        >>> scores = dict.fromkeys(ATTRIBUTE_SCORES, 0.9)
        >>> write_metrics(folder, {"test": {"attributes": {"Smiling": scores}}}, groups)
        >>> sorted(file.name for file in folder.iterdir())
        ['metrics.csv', 'metrics.json']
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_without_nan(metrics), indent=2, ensure_ascii=False, allow_nan=False, default=str)
    write_whole(folder / "metrics.json", text + "\n")
    write_whole(folder / "metrics.csv", _as_csv(metrics["test"]["attributes"], groups))


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_csv(attributes: Mapping[str, Scores], groups: AttributeGroups) -> str:
    mixed = is_mixed(groups)
    scores = (
        list(dict.fromkeys(score for row in attributes.values() for score in row)) if mixed else list(ATTRIBUTE_SCORES)
    )
    lines = StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["group", "attribute", *(["kind"] * mixed), *scores])
    for attribute, kind, place in zip(groups.attributes, groups.kinds, groups.group_of, strict=True):
        values = [number(attributes[attribute].get(score)) for score in scores]
        names = [_no_formula(name) for name in (list(groups)[place], attribute)]
        kinds = ["binary" if isinstance(kind, str) else type(kind).__name__.lower()] * mixed
        writer.writerow([*names, *kinds, *("" if math.isnan(value) else value for value in values)])
    return lines.getvalue()


def _no_formula(name: str) -> str:
    """Put a quotation mark before what a spreadsheet would compute."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
