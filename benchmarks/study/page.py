"""Turn results/*.jsonl into the page "What each part buys", its figures, and the README's table.

python benchmarks/study/page.py
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import texts
from compare import Difference, holm, paired
from figures import draw_differences, draw_tasks
from ladder_page import around, best_of_ladder, best_of_trained, in_short
from mixed_page import mixed
from parts_page import controls, forms
from recognition_page import recognition
from results import SCORES, SETS, STEPS, Results
from rows import (
    BY_NAME,
    FROM_SCRATCH,
    LEARNING_RATES,
    OURS,
    RARE,
    ROWS,
    TUNED,
    WEIGHT_DECAYS,
    WEIGHTING,
    Plan,
)
from systems_page import side_by_side
from thresholds_page import with_section
from words import marked, percent, plain_title, points, rule_title

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
PAGE = PROJECT / "docs" / "explanation" / "what-each-part-buys.md"
IMAGES = PROJECT / "docs" / "images"
README = PROJECT / "README.md"
IMBALANCE = PROJECT / "docs" / "how-to" / "imbalance.md"
MARKS = ("<!-- by benchmarks/study/page.py, from its results -->", "<!-- end of what it wrote -->")


def main() -> None:
    results = read()
    IMAGES.mkdir(exist_ok=True)
    draw_differences(results["lfwa"], IMAGES)
    draw_tasks(Results.read(HERE / "results" / "tasks.jsonl"), IMAGES)
    PAGE.write_text(page(results), encoding="utf-8")
    IMBALANCE.write_text(with_section(IMBALANCE.read_text(encoding="utf-8")), encoding="utf-8")
    README.write_text(with_table(README.read_text(encoding="utf-8"), results), encoding="utf-8")


def read() -> dict[str, Results]:
    """Read all that there is."""
    names = (*SETS, TUNED.results, FROM_SCRATCH.results)
    return {name: Results.read(HERE / "results" / f"{name}.jsonl") for name in names}


def page(results: Mapping[str, Results]) -> str:
    """Write the page."""
    lfwa = results["lfwa"]
    found = lfwa.comparisons()
    parts = [
        texts.INTRO.format(
            seeds=lfwa.seeds, settings=len(LEARNING_RATES) + len(WEIGHT_DECAYS) - 1, ends=ends_of_range(results)
        ),
        *answer(lfwa, found),
        "## Part by part",
        "",
        "What a part adds to the model without it, in points, with the 95 % interval.",
        "",
        *step_table(results),
        "## On LFWA, row by row",
        "",
        f"![{texts.ALT_DIFFERENCES}](../images/study-lfwa.svg)",
        "",
        texts.COLUMNS,
        *[line for section in dict.fromkeys(row.section for row in ROWS) for line in tables(lfwa, found, section)],
        "## The same on other faces",
        "",
        texts.OTHER_SETS,
        *other_sets(results),
        *shorter(results[TUNED.results], TUNED, "Fine-tuned whole", texts.FINE_TUNED),
        *shorter(results[FROM_SCRATCH.results], FROM_SCRATCH, "From scratch", texts.FROM_SCRATCH),
        *forms(),
        *side_by_side(),
        *recognition(),
        *around(),
        *tasks(Results.read(HERE / "results" / "tasks.jsonl")),
        *mixed(),
        *costs(),
        *literature(results),
        texts.COMMANDS,
    ]
    return "\n".join(parts)


def ends_of_range(results: Mapping[str, Results]) -> str:
    """Say for which rows the search chose the lowest or the highest rate, so that a better one may lie outside."""
    lowest, highest = LEARNING_RATES[0], LEARNING_RATES[-1]
    there = {
        f"*{plain_title(row)}* on {title}"
        for name, title in SETS.items()
        for row in results[name].rows()
        if results[name].learning_rate(row) in {lowest, highest}
    }
    listed = "chosen for\n" + " and\n".join(sorted(there)) if there else "never chosen"
    return f"Rates were tried from {lowest:g} to {highest:g}; an end of this range was {listed}."


def answer(lfwa: Results, found: Mapping[Any, Difference]) -> Iterable[str]:
    """Write in sentences what was found on LFWA."""
    linear = found["linear", OURS, "accuracy"]
    yield f"- **Against one linear layer**, FARAMTN as it comes gains {points(linear)} points of accuracy,"
    yield f"  {points(found['linear', OURS, 'balanced_accuracy'])} of balanced accuracy and"
    yield f"  {points(found['linear', OURS, 'average_precision'])} of average precision."
    plain = [n for n in lfwa.rows() if n != OURS and BY_NAME[n].section != RARE]
    for score in ("accuracy", "balanced_accuracy"):
        best = max(plain, key=lambda name, score=score: lfwa.mean(name, score))
        difference = found[best, OURS, score]
        yield f"- **The best other row in {SCORES[score]}** is *{plain_title(best)}*, with"
        both_means = " % against ".join(percent(lfwa.mean(name, score)) for name in (best, OURS))
        yield f"  {both_means} %: {points(difference)}, {difference.words}."
        if difference.words == "less":
            better = [n for n in plain if found[n, OURS, score].words == "less"]
            yield f"  Rows above FARAMTN beyond the noise: {_listed(better)}."
    hints = [n for n in plain if found[n, OURS, "accuracy"].high < 0 and found[n, OURS, "accuracy"].words != "less"]
    if hints:
        yield f"- **A hint, lost in the correction**: the intervals in accuracy of {_listed(hints)}"
        yield "  leave zero out, in their favour."
    yield "- **Against the usual multi-task heads**, in accuracy, with the parameters of each:"
    own, heads = lfwa.parameters(OURS), ("conv-per-group", "mmoe", "mtan", "ml-decoder")
    for name in heads:
        difference, end = found[name, OURS, "accuracy"], "." if name == heads[-1] else ";"
        sizes = f"{own} against {lfwa.parameters(name)}"
        yield f"  {plain_title(name)} {points(difference)}, {difference.words}, {sizes}{end}"
    both = [n for n in lfwa.rows() if n != OURS and _above_in_both(found, n)]
    if not both:
        yield "- No row is above FARAMTN, beyond the noise, in accuracy and in balanced accuracy."
    yield "- `pos_weight` is another question: it buys balanced accuracy with accuracy, for any model, see"
    yield "  [Rare attributes](#rare-attributes)."
    for _, a, b in STEPS:
        if (a, b) in {
            ("spatial", "spatial-cgff"),
            ("spatial-cgff", OURS),
            ("wsgsa", "spatial"),
            ("linear", "wsgsa"),
            ("one-query", OURS),
            ("no-place", OURS),
        }:
            what = next(text for text, *pair in STEPS if pair == [a, b])
            accuracy, precision = found[a, b, "accuracy"], found[a, b, "average_precision"]
            yield f"- **{what[0].upper() + what[1:]}**: accuracy {points(accuracy)}, {accuracy.words};"
            yield f"  average precision {points(precision)}, {precision.words}."
    yield from in_short()
    yield ""


def _listed(names: Iterable[str]) -> str:
    return " and ".join(f"*{plain_title(name)}*" for name in names)


def _above_in_both(found: Mapping[Any, Difference], name: str) -> bool:
    return all(found[name, OURS, score].words == "less" for score in ("accuracy", "balanced_accuracy"))


def step_table(results: Mapping[str, Results]) -> Iterable[str]:
    """Write what each part adds, on every data set."""
    there = {name: title for name, title in SETS.items() if results[name].runs}
    yield f"| added | score | {' | '.join(there.values())} |"
    yield f"| --- | --- |{' ---: |' * len(there)}"
    found = {name: results[name].comparisons() for name in there}
    for what, a, b in STEPS:
        for score, title in SCORES.items():
            cells = [marked(found[name][a, b, score]) if (a, b, score) in found[name] else "" for name in there]
            yield f"| {what} | {title} | {' | '.join(cells)} |"
    yield ""
    yield "Bold: more or less than nothing after Holm's correction for all comparisons on that data set."
    yield ""


def tables(lfwa: Results, found: Mapping[Any, Difference], section: str) -> Iterable[str]:
    """Write a section of rows with all columns."""
    names = lfwa.rows(section)
    yield f"### {section}"
    yield ""
    if section == WEIGHTING:
        yield texts.WEIGHTING_NOTE
    if OURS not in names:
        names = [*names, OURS]
    yield (
        "| row | accuracy | balanced | AP | calibration error | worst group | spread | parameters "
        "| FARAMTN's accuracy minus this | FARAMTN's balanced accuracy minus this |"
    )
    yield "| --- |" + " ---: |" * 9
    for name in names:
        scores = [percent(lfwa.mean(name, score)) for score in (*SCORES, "calibration_error", "worst_group")]
        cells = [BY_NAME[name].title, *scores, f"{lfwa.mean(name, 'spread'):.3f}", lfwa.parameters(name)]
        cells += ["", ""] if name == OURS else [marked(found[name, OURS, s]) for s in list(SCORES)[:2]]
        yield f"| {' | '.join(cells)} |"
    yield ""


def other_sets(results: Mapping[str, Results]) -> Iterable[str]:
    """Write the rows that were trained everywhere."""
    there = {name: title for name, title in SETS.items() if name != "lfwa" and results[name].runs}
    yield f"| row | {' | '.join(there.values())} |"
    yield f"| --- |{' ---: |' * len(there)}"
    for row in ROWS:
        if row.everywhere:
            cells = [
                " / ".join(percent(results[name].mean(row.name, score)) for score in SCORES)
                if row.name in results[name].runs
                else ""
                for name in there
            ]
            yield f"| {row.title} | {' | '.join(cells)} |"
    yield ""
    for name, title in there.items():
        found, plain = results[name].comparisons(), [n for n in results[name].rows() if BY_NAME[n].section != RARE]
        for score in ("accuracy", "balanced_accuracy"):
            best = max((n for n in plain if n != OURS), key=lambda n, s=score, d=name: results[d].mean(n, s))
            difference = found[best, OURS, score]
            yield f"- {title[0].upper() + title[1:]}, {SCORES[score]}: FARAMTN minus the best other row,"
            yield f"  *{plain_title(best)}*: {points(difference)}, {difference.words}."
    yield ""


def shorter(results: Results, plan: Plan, title: str, text: str) -> Iterable[str]:
    """Write a table of fewer rows, with the trunk trained too."""
    if not results.runs:
        return
    found = results.comparisons()
    yield f"## {title}"
    yield ""
    rates = [f"{rate:g}" for rate in plan.learning_rates]
    yield text.format(seeds=results.seeds, plan=plan, rates=" and ".join([", ".join(rates[:-1]), rates[-1]]))
    yield "| row | accuracy | balanced | AP | parameters | FARAMTN's accuracy minus this | balanced accuracy | AP |"
    yield "| --- |" + " ---: |" * 7
    for name in results.rows():
        scores = [percent(results.mean(name, score)) for score in SCORES]
        cells = [BY_NAME[name].title, *scores, results.parameters(name)]
        cells += [""] * 3 if name == OURS else [marked(found[name, OURS, score]) for score in SCORES]
        yield f"| {' | '.join(cells)} |"
    yield ""


def tasks(results: Results) -> Iterable[str]:
    """Write what the rules do to tasks of different scale and difficulty."""
    yield "## Where convergence is uneven: what DWS is for"
    yield ""
    yield texts.TASKS
    yield f"![{texts.ALT_TASKS}](../images/study-tasks.svg)"
    yield ""
    for optimizer, title in (("sgd", "SGD with momentum"), ("adam", "AdamW")):
        yield f"**{title}**"
        yield ""
        yield (
            "| rule | spread when the first is nearly done | spread in the end "
            "| loss left | loss left of the worst | worst, DWS minus this |"
        )
        yield "| --- | ---: | ---: | ---: | ---: | ---: |"
        names = [name for name in results.runs if name.endswith(optimizer)]
        ours = f"dws, {optimizer}"
        others = [name for name in names if name != ours]
        found = dict(
            zip(
                others,
                holm([paired(results.by_seed(ours, "worst"), results.by_seed(n, "worst")) for n in others]),
                strict=True,
            )
        )
        for name in names:
            cells = [f"{results.mean(name, key):.3f}" for key in ("spread", "spread_in_the_end", "left", "worst")]
            last = "" if name == ours else marked(found[name], scale=1, digits=3)
            yield f"| {rule_title(name)} | {' | '.join(cells)} | {last} |"
        yield ""


def costs() -> Iterable[str]:
    """Write parameters, multiply-adds and times."""
    path = HERE / "results" / "cost.json"
    if not path.exists():
        return
    rows = json.loads(path.read_text(encoding="utf-8"))
    yield "## What each costs"
    yield ""
    yield texts.COSTS
    yield "| row | parameters | multiply-adds an image | step, times one linear layer | quartiles |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name, cost in rows.items():
        ratio = cost["step"]
        yield (
            f"| {BY_NAME[name].title} | {cost['parameters'] / 1e3:,.0f} k | {cost['multiply_adds'] / 1e6:.2f} M "
            f"| {ratio['median']:.2f} | {ratio['low']:.2f} to {ratio['high']:.2f} |"
        )
    yield ""


def literature(results: Mapping[str, Results]) -> Iterable[str]:
    """Write ours beside what papers report, and why they cannot be held against each other."""
    yield "## Beside the literature"
    yield ""
    yield texts.LITERATURE
    yield "| method | LFWA, mean accuracy | what differs |"
    yield "| --- | ---: | --- |"
    for method, accuracy, note in texts.PUBLISHED:
        yield f"| {method} | {accuracy} | {note} |"
    for name, note in (
        ("lfwa", "frozen trunk, 13,143 pictures of 128 pixels, halves of our own"),
        (TUNED.results, "the same at 96 pixels, trained whole for a few epochs on a CPU"),
        (FROM_SCRATCH.results, "a ResNet-50 from random weights, at 64 pixels"),
    ):
        if results[name].runs:
            yield f"| FARAMTN, {results[name].seeds} seeds | {percent(results[name].mean(OURS, 'accuracy'))} | {note} |"
    yield from best_of_ladder()
    yield from best_of_trained()
    yield ""


def with_table(text: str, results: Mapping[str, Results]) -> str:
    """Put the short table between its marks in the README."""
    lfwa = results["lfwa"]
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    names = (
        "linear",
        "conv-per-group",
        "mmoe",
        "mtan",
        "ml-decoder",
        "queries",
        "wsgsa",
        "wsgsa-cgff",
        "spatial",
        "spatial-cgff",
        OURS,
    )
    lines = [
        "",
        "| on LFWA | accuracy | balanced accuracy | average precision | parameters |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in names:
        if name in lfwa.runs:
            scores = " | ".join(percent(lfwa.mean(name, score)) for score in SCORES)
            lines.append(f"| {BY_NAME[name].title} | {scores} | {lfwa.parameters(name)} |")
    for plan, how in (
        (TUNED, "With the trunk trained too"),
        (FROM_SCRATCH, f"With a {FROM_SCRATCH.backbone} from scratch"),
    ):
        whole = results[plan.results]
        difference = whole.comparisons()["linear", OURS, "accuracy"]
        scores = [" / ".join(percent(whole.mean(name, score)) for score in SCORES) for name in ("linear", OURS)]
        lines += [
            "",
            f"{how}, at {plan.size} pixels over {whole.seeds} seeds: one linear layer {scores[0]},",
            f"FARAMTN {scores[1]}; in accuracy {points(difference)}, {difference.words}.",
        ]
    lines += ["", *controls()]
    return before + MARKS[0] + "\n" + "\n".join(lines) + "\n\n" + MARKS[1] + after


if __name__ == "__main__":
    main()
