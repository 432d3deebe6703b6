"""What the page says of weighting rules on attributes of every kind."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import texts
from compare import holm, paired
from finished import Runs
from mixed import BATCH, RATES, RESULTS, STEPS, UNITS, WIDTH, best_rate, row_of
from mixed_losses import RULES
from words import marked, percent, rule_title

TITLES = {"peta": "PETA by person", "joined": "FairFace and LFWA joined"}
KINDS = {"skill": "mean skill", "binary": "binary", "ordinal": "ordinal", "categorical": "categorical"}
KINDS |= {"number": "number"}
BASE = ("equal", "common")  # DWSLoss(rule="equal"): all losses in the common unit
SCALES = {"common": "in the common unit", "own": "in their own scale"}


def mixed(runs: Runs | None = None) -> Iterable[str]:
    """Write a table for each data set that has been run over more than one seed."""
    runs = Runs(RESULTS) if runs is None else runs
    tables = [line for data in TITLES for line in table(runs, data)]
    if tables:
        yield "## Mixed kinds: do weighting rules matter there?"
        yield ""
        rates = ", ".join(f"{rate:g}" for rate in RATES)
        yield texts.MIXED.format(width=WIDTH, steps=STEPS, batch=BATCH, rates=rates)
        yield from tables


def table(runs: Runs, data: str) -> Iterable[str]:
    """Write how each rule differs from equal weights in the common unit, paired over seeds, corrected together."""
    rows = [(rule, unit) for rule in RULES for unit in UNITS]
    found = {row: scored(runs, row_of(data, *row)) for row in rows}
    found = {row: own for row, own in found.items() if len(own) > 1}
    if BASE not in found or len(found) < 2:
        return
    others = [row for row in found if row != BASE]
    gaps = [paired(_skill(found[row]), _skill(found[BASE])) for row in others]
    gains = dict(zip(others, holm(gaps), strict=True))
    scores = [name for name in KINDS if name in next(iter(found[BASE].values()))]
    yield f"**{TITLES[data]}**, {len(found[BASE])} seeds"
    yield ""
    titles = [KINDS[name] for name in scores]
    yield f"| weights of the groups | losses | {' | '.join(titles)} | mean skill minus equal weights, common unit |"
    yield "| --- | --- |" + " ---: |" * (len(scores) + 1)
    for (rule, unit), own in found.items():
        means = [percent(fmean(record[name] for record in own.values())) for name in scores]
        gain = "" if (rule, unit) == BASE else marked(gains[rule, unit])
        title = "each group alike" if rule == "alike" else rule_title(rule)
        yield f"| {title} | {SCALES[unit]} | {' | '.join(means)} | {gain} |"
    yield ""


def scored(runs: Runs, row: str) -> dict[int, Mapping[str, Any]]:
    """Give the test scores of a row by seed, at the learning rate that its search chose."""
    own: Sequence[Mapping[str, Any]] = [record for record in runs.done if record["row"] == row]
    if not own:
        return {}
    rate = best_rate(runs, row)
    return {r["seed"]: r for r in own if r["split"] == "test" and r["learning_rate"] == rate}


def _skill(own: Mapping[int, Mapping[str, Any]]) -> dict[int, float]:
    return {seed: record["skill"] for seed, record in own.items()}
