"""HTML tables. Every text that comes in is escaped here."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, SupportsFloat

from mtattn.ablation import Effect
from mtattn.groups import Attribute, AttributeGroups
from mtattn.report.numbers import MINUS, UNDEFINED, Scores, gain, number, percent, points
from mtattn.report.sentences import breakable, goal_in_words

Row = tuple[Sequence[str], Sequence[tuple[float, str]]]
_SCORE_COLUMNS = ("accuracy", "majority baseline", "gain, points", "balanced accuracy", "F1", "average precision")

_KEYS = {
    "categorical": ("accuracy", "majority_accuracy", "gain", "balanced_accuracy", "macro_f1", "skill"),
    "ordinal": (
        "accuracy",
        "majority_accuracy",
        "gain",
        "within_one",
        "mean_absolute_error",
        "median_error",
        "skill",
    ),
    "number": ("mean_absolute_error", "median_error", "within", "r_squared", "skill"),
}
_OF_KIND = {
    "binary": ("Scores of each attribute", _SCORE_COLUMNS),
    "categorical": (
        "Attributes that are one of several classes",
        ("accuracy", "majority baseline", "gain, points", "balanced accuracy", "macro F1", "skill"),
    ),
    "ordinal": (
        "Attributes with levels",
        (
            "accuracy",
            "majority baseline",
            "gain, points",
            "within one level",
            "mean error, levels",
            "error of the median",
            "skill",
        ),
    ),
    "number": (
        "Attributes that are numbers, errors in their unit",
        ("mean error", "error of the median", "within the stated distance", "R squared", "skill"),
    ),
}


def attribute_table(metrics: Mapping[str, Any], groups: AttributeGroups) -> str:
    """Show all scores of each attribute, a table for each kind of them."""
    rows, counts = metrics["attributes"], metrics.get("labels", {})
    kinds = dict(zip(groups.attributes, map(_kind, groups.kinds), strict=True))
    alone = all(size == 1 for size in groups.sizes)  # then a group tells no more than its attribute
    tables = []
    for kind, (title, columns) in _OF_KIND.items():
        found = [(name, group) for group, members in groups.items() for name in members if kinds[name] == kind]
        if not found:
            continue
        counted = [name for name in ("labels", "positives") if any(name in counts.get(row, {}) for row, _ in found)]
        entries = [
            (
                (name,) if alone else (name, group),
                [*_counts(counts.get(name, {}), counted), *_of_kind(kind, rows[name])],
            )
            for name, group in found
        ]
        heads = ("attribute",) if alone else ("attribute", "group")
        tables.append(_table(f"{title} on the test split", heads, (*counted, *columns), entries))
    return "".join(tables)


def group_table(metrics: Mapping[str, Any], groups: AttributeGroups) -> str:
    """Show the mean scores of each group; nothing where each holds one attribute."""
    if all(size == 1 for size in groups.sizes):
        return ""
    rows, mixed = metrics["groups"], "mean_skill" in metrics
    columns = ("attributes", *(("mean skill",) if mixed else _SCORE_COLUMNS))
    entries = [
        ((name,), [_whole(len(groups[name])), *([_share(rows[name], "skill")] if mixed else _scores(rows[name]))])
        for name in groups
    ]
    return _table("Mean scores of each group on the test split", ("group",), columns, entries)


def split_table(metrics: Mapping[str, Any]) -> str:
    """Show the mean scores of each split that was evaluated, and the intervals of those of the test split."""
    splits = [split for split in ("test", "valid") if metrics.get(split)]
    if "mean_skill" in metrics["test"]:
        keys = [key for key in metrics["test"] if key.startswith("mean_")]
        entries: list[Row] = [((split,), [_share(metrics[split], key) for key in keys]) for split in splits]
        table = _table("Mean scores of each split", ("split",), [_named(key) for key in keys], entries)
    else:
        entries = [((split,), _scores(_as_row(metrics[split]))) for split in splits]
        table = _table("Mean scores of each split", ("split",), _SCORE_COLUMNS, entries)
    return table + _interval_table(metrics["test"].get("intervals", {}))


def _interval_table(intervals: Mapping[str, Any]) -> str:
    entries = [((_named(key),), [_ends(key, ends[0]), _ends(key, ends[1])]) for key, ends in intervals.items()]
    title = "95 % intervals of the mean scores on the test split, had its images been others"
    return _table(title, ("score",), ("from", "to"), entries) if entries else ""


def _ends(key: str, value: SupportsFloat | None) -> tuple[float, str]:
    return number(value), points(number(value), 2) if key == "gain" else percent(value, 2)


def _named(key: str) -> str:
    return "gain, points" if key == "gain" else key.removeprefix("mean_").replace("_", " ").replace("f1", "F1")


def _kind(kind: Attribute) -> str:
    return "binary" if isinstance(kind, str) else type(kind).__name__.lower()


def _of_kind(kind: str, row: Scores) -> list[tuple[float, str]]:
    if kind == "binary":
        return _scores(row)
    cells = []
    for key in _KEYS[kind]:
        if key == "gain":
            cells.append((gain(row), points(gain(row))))
        elif key in {"mean_absolute_error", "median_error"}:
            cells.append(_figure(row[key], ".2f"))
        else:
            cells.append(_share(row, key))
    return cells


def _counts(counts: Mapping[str, int], names: Sequence[str]) -> list[tuple[float, str]]:
    return [_whole(counts[name]) if name in counts else (math.nan, UNDEFINED) for name in names]


def _whole(count: int) -> tuple[float, str]:
    return float(count), f"{count:,}"


def _share(row: Mapping[str, Any], key: str) -> tuple[float, str]:
    value = number(row.get(key))
    return value, percent(value)


def epoch_table(history: Sequence[Mapping[str, Any]]) -> str:
    """Show what was measured in each epoch."""
    columns = (
        "learning rate",
        "training loss, nats",
        "validation loss, nats",
        "validation accuracy",
        "validation balanced accuracy",
        "validation average precision",
        "images a second",
        "seconds",
    )
    return _table("Each epoch of the training", ("epoch",), columns, map(_epoch, history))


def ablation_table(effects: Sequence[Effect]) -> str:
    """Show by how much the mean score changes with each ablation, and the attribute that loses most."""
    columns = ("change of the mean score, points", "95 % from", "to", "change of the attribute that loses most")
    entries = []
    for effect in effects:
        name, most = min(effect.attributes.items(), key=lambda item: number(item[1].value))
        changes = [*effect.mean, most.value]
        entries.append(((effect.part, effect.by, name), [(change, points(change)) for change in changes]))
    return _table("Each ablation on the test split", ("part", "replaced by", "loses most"), columns, entries)


def settings_table(caption: str, settings: Mapping[str, Any]) -> str:
    """Show names and values as they stand."""
    rows = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th><td class="text">{escape(_as_text(value))}</td></tr>'
        for name, value in settings.items()
    )
    head = '<thead><tr><th scope="col">name</th><th scope="col">value</th></tr></thead>'
    return _scrolling(
        caption, f'<table class="plain"><caption>{escape(caption)}</caption>{head}<tbody>{rows}</tbody></table>'
    )


def label_table(counts: Mapping[str, Any]) -> str:
    """Show how often each value of each attribute of a table is labelled."""
    rows = [
        (
            (name, ", ".join(f"{value} {count:g}" for value, count in found.values.items())),
            [(float(found.labels), f"{found.labels:,}"), (float(found.missing), f"{found.missing:,}")],
        )
        for name, found in counts.items()
    ]
    return _table("Labels of each attribute", ("attribute", "values"), ("labels", "unknown"), rows)


def threshold_table(decisions: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    """Show mean scores of the test split at one half and with the thresholds chosen."""
    names = {"mean_accuracy": "accuracy", "mean_balanced_accuracy": "balanced accuracy", "mean_f1": "F1"}
    if "answered" in decisions["test"]:  # earlier runs have none
        names |= {"mean_precision": "precision", "mean_recall": "recall", "answered": "answered"}
    splits = (
        ("one half", decisions.get("one_half", test)),
        (f"thresholds for {goal_in_words(decisions['goal'])}", decisions["test"]),
    )
    rows = [((label,), [_share(split, key) for key in names]) for label, split in splits]
    return _table("Mean scores on the test split by where yes begins", ("yes above",), tuple(names.values()), rows)


def slice_table(column: str, found: Mapping[str, Any]) -> str:
    """Show the mean scores of each value of a column, with their intervals."""
    rows = found["values"]
    keys = [key for key in next(iter(rows.values())) if key.startswith("mean_")]
    entries = [
        ((value,), [_whole(row["images"]), *(_with_interval(row, key) for key in keys)]) for value, row in rows.items()
    ]
    names = ("images", *map(_named, keys))
    return _table(f"Mean scores on the test split by {column}, with 95 % intervals", (column,), names, entries)


def _with_interval(row: Mapping[str, Any], key: str) -> tuple[float, str]:
    value, text = _share(row, key)
    low, high = (100 * number(end) for end in row["intervals"][key])
    return value, text if math.isnan(value) or math.isnan(low) else f"{text} ({low:.1f} to {high:.1f})"


def _table(caption: str, names: Sequence[str], columns: Sequence[str], entries: Iterable[Row]) -> str:
    kinds = [""] * len(names) + [" class=number"] * len(columns)
    head = "".join(
        f'<th scope="col"{kind}><button type="button">{escape(column)}</button></th>'
        for kind, column in zip(kinds, (*names, *columns), strict=True)
    )
    body = "".join(f"<tr>{_names(texts)}{_cells(cells)}</tr>" for texts, cells in entries)
    caption_row = f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
    return _scrolling(caption, f'<table class="sortable">{caption_row}<tbody>{body}</tbody></table>')


def _scrolling(caption: str, table: str) -> str:
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">{table}</div>'


def _names(texts: Sequence[str]) -> str:
    first, *others = map(breakable, texts)
    return f'<th scope="row">{first}</th>' + "".join(f'<td class="text">{other}</td>' for other in others)


def _cells(cells: Sequence[tuple[float, str]]) -> str:
    return "".join(
        f"<td{_sort_key(value)}{' class=worse' if text.startswith(MINUS) else ''}>{escape(text)}</td>"
        for value, text in cells
    )


def _sort_key(value: float) -> str:
    return "" if math.isnan(value) else f' data-value="{value:.9g}"'


def _scores(row: Scores) -> list[tuple[float, str]]:
    gained = gain(row)
    shares = [number(row[score]) for score in ("balanced_accuracy", "f1", "average_precision")]
    return [
        *((number(row[score]), percent(row[score])) for score in ("accuracy", "majority_accuracy")),
        (gained, points(gained)),
        *((share, percent(share)) for share in shares),
    ]


def _as_row(split: Mapping[str, Any]) -> dict[str, SupportsFloat | None]:
    scores = ("accuracy", "balanced_accuracy", "f1", "average_precision")
    return {**{score: split[f"mean_{score}"] for score in scores}, "majority_accuracy": split["majority_accuracy"]}


def _epoch(epoch: Mapping[str, Any]) -> Row:
    valid = epoch.get("valid") or {}
    cells = [_figure(epoch.get("learning_rate"), ".2e"), _figure(epoch.get("train_loss"), ".4f")]
    cells.append(_figure(valid.get("loss"), ".4f"))
    shares = [valid.get(f"mean_{score}") for score in ("accuracy", "balanced_accuracy", "average_precision")]
    cells += [(number(share), percent(share, 2)) for share in shares]
    cells += [_figure(epoch.get("images_per_second"), ",.0f"), _figure(epoch.get("seconds"), ".1f")]
    return (str(epoch["epoch"]),), cells


def _figure(value: SupportsFloat | None, form: str) -> tuple[float, str]:
    return number(value), UNDEFINED if math.isnan(number(value)) else format(number(value), form)


def _as_text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_as_text(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_as_text, value))
    return UNDEFINED if value is None else str(value)
