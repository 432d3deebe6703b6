"""What the page says of the systems of the field side by side."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import texts
from compare import Difference
from finished import Runs
from results import SCORES, Results
from rows import OURS
from systems import CROPS, EPOCHS, RATES, RESULTS, SIZE, SYSTEMS, costs_beside
from words import marked, percent, points

TITLES = {
    "lfwa": "LFWA",
    "drawn-easy": "drawn faces",
    "peta": "PETA, split by person",
    "peta-official": "PETA, official split",
}
LEAST_SEEDS = 2
Compared = Mapping[tuple[str, str, str], Difference]  # FARAMTN, a row, a score


def side_by_side(runs: Sequence[Mapping[str, Any]] | None = None) -> Iterable[str]:
    """Write a table for each data set, and what it says of which part to take."""
    runs = Runs(RESULTS).done if runs is None else runs
    names = {data: {f"{data}, {name}": name for name in SYSTEMS} for data in CROPS}
    found = {data: Results.of(runs, own, seeds=LEAST_SEEDS) for data, own in names.items()}
    found = {data: own for data, own in found.items() if OURS in own.runs and len(own.runs) > 1}
    if not found:
        return
    yield "## The systems side by side"
    yield ""
    rates = ", ".join(f"{rate:g}" for rate in RATES)
    yield texts.SYSTEMS.format(size=SIZE, rates=rates, few=EPOCHS[0], many=EPOCHS[-1])
    compared = {data: own.against_ours() for data, own in found.items()}
    for data, own in found.items():
        yield from _table(data, own, compared[data])
    yield "**Which part to take for which data.**"
    yield ""
    for data, own in found.items():
        yield f"- *{TITLES[data][0].upper()}{TITLES[data][1:]}*: {_advice(own, compared[data])}"
    yield ""
    yield from _exchange(compared)
    yield texts.SYSTEMS_LEFT_OUT


def _table(data: str, found: Results, compared: Compared) -> Iterable[str]:
    file = costs_beside(RESULTS)
    steps = json.loads(file.read_text(encoding="utf-8")).get(data, {}) if file.is_file() else {}
    yield f"### {TITLES[data][0].upper() + TITLES[data][1:]}: the systems"
    yield ""
    yield (
        "| system | accuracy / balanced / AP | minus FARAMTN, accuracy | balanced accuracy | AP "
        "| parameters | multiply-adds | step time | rate, epochs | seeds |"
    )
    yield "| --- |" + " ---: |" * 9
    for name, own in found.runs.items():
        first = next(iter(own.values()))
        means = " / ".join(percent(found.mean(name, score)) for score in SCORES)
        gaps = [""] * 3 if name == OURS else [marked(compared[OURS, name, score]) for score in SCORES]
        sizes = f"{first['parameters'] / 1e3:,.0f} k | {first['multiply_adds'] / 1e6:.1f} M"
        chosen = f"{first['learning_rate']:g}, {first['epochs']}"
        time = "{median:.2f} ({low:.2f} to {high:.2f})".format(**steps[name]) if name in steps else ""
        yield f"| {SYSTEMS[name].title} | {means} | {' | '.join(gaps)} | {sizes} | {time} | {chosen} | {len(own)} |"
    yield ""


def _advice(found: Results, compared: Compared) -> str:
    """Say which row is best in balanced accuracy, and which is the cheapest of those not told apart from FARAMTN."""
    score = "balanced_accuracy"
    means = {name: found.mean(name, score) for name in found.runs}
    best = max(means, key=lambda name: means[name])
    alike = [name for name in found.runs if name == OURS or compared[OURS, name, score].words == "no difference"]
    cost = {name: next(iter(found.runs[name].values()))["multiply_adds"] for name in alike}
    least = min(cost, key=lambda name: cost[name])
    if best != OURS and compared[OURS, best, score].words == "more":
        first = (
            f"*{_plain(best)}* has the best balanced accuracy, {points(compared[OURS, best, score])} more than FAR-AMTN"
        )
        lost = [other for other in SCORES if compared[OURS, best, other].words == "less"]
        first += "".join(f", but {SCORES[other]} {points(compared[OURS, best, other])}" for other in lost)
    else:
        first = "no row has more balanced accuracy than FAR-AMTN after correction"
    if least == OURS:
        return f"{first}; none that is cheaper reaches its balanced accuracy."
    return (
        f"{first}. The cheapest that is not told apart from FAR-AMTN in it is *{_plain(least)}*, "
        f"{points(compared[OURS, least, score])}: no difference."
    )


def _exchange(compared: Mapping[str, Compared]) -> Iterable[str]:
    """Say what exchange between groups gains on each split of PETA."""
    splits = [data for data in ("peta", "peta-official") if (OURS, "no-exchange", "accuracy") in compared.get(data, {})]
    if not splits:
        return
    yield texts.SYSTEMS_EXCHANGE
    for data in splits:
        told = []
        for score, title in SCORES.items():
            d = compared[data][OURS, "no-exchange", score]
            gain = Difference(-d.mean, -d.high, -d.low, d.p, d.corrected)
            told.append(f"{title} {points(gain)}, {gain.words}")
        yield f"- {TITLES[data]}: {'; '.join(told)}."
    yield ""


def _plain(name: str) -> str:
    return SYSTEMS[name].title.replace("*", "")
