"""What the page says of everything around the heads."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import texts
from compare import holm, paired
from crops import CROPS, EPOCHS, RATE, SIZE, row_name
from crops import RESULTS as CROP_RESULTS
from finished import Runs
from ladder import HEADS, LEARNING_RATES, RESULTS, STEPS
from results import SCORES, SETS, Results
from trained import RESULTS as TRAINED_RESULTS
from trained import STEPS as TRAINED_STEPS
from words import marked, percent


def around() -> Iterable[str]:
    """Write all that was measured of what surrounds the heads."""
    if lines := [*crops(), *ladder(), *trained()]:
        yield "## Everything around the heads"
        yield ""
        yield texts.AROUND
        yield from lines


def ladder(results: Results | None = None) -> Iterable[str]:
    """Write what each step bought, as far as the ladder was climbed."""
    results = Results.read(RESULTS) if results is None else results
    steps = [step for step in STEPS if all(step.row(head).name in results.runs for head in HEADS)]
    if not steps:
        return
    names = {step.name: [step.row(head).name for head in HEADS] for step in steps}
    yield "### Step by step"
    yield ""
    seeds = sorted({len(results.runs[row]) for pair in names.values() for row in pair})
    told = {"seeds": " or ".join(map(str, seeds)), "rates": ", ".join(f"{rate:g}" for rate in LEARNING_RATES)}
    yield texts.LADDER.format(**told)
    keys = [(step.name, score) for step in steps for score in SCORES]
    differences = holm([_gain(results, *names[step], score) for step, score in keys])
    found = dict(zip(keys, differences, strict=True))
    yield (
        "| step | one linear layer | FARAMTN | FARAMTN minus one linear layer, accuracy | balanced accuracy | AP "
        "| accuracy with mirror images | epochs |"
    )
    yield "| --- |" + " ---: |" * 7
    for step in steps:
        rows = names[step.name]
        cells = [" / ".join(percent(results.mean(row, score)) for score in SCORES) for row in rows]
        cells += [marked(found[step.name, score]) for score in SCORES]
        cells += [" / ".join(percent(_mirrored(results.runs[row])) for row in rows)]
        cells += [" / ".join(str(next(iter(results.runs[row].values()))["epochs"]) for row in rows)]
        yield f"| {step.title} | {' | '.join(cells)} |"
    yield ""


def trained(results: Results | None = None) -> Iterable[str]:
    """Write what the recipe reaches with its trunk trained too, beside one linear layer under the same options."""
    results = Results.read(TRAINED_RESULTS) if results is None else results
    steps = {step.title: [f"{step.name}, {head}" for head in HEADS] for step in TRAINED_STEPS}
    steps = {title: rows for title, rows in steps.items() if all(row in results.runs for row in rows)}
    if not steps:
        return
    yield "### With the trunk trained too"
    yield ""
    yield texts.TRAINED
    yield "| step | one linear layer | FARAMTN | FARAMTN minus one linear layer, accuracy | epochs | seeds | minutes |"
    yield "| --- |" + " ---: |" * 6
    found = dict(zip(steps, holm([_gain(results, *rows, "accuracy") for rows in steps.values()]), strict=True))
    for title, rows in steps.items():
        linear, ours = (results.runs[row] for row in rows)
        cells = [" / ".join(percent(results.mean(row, score)) for score in SCORES) for row in rows]
        cells += [marked(found[title]), str(next(iter(ours.values()))["epochs"]), str(len(linear.keys() & ours.keys()))]
        cells += [" / ".join(f"{fmean(r['seconds'] for r in own.values()) / 60:.0f}" for own in (linear, ours))]
        yield f"| {title} | {' | '.join(cells)} |"
    yield ""


def crops(runs: Sequence[Mapping[str, Any]] | None = None) -> Iterable[str]:
    """Write what each share of the pictures buys on the validation parts."""
    runs = Runs(CROP_RESULTS).done if runs is None else runs
    if not runs:
        return
    yield "### Which share of the pictures"
    yield ""
    yield texts.CROPS.format(size=SIZE, epochs=EPOCHS, rate=RATE)
    yield "| pictures | share kept | one linear layer | FARAMTN | seeds |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for data, shares in CROPS.items():
        rows = {share: [row_name(data, share, head) for head in HEADS] for share in sorted(shares, reverse=True)}
        by_row = {row: {run["seed"] for run in runs if run["row"] == row} for both in rows.values() for row in both}
        seeds = set.intersection(*by_row.values())  # those that all shares have
        for share, both in rows.items() if seeds else ():
            found = [[run for run in runs if run["row"] == row and run["seed"] in seeds] for row in both]
            cells = [" / ".join(percent(fmean(r[score] for r in own)) for score in SCORES) for own in found]
            yield f"| {SETS[data]} | {share:g} | {' | '.join(cells)} | {len(seeds)} |"
    yield ""


def _gain(results: Results, linear: str, ours: str, score: str) -> Any:
    return paired(results.by_seed(ours, score), results.by_seed(linear, score))


def _mirrored(runs: Mapping[int, Mapping[str, Any]]) -> float:
    return fmean(record["mirrored"]["accuracy"] for record in runs.values())
