"""What the page says of recognition and age beside attributes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import texts
from compare import Difference
from finished import Runs
from recognition import EPOCHS, RATES, RESULTS, ROWS, SIZE
from results import SCORES, Results
from words import marked, percent, points

LEAST_SEEDS = 2
Compared = Mapping[tuple[str, str, str], Difference]  # the second row minus the first, in a score
FUSIONS = ("mix", "listen", "joined")


def recognition(runs: Sequence[Mapping[str, Any]] | None = None) -> Iterable[str]:
    """Write who is told apart by what, then what one model for all has of each task."""
    found = Results.of(Runs(RESULTS).done if runs is None else runs, {row: row for row in ROWS}, seeds=LEAST_SEEDS)
    if set(found.runs) != set(ROWS):
        return
    compared, first = _compared(found), next(iter(found.runs["identity"].values()))
    rates = ", ".join(f"{rate:g}" for rate in RATES)
    yield "## Recognition beside attributes"
    yield ""
    yield texts.RECOGNITION.format(
        size=SIZE,
        rates=rates,
        few=EPOCHS[0],
        many=EPOCHS[1],
        seeds=found.seeds,
        pairs=first["pairs"],
        same=percent(first["same"] / first["pairs"]),
    )
    yield from _who(found, compared)
    yield from _joined(found, compared)
    yield from _told(found, compared)


def _who(found: Results, compared: Compared) -> Iterable[str]:
    yield "| who is it? | accuracy, % | equal error rate, % | minus identity alone, accuracy | equal error rate |"
    yield "| --- |" + " ---: |" * 4
    for name, own in found.runs.items():
        if "verification" in next(iter(own.values())):
            means = [percent(found.mean(name, score)) for score in ("verification", "eer")]
            gaps = [_cell(compared, "identity", name, score) for score in ("verification", "eer")]
            yield f"| {ROWS[name].title} | {' | '.join(means + gaps)} |"
    yield ""


def _joined(found: Results, compared: Compared) -> Iterable[str]:
    yield (
        "| trained for | accuracy / balanced / AP | minus attributes alone, accuracy | balanced accuracy "
        "| years off | minus age alone | parameters | multiply-adds | rate, epochs |"
    )
    yield "| --- |" + " ---: |" * 8
    for name, own in found.runs.items():
        first = next(iter(own.values()))
        knows, ages = "accuracy" in first, "years_off" in first
        means = " / ".join(percent(found.mean(name, score)) for score in SCORES) if knows else ""
        cells = [means, *(_cell(compared, "attributes", name, score) for score in ("accuracy", "balanced_accuracy"))]
        cells += [f"{found.mean(name, 'years_off'):.2f}" if ages else ""]
        cells += [_cell(compared, "age", name, "years_off", scale=1)]
        cells += [f"{first['parameters'] / 1e3:,.0f} k", f"{first['multiply_adds'] / 1e6:.1f} M"]
        cells += [f"{first['learning_rate']:g}, {first['epochs']}"]
        yield f"| {ROWS[name].title} | {' | '.join(cells)} |"
    yield ""


def _told(found: Results, compared: Compared) -> Iterable[str]:
    """Say in words what attributes do for recognition, and what joining costs."""
    yield "**What attributes do for recognition.** Accuracy on the pairs, in points, against identity alone:"
    yield ""
    for name in ("attributes", *FUSIONS):
        yield f"- *{ROWS[name].title}*: {_words(compared['identity', name, 'verification'])}."
    gap = compared["mix", "listen", "verification"]
    yield f"- CGFF in which identity listens, minus AAFACE's fusion: {_words(gap)}."
    yield ""
    yield "**One model for all, or one each?** The joined model minus the model for one task alone:"
    yield ""
    yield f"- who it is, accuracy: {_words(compared['identity', 'joined', 'verification'])};"
    for score in ("accuracy", "balanced_accuracy"):
        yield f"- attributes, {SCORES[score]}: {_words(compared['attributes', 'joined', score])};"
    years = compared["age", "joined", "years_off"]
    guess = found.mean("age", "years_off_always_the_median")
    yield f"- age, years off (less is better): {points(years, scale=1)}, {years.words}; always the median: {guess:.2f}."
    alone = [next(iter(found.runs[name].values()))["parameters"] for name in ("attributes", "identity", "age")]
    one = next(iter(found.runs["joined"].values()))["parameters"]
    yield f"- parameters: {one / 1e3:,.0f} k against {sum(alone) / 1e3:,.0f} k in three models."
    yield ""


def _compared(found: Results) -> Compared:
    keys = [("identity", name, score) for name in ("attributes", *FUSIONS) for score in ("verification", "eer")]
    keys += [("attributes", name, score) for name in FUSIONS for score in ("accuracy", "balanced_accuracy")]
    keys += [("age", "joined", "years_off"), ("mix", "listen", "verification")]
    return found.compared(keys)


def _cell(compared: Compared, alone: str, name: str, score: str, **style: Any) -> str:
    key = (alone, name, score)
    return marked(compared[key], **style) if key in compared else ""


def _words(difference: Difference) -> str:
    return f"{points(difference)}, {difference.words}"
