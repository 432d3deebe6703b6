"""What the page says of everything around the heads."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import texts
from compare import Difference, holm, paired
from crops import CROPS, EPOCHS, RATE, SIZE, row_name
from crops import RESULTS as CROP_RESULTS
from finished import Runs
from ladder import FACTOR, HEADS, LEARNING_RATES, RESULTS, STEPS, Step
from results import SCORES, SETS, Results
from trained import RESULTS as TRAINED_RESULTS
from trained import STEPS as TRAINED_STEPS
from words import marked, percent, points

TITLES = ("one linear layer", "FARAMTN")  # of the heads


def around() -> Iterable[str]:
    """Write all that was measured of what surrounds the heads."""
    if lines := [*crops(), *ladder(), *trained()]:
        yield "## Everything around the heads"
        yield ""
        yield texts.AROUND
        yield from lines


def ladder(runs: Sequence[Mapping[str, Any]] | None = None) -> Iterable[str]:
    """Write what each step bought, as far as the ladder was climbed."""
    runs = Runs(RESULTS).done if runs is None else runs
    results, steps = Results.of(runs), climbed(runs)
    if not steps:
        return
    names = _rows(steps)
    yield "### Step by step"
    yield ""
    seeds = sorted({len(results.runs[row]) for pair in names.values() for row in pair})
    rates = ", ".join(f"{rate:g}" for rate in LEARNING_RATES)
    yield texts.LADDER.format(seeds=" or ".join(map(str, seeds)), rates=rates, factor=FACTOR)
    found = _compared(results, names)
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
    yield from _what_remains(steps[0], best_step(runs), found)
    yield from _mirror_images(results, names)
    if missing := [step.title for step in STEPS if step not in steps]:
        yield f"Not run yet: *{'*; *'.join(missing)}*."
        yield ""


def best_of_ladder(runs: Sequence[Mapping[str, Any]] | None = None) -> Iterable[str]:
    """Write rows for the literature's table: both heads in the step that was best on the validation part."""
    runs = Runs(RESULTS).done if runs is None else runs
    if not climbed(runs):
        return
    results, step = Results.of(runs), best_step(runs)
    for head, title in zip(HEADS, TITLES, strict=True):
        row = step.row(head).name
        accuracy, seeds = percent(results.mean(row, "accuracy")), len(results.runs[row])
        yield f"| {title}, {seeds} seeds | {accuracy} | the frozen trunk again, in [the best step](#step-by-step) |"


def best_of_trained(results: Results | None = None) -> Iterable[str]:
    """Write rows for the literature's table: the recipe in the setting that was best on the validation part."""
    results = Results.read(TRAINED_RESULTS) if results is None else results
    own = {step: results.runs.get(f"{step.name}, {HEADS[1]}", {}) for step in TRAINED_STEPS}
    if not any(own.values()):
        return
    best = max(own, key=lambda step: _valid_accuracy(own[step]) if own[step] else 0)
    for head, title in zip(HEADS, TITLES, strict=True):
        if runs := results.runs.get(f"{best.name}, {head}"):
            accuracy = percent(results.mean(f"{best.name}, {head}", "accuracy"))
            program = " ".join([*best.options, f"--epochs {best.epochs}"])
            start = "random" if best.from_scratch else "ImageNet"
            what = f"as `examples/lfwa.py {program}` trains, from {start} weights"
            if best.teachers:
                teacher = next(step for step in TRAINED_STEPS if step.name == best.teachers)
                options = " ".join([*teacher.options, f"--epochs {teacher.epochs}"])
                what += f", with the runs of {'the same' if options == program else f'`{options}`'} as teachers"
            yield f"| {title}, {len(runs)} seeds | {accuracy} | {what} |"


def climbed(runs: Sequence[Mapping[str, Any]]) -> list[Step]:
    """List the steps in which both heads were scored on the test half."""
    rows = {run["row"] for run in runs if run["split"] == "test"}
    return [step for step in STEPS if all(step.row(head).name in rows for head in HEADS)]


def best_step(runs: Sequence[Mapping[str, Any]]) -> Step:
    """Give the step in which FARAMTN was best on the validation part."""

    def valid(step: Step) -> float:
        own = [run for run in runs if run["row"] == step.row(HEADS[1]).name and run["split"] == "valid"]
        return max(run["accuracy"] + run["balanced_accuracy"] for run in own)

    return max(climbed(runs), key=valid)


def _what_remains(first: Step, best: Step, found: Mapping[tuple[str, str], Difference]) -> Iterable[str]:
    """Say what FARAMTN gains where everything around it is as it comes, and where it is good."""
    if first == best:
        return
    yield (
        f"**What remains of FARAMTN's gain over one linear layer.** From the first row to *{best.title}*, "
        "the one in which FARAMTN is best on the validation part:"
    )
    yield ""
    for score, title in SCORES.items():
        before, after = found[first.name, score], found[best.name, score]
        yield f"- {title}: {points(before)}, {before.words}; then {points(after)}, {after.words}."
    yield ""


