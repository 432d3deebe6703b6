"""What the page says of each part against simpler and other forms of it."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import texts
from compare import Difference, holm, paired
from finished import Runs
from parts import CONTROLS, CROPS, FORMS, NUM_PLANTED, PLANTED, RESULTS, SIZE, row_of
from results import SCORES, SETS
from rows import OURS
from words import marked, percent

TITLES = SETS | {"peta": "PETA, split by person", PLANTED: "planted relations"}
README_SETS, SCORE = ("lfwa", "celeba", "peta", PLANTED), "balanced_accuracy"
Found = Mapping[str, Mapping[int, Mapping[str, Any]]]  # form, seed, scores


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
    if OURS not in found or len(found) == 1:
        return
    less = _less(found)
    yield f"### {TITLES[data][0].upper() + TITLES[data][1:]}, {'test' if split == 'test' else 'validation'} part"
    yield ""
    yield (
        "| what | form | accuracy / balanced / AP | minus FARAMTN, accuracy | balanced accuracy | AP "
        "| differs between groups | parameters | seeds |"
    )
    yield "| --- | --- |" + " ---: |" * 7
    for form, own in found.items():
        section, title, _ = FORMS[form]
        means = " / ".join(percent(fmean(_scores(found, form, score).values())) for score in SCORES)
        gaps = [""] * 3 if form == OURS else [marked(less[form, score]) for score in SCORES]
        told = [record["differing"] for record in own.values() if record["differing"] is not None]
        share = f"{100 * fmean(told):.1f} %" if told else ""
        parameters = f"{next(iter(own.values()))['parameters'] / 1e3:,.0f} k"
        yield f"| {section} | {title} | {means} | {' | '.join(gaps)} | {share} | {parameters} | {len(own)} |"
    yield ""


def controls(runs: Sequence[Mapping[str, Any]] | None = None) -> Iterable[str]:
    """Write the README's table: balanced accuracy of each form minus that of FARAMTN, on real data and planted."""
    runs = Runs(RESULTS).done if runs is None else runs
    found = {data: _found(runs, data, "test") for data in README_SETS}
    less = {data: _less(own) for data, own in found.items()}
    yield texts.CONTROLS.format(seeds=min(len(own[OURS]) for own in found.values()), size=SIZE)
    yield "| in place of FARAMTN's part | " + " | ".join(TITLES[data] for data in README_SETS) + " |"
    yield "| --- |" + " ---: |" * len(README_SETS)
    for form in CONTROLS[1:]:
        cells = [marked(less[data][form, SCORE]) if form in found[data] else "" for data in README_SETS]
        yield f"| {FORMS[form][1]} | {' | '.join(cells)} |"


def _less(found: Found) -> Mapping[tuple[str, str], Difference]:
    """Give how each form differs from FARAMTN in each score, paired over seeds and corrected together."""
    keys = [(form, score) for form in found if form != OURS for score in SCORES]
    differences = [paired(_scores(found, form, score), _scores(found, OURS, score)) for form, score in keys]
    return dict(zip(keys, holm(differences), strict=True))


def _found(runs: Sequence[Mapping[str, Any]], data: str, split: str) -> Found:
    by_row = {row_of(data, form).name: form for form in FORMS}
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for record in runs:
        if record["split"] == split and record["row"] in by_row:
            found.setdefault(by_row[record["row"]], {})[record["seed"]] = record
    return {form: found[form] for form in FORMS if form in found}


def _scores(found: Found, form: str, score: str) -> dict[int, float]:
    return {seed: record[score] for seed, record in found[form].items()}
