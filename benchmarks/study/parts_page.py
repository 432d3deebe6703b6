"""What the page says of each part against simpler and other forms of it."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import texts
from finished import Runs
from parts import CONTROLS, CROPS, FORMS, NUM_PLANTED, PLANTED, RESULTS, SIZE, row_of
from results import SCORES, SETS, Results
from rows import OURS
from words import marked, percent

TITLES = SETS | {"peta": "PETA, split by person", PLANTED: "planted relations"}
README_SETS, SCORE = ("lfwa", "celeba", "peta", PLANTED), "balanced_accuracy"


def forms(runs: Sequence[Mapping[str, Any]] | None = None) -> Iterable[str]:
    """Write a table for each data set and split that has results of FARAMTN and of another form."""
    runs = Runs(RESULTS).done if runs is None else runs
    tables = [line for data in (*CROPS, PLANTED) for split in ("test", "valid") for line in table(runs, data, split)]
    if tables:
        yield "## Each part against simpler and other forms of it"
        yield ""
        yield texts.PARTS.format(planted=NUM_PLANTED["train"])
        yield from tables


def table(runs: Sequence[Mapping[str, Any]], data: str, split: str) -> Iterable[str]:
    """Write how each form differs from FARAMTN on a data set, paired over seeds and corrected together."""
    found = _found(runs, data, split)
    if OURS not in found.runs or len(found.runs) == 1:
        return
    less = found.against_ours()
    yield f"### {TITLES[data][0].upper() + TITLES[data][1:]}, {'test' if split == 'test' else 'validation'} part"
    yield ""
    yield (
        "| what | form | accuracy / balanced / AP | minus FARAMTN, accuracy | balanced accuracy | AP "
        "| differs between groups | parameters | seeds |"
    )
    yield "| --- | --- |" + " ---: |" * 7
    for form, own in found.runs.items():
        section, title, _ = FORMS[form]
        means = " / ".join(percent(found.mean(form, score)) for score in SCORES)
        gaps = [""] * 3 if form == OURS else [marked(less[OURS, form, score]) for score in SCORES]
        told = [record["differing"] for record in own.values() if record["differing"] is not None]
        share = f"{100 * fmean(told):.1f} %" if told else ""
        parameters = found.parameters(form)
        yield f"| {section} | {title} | {means} | {' | '.join(gaps)} | {share} | {parameters} | {len(own)} |"
    yield ""


def controls(runs: Sequence[Mapping[str, Any]] | None = None) -> Iterable[str]:
    """Write the README's table: balanced accuracy of each form minus that of FARAMTN, on real data and planted."""
    runs = Runs(RESULTS).done if runs is None else runs
    found = {data: _found(runs, data, "test") for data in README_SETS}
    less = {data: own.against_ours() for data, own in found.items()}
    yield texts.CONTROLS.format(seeds=min(len(own.runs[OURS]) for own in found.values()), size=SIZE)
    yield "| in place of FARAMTN's part | " + " | ".join(TITLES[data] for data in README_SETS) + " |"
    yield "| --- |" + " ---: |" * len(README_SETS)
    for form in CONTROLS[1:]:
        cells = [marked(less[data][OURS, form, SCORE]) if form in found[data].runs else "" for data in README_SETS]
        yield f"| {FORMS[form][1]} | {' | '.join(cells)} |"


def _found(runs: Sequence[Mapping[str, Any]], data: str, split: str) -> Results:
    return Results.of(runs, {row_of(data, form).name: form for form in FORMS}, split=split)