def _mirror_images(results: Results, names: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """Say what the mean of an image and its mirror image gains, from the least to the most of all runs."""
    told = []
    for place, title in enumerate(TITLES):
        records = [record for pair in names.values() for record in results.runs[pair[place]].values()]
        ends = []
        for score, name in SCORES.items():
            gains = [100 * (record["mirrored"][score] - record[score]) for record in records]
            ends.append(f"{fmean(gains):+.2f} points of {name} ({min(gains):+.2f} to {max(gains):+.2f})")
        told.append(f"{title} gains {', '.join(ends)}")
    yield (
        f"**Mirror images.** In the mean over all these runs, and from the least to the most, {'; '.join(told)}. "
        "It takes twice the time: [`--mirror`](../how-to/predict-a-folder.md#mirror-images)."
    )
    yield ""


def trained(results: Results | None = None) -> Iterable[str]:
    """Write what the recipe reaches with its trunk trained too, beside one linear layer under the same options."""
    results = Results.read(TRAINED_RESULTS) if results is None else results
    steps = _with_both_heads(results)
    if not steps:
        return
    yield "### With the trunk trained too"
    yield ""
    yield texts.TRAINED
    yield (
        "| step | one linear layer | FARAMTN | FARAMTN minus one linear layer, accuracy | balanced accuracy | AP "
        "| epochs | seeds |"
    )
    yield "| --- |" + " ---: |" * 7
    found = _compared(results, steps)
    for title, rows in steps.items():
        linear, ours = (results.runs[row] for row in rows)
        cells = [" / ".join(percent(results.mean(row, score)) for score in SCORES) for row in rows]
        cells += [marked(found[title, score]) for score in SCORES]
        cells += [str(next(iter(ours.values()))["epochs"]), str(len(linear.keys() & ours.keys()))]
        yield f"| {title} | {' | '.join(cells)} |"
    yield ""
    for step in TRAINED_STEPS:
        row = f"{step.name}, {HEADS[1]}"
        if step.title not in steps and row in results.runs:
            scores = " / ".join(percent(results.mean(row, score)) for score in SCORES)
            yield f"FARAMTN alone, {len(results.runs[row])} seeds, *{step.title}*: {scores}."
            yield ""
    if all(difference.words == "no difference" for difference in found.values()):
        yield "No difference of the table is told from noise by so few seeds."
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


def in_short(runs: Sequence[Mapping[str, Any]] | None = None, results: Results | None = None) -> Iterable[str]:
    """Say in the page's answer what FARAMTN gains where everything around the heads is as good as we could make it."""
    runs = Runs(RESULTS).done if runs is None else runs
    results = Results.read(TRAINED_RESULTS) if results is None else results
    if steps := climbed(runs):
        names = _rows(steps)
        where = "in [the best step of a frozen trunk](#step-by-step)"
        yield from _in_words(where, _compared(Results.of(runs), names), best_step(runs).name)
    if own := _with_both_heads(results):
        best = max(own, key=lambda title: _valid_accuracy(results.runs[own[title][1]]))
        where = f"[with the trunk trained too](#with-the-trunk-trained-too), {best}"
        yield from _in_words(where, _compared(results, own), best)


def _in_words(where: str, found: Mapping[tuple[str, str], Difference], step: str) -> Iterable[str]:
    differences = [(title, found[step, score]) for score, title in SCORES.items()]
    yield f"- **FARAMTN against one linear layer** {where}:"
    yield f"  {'; '.join(f'{title} {points(difference)}, {difference.words}' for title, difference in differences)}."


def _rows(steps: Sequence[Step]) -> dict[str, list[str]]:
    """List the rows of both heads in each step of a frozen trunk, by name."""
    return {step.name: [step.row(head).name for head in HEADS] for step in steps}


def _with_both_heads(results: Results) -> dict[str, list[str]]:
    """List the rows of the steps with the trunk trained too in which both heads were run, by title."""
    steps = {step.title: [f"{step.name}, {head}" for head in HEADS] for step in TRAINED_STEPS}
    return {title: rows for title, rows in steps.items() if all(row in results.runs for row in rows)}


def _valid_accuracy(runs: Mapping[int, Mapping[str, Any]]) -> float:
    return fmean(run["valid"]["accuracy"] for run in runs.values())


def _compared(results: Results, steps: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], Difference]:
    """Take one linear layer from FARAMTN in each step and score, and correct for all of them."""
    keys = [(step, score) for step in steps for score in SCORES]
    gains = [paired(*(results.by_seed(row, score) for row in reversed(steps[step]))) for step, score in keys]
    return dict(zip(keys, holm(gains), strict=True))


def _mirrored(runs: Mapping[int, Mapping[str, Any]]) -> float:
    return fmean(record["mirrored"]["accuracy"] for record in runs.values())
