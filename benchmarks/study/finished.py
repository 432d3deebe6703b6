"""The file of finished runs: a line of JSON for each, and what the search has found so far."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

from rows import FINALISTS, SEARCH_SEEDS


class Runs:
    """The file of finished runs; a line that a kill cut short is dropped."""

    def __init__(self, path: Path) -> None:
        self.path, self.done = path, []
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text and not text.endswith("\n"):
            path.write_text(text := text[: text.rfind("\n") + 1], encoding="utf-8")
        self.done = [json.loads(line) for line in text.splitlines()]

    def add(self, record: dict[str, Any]) -> None:
        """Write a finished run at once."""
        self.done.append(record)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def lacks(self, job: Any) -> bool:
        """Tell whether the job is still to do."""
        return job.key not in map(self.key, self.done)

    @staticmethod
    def key(record: dict[str, Any]) -> tuple[Any, ...]:
        """Name a finished run by what decides it, as its job was named."""
        return tuple(record[name] for name in ("row", "seed", "split", "learning_rate", "weight_decay", "epochs"))

    def leading(self, row: str) -> list[tuple[float, float]]:
        """List the learning rates and weight decays that the first seed tried, the best first."""
        tried = [r for r in self._tried(row) if r["seed"] == SEARCH_SEEDS[0]]
        return [(r["learning_rate"], r["weight_decay"]) for r in sorted(tried, key=_score, reverse=True)]

    def best(self, row: str) -> tuple[float, float]:
        """Give the learning rate and weight decay, of the first seed's best, that are best in the mean over seeds."""

        def mean(setting: tuple[float, float]) -> float:
            return fmean(_score(r) for r in self._tried(row) if (r["learning_rate"], r["weight_decay"]) == setting)

        return max(self.leading(row)[:FINALISTS], key=mean)

    def _tried(self, row: str) -> list[dict[str, Any]]:
        return [record for record in self.done if record["row"] == row and record["split"] == "valid"]


def _score(record: dict[str, Any]) -> float:
    score: float = record["accuracy"] + record["balanced_accuracy"]
    return score
