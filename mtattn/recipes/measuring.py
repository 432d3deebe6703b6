"""What is measured on the images that a model is judged by, and how it is told in a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtattn._baselines import unlearnt_in_words
from mtattn.data.dataset import AttributeImages
from mtattn.decisions import Decisions
from mtattn.metrics import AttributeMetrics
from mtattn.metrics.decided import decided_metrics, decided_scores
from mtattn.metrics.slices import slice_scores
from mtattn.models import FARAMTN
from mtattn.training import evaluate
from mtattn.training.evaluation import in_words

TOLD = {"mean_skill": "skill", "mean_accuracy": "accuracy", "mean_balanced_accuracy": "balanced", "mean_f1": "F1"}


def measure_test(
    model: FARAMTN,
    data: AttributeImages,
    metrics: AttributeMetrics,
    *,
    decisions: Decisions | None,
    slices: Mapping[str, Sequence[str]],
    batch_size: int,
    workers: int,
    mirror: bool = False,
) -> dict[str, Any]:
    """Measure "test", and where there are decisions or slices those; slices are scored with the decisions applied.

    Args:
        model: The model.
        data: The images.
        metrics: What to measure with; it keeps what it saw.
        decisions: The temperatures and thresholds of the model.
        slices: By column, the value of each image.
        batch_size: Images a step and process.
        workers: Processes that read images.
        mirror: Whether to take the mean for each image and its mirror image.
    """
    test = evaluate(model, data, metrics, batch_size=batch_size, workers=workers, mirror=mirror)
    test["intervals"] = metrics.intervals()
    test["labels"] = _count_labels(data)
    results: dict[str, Any] = {"test": test}
    judged = metrics
    if decisions is not None:
        judged, half = (decided_metrics(metrics, how) for how in (decisions, Decisions("one half")))
        _, targets = metrics.seen()
        after, before = (
            {name: score for name, score in decided_scores(decided, targets).items() if isinstance(score, float)}
            for decided in (judged, half)
        )
        results["decisions"] = decisions.to_plain() | {"test": after, "one_half": before}
    if slices:
        results["slices"] = slice_scores(judged, slices)
    return results


def told(results: Mapping[str, Any]) -> Iterator[str]:
    """Tell in a few lines of text what was measured."""
    test = results["test"]
    yield f"test: {in_words(test)}"
    ends = [(name, test["intervals"][score]) for score, name in TOLD.items() if score in test["intervals"]]
    yield "95 % intervals: " + ", ".join(f"{name} {low:.4f} to {high:.4f}" for name, (low, high) in ends)
    if "unlearnt" in results:
        yield unlearnt_in_words(results["unlearnt"])
    if "decisions" in results:
        after = results["decisions"]["test"]
        changed = [f"{name} {test[score]:.4f} to {after[score]:.4f}" for score, name in TOLD.items() if score in test]
        yield f"test, from one half to thresholds: {', '.join(changed)}"
        sure = f", {after['answered']:.1%} of the answers are not uncertain" if results["decisions"]["absent"] else ""
        yield f"precision {after['mean_precision']:.4f}, recall {after['mean_recall']:.4f}{sure}"
    for column, found in results.get("slices", {}).items():
        yield f"by {column}:"
        width = max(map(len, found["values"]))
        for value, row in found["values"].items():
            scores = [f"{name} {row[score]:.4f}" for score, name in TOLD.items() if score in row]
            yield f"  {value:{width}}  {row['images']:>6} images, {', '.join(scores)}"
        for score, name in TOLD.items():
            if gap := found["gaps"].get(score):
                yield f"  largest gap in {name}: {100 * gap['gap']:.1f} points, {gap['from']} below {gap['to']}"


def _count_labels(data: AttributeImages) -> dict[str, dict[str, int]]:
    """Count the labels of each attribute, and the positives of the binary ones."""
    counts = {}
    for name, kind, targets in zip(data.attributes, data.kinds, data.targets.unbind(1), strict=True):
        counts[name] = {"labels": int((~targets.isnan()).sum())}
        if isinstance(kind, str):
            counts[name]["positives"] = int((targets >= 0.5).sum())
    return counts
