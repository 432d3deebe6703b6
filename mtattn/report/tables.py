"""HTML tables. Every text that comes in is escaped here."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, SupportsFloat

from mtattn.ablation import Effect
from mtattn.groups import AttributeGroups
from mtattn.report.numbers import MINUS, UNDEFINED, Scores, gain, number, percent, points

Row = tuple[Sequence[str], Sequence[tuple[float, str]]]
_SCORE_COLUMNS = ("accuracy", "majority baseline", "gain, points", "balanced accuracy", "F1", "average precision")


def attribute_table(metrics: Mapping[str, Any], groups: AttributeGroups) -> str:
    """Show all scores of each attribute."""
    rows = metrics["attributes"]
    entries = [((name, group), _scores(rows[name])) for group, members in groups.items() for name in members]
    return _table("Scores of each attribute on the test split", ("attribute", "group"), _SCORE_COLUMNS, entries)


def group_table(metrics: Mapping[str, Any], groups: AttributeGroups) -> str:
    """Show the mean scores of each group."""
    rows = metrics["groups"]
    entries = [((name,), [(float(len(groups[name])), str(len(groups[name]))), *_scores(rows[name])]) for name in groups]
    columns = ("attributes", *_SCORE_COLUMNS)
    return _table("Mean scores of each group on the test split", ("group",), columns, entries)


def split_table(metrics: Mapping[str, Any]) -> str:
    """Show the mean scores of each split that was evaluated."""
    entries = [((split,), _scores(_as_row(metrics[split]))) for split in ("test", "valid") if metrics.get(split)]
    return _table("Mean scores of each split", ("split",), _SCORE_COLUMNS, entries)


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
    splits = (("one half", test), (f"thresholds for {decisions['goal'].replace('_', ' ')}", decisions["test"]))
    rows = [((label,), [(number(split[key]), percent(split[key])) for key in names]) for label, split in splits]
    return _table("Mean scores on the test split by where yes begins", ("yes above",), tuple(names.values()), rows)


def breakable(name: str) -> str:
    """Escape a name and let its line break after underscores."""
    return escape(name).replace("_", "_<wbr>")


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
