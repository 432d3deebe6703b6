"""The finished runs, and how far they differ."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from compare import Difference, holm, paired
from rows import OURS, ROWS

SCORES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "average_precision": "average precision"}
SETS = {
    "lfwa": "LFWA",
    "celeba": "4,330 images of CelebA",
    "drawn-easy": "drawn faces, easy",
    "drawn-hard": "drawn faces, hard",
}
STEPS = (  # what is added, from which row to which
    ("the gates, to one linear layer", "linear", "wsgsa"),
    ("CGFF, to the gates", "wsgsa", "wsgsa-cgff"),
    ("DWS, to gates and CGFF", "wsgsa-cgff", "wsgsa-cgff-dws"),
    ("`spatial=True`, to the gates", "wsgsa", "spatial"),
    ("the gates, to `spatial=True`", "positions-only", "spatial"),
    ("CGFF, to `spatial=True`", "spatial", "spatial-cgff"),
    ("DWS, to `spatial=True` and CGFF", "spatial-cgff", OURS),
    ("eight queries a group in place of one", "one-query", OURS),
    ("the place, to what is there", "no-place", OURS),
    ("CGFF's fixed factor", "unscaled", OURS),
)


@dataclass(frozen=True)
class Results:
    """The final runs of a data set: row, seed, scores."""

    runs: Mapping[str, Mapping[int, Mapping[str, Any]]]

    @classmethod
    def read(cls, path: Path) -> "Results":
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return cls.of(map(json.loads, lines))

    @classmethod
    def of(
        cls,
        records: Iterable[Mapping[str, Any]],
        names: Mapping[str, str] | None = None,
        *,
        split: str = "test",
        seeds: int = 1,
    ) -> "Results":
        """Keep the runs that count, of all that were done.

        Args:
            records: What was done.
            names: How each row is called here, in the order wanted; None keeps all as they are.
            split: On which part.
            seeds: How many a row has at least.
        """
        runs: dict[str, dict[int, Any]] = defaultdict(dict)
        for record in records:
            if record["split"] == split:
                runs[record["row"]][record["seed"]] = record
        called = {row: row for row in runs} if names is None else names
        return cls({name: runs[row] for row, name in called.items() if len(runs.get(row, {})) >= seeds})

    def by_seed(self, row: str, score: str) -> dict[int, float]:
        return {seed: record[score] for seed, record in self.runs[row].items()}

    def mean(self, row: str, score: str) -> float:
        return fmean(self.by_seed(row, score).values())

    def parameters(self, row: str) -> str:
        return f"{next(iter(self.runs[row].values()))['parameters'] / 1e3:,.0f} k"

    def rows(self, section: str | None = None) -> list[str]:
        return [row.name for row in ROWS if row.name in self.runs and section in {None, row.section}]

    def learning_rate(self, row: str) -> float:
        rate: float = next(iter(self.runs[row].values()))["learning_rate"]
        return rate

    @property
    def seeds(self) -> int:
        return min(len(seeds) for seeds in self.runs.values())

    def against(self, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str, str], Difference]:
        """Compare the second row of each pair with the first, in every score, corrected together."""
        return self.compared([(*pair, score) for pair in pairs for score in SCORES])

    def compared(self, keys: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], Difference]:
        """Compare the second row of each key with the first, in the score of the key, corrected together."""
        differences = [paired(self.by_seed(b, score), self.by_seed(a, score)) for a, b, score in keys]
        return dict(zip(keys, holm(differences), strict=True))

    def against_ours(self) -> dict[tuple[str, str, str], Difference]:
        """Compare every other row with FARAMTN, in every score."""
        return self.against([(OURS, name) for name in self.runs if name != OURS])

    def comparisons(self) -> dict[tuple[str, str, str], Difference]:
        """Compare FARAMTN with every row, and each part's row with the one before it."""
        pairs = [(name, OURS) for name in self.rows() if name != OURS]
        steps = [(a, b) for _, a, b in STEPS if a in self.runs and b in self.runs and (a, b) not in pairs]
        return self.against(pairs + steps)


def spread(losses: np.ndarray) -> float:
    """Measure how unevenly the groups converge, from their mean losses (period, group).

    At the moment when the first group has made 90 % of its progress, from its first loss to its lowest, each group has
    a fraction of its first loss left; this is the standard deviation of these fractions over the groups.
    """
    lowest = losses.min(0)
    to_go = (losses - lowest) / np.maximum(losses[0] - lowest, 1e-9)
    moment = int(np.argmax(to_go.min(1) <= 0.1))
    return float((losses[moment] / losses[0]).std())
