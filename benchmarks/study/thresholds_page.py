"""What the page on rare attributes says of thresholds, between its marks."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from compare import holm, paired
from finished import Runs
from thresholds import GOALS, RESULTS, SETTINGS, SIZE
from words import marked, percent

TITLES = {"peta": "PETA, by person", "lfwa": "LFWA", "celeba": "our part of CelebA"}
MARKS = ("<!-- by benchmarks/study/page.py, from its results -->", "<!-- end of what it wrote -->")
SCORES = ("f1", "balanced_accuracy", "accuracy", "calibration_error")
INTRO = (
    "FARAMTN's head on the map of a frozen trunk ({size} pixels, {epochs} epochs), thresholds and temperatures chosen "
    "on the validation part, scored on the test part; means over {seeds} seeds in %, and the difference to one half, "
    "paired over the seeds, in points with the 95 % interval. Bold: more or less than nothing after Holm's correction."
)
PRECISION = (
    "For `precision=0.9`, over the attributes for which the validation part has a threshold that reaches it; chosen "
    "and measured on different images, the precision can end a little below what was asked for:"
)


def with_section(text: str, runs: Sequence[Mapping[str, Any]] | None = None) -> str:
    """Put what was measured between the marks of the page."""
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return (
        before + MARKS[0] + "\n\n" + "\n".join(section(Runs(RESULTS).done if runs is None else runs)) + MARKS[1] + after
    )


def section(runs: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Write the two tables."""
    by_data = {data: [run for run in runs if run["row"] == data] for data in TITLES}
    by_data = {data: own for data, own in by_data.items() if len(own) > 1}
    if not by_data:
        return
    seeds = sorted({len(own) for own in by_data.values()})
    yield INTRO.format(size=SIZE, epochs=SETTINGS.epochs, seeds=" or ".join(map(str, seeds)))
    yield ""
    yield "| pictures | thresholds for | F1 | balanced accuracy | accuracy | calibration error |"
    yield "| --- | --- | ---: | ---: | ---: | ---: |"
    keys = [(data, goal, score) for data in by_data for goal in GOALS[:2] for score in SCORES]
    found = dict(zip(keys, holm([_gain(by_data[data], goal, score) for data, goal, score in keys]), strict=True))
    for data, own in by_data.items():
        half = [percent(fmean(run["goals"][GOALS[0]]["before"][score] for run in own)) for score in SCORES]
        yield f"| {TITLES[data]} | one half | {' | '.join(half)} |"
        for goal in GOALS[:2]:
            after = [percent(fmean(run["goals"][goal]["after"][score] for run in own)) for score in SCORES]
            cells = [f"{mean}, {marked(found[data, goal, s])}" for mean, s in zip(after, SCORES, strict=True)]
            yield f"| | `{goal}` | {' | '.join(cells)} |"
    yield ""
    yield PRECISION
    yield ""
    yield "| pictures | attributes that reach it | precision at one half | with | recall at one half | with |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for data, own in by_data.items():
        records = [run["goals"][GOALS[2]] for run in own]
        reached = fmean(record["chosen"] / (record["chosen"] + record["kept"]) for record in records)
        means = [
            percent(fmean(record["of_chosen"][score][place] for record in records))
            for score in ("precision", "recall")
            for place in (0, 1)
        ]
        yield f"| {TITLES[data]} | {100 * reached:.0f} % | {' | '.join(means)} |"
    yield ""
    yield "The command: `python benchmarks/study/thresholds.py peta --root path/to/peta --weights ...`."
    yield ""


def _gain(runs: Sequence[Mapping[str, Any]], goal: str, score: str) -> Any:
    before, after = ({run["seed"]: run["goals"][goal][when][score] for run in runs} for when in ("before", "after"))
    return paired(after, before)
