"""Differences paired over seeds: their mean, a bootstrap interval, and Holm's correction for many comparisons."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """How much one row differs from another, over the seeds that both have."""

    mean: float
    low: float
    high: float
    p: float  # of a paired t test, before correction
    corrected: float = math.nan  # after Holm's correction

    @property
    def words(self) -> str:
        """Say what the difference amounts to."""
        if not self.corrected < 1 - LEVEL or self.low <= 0 <= self.high:
            return "no difference"
        return "more" if self.mean > 0 else "less"


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference:
    """Compare two rows, score by seed."""
    seeds = sorted(ours.keys() & theirs.keys())
    differences = np.array([ours[seed] - theirs[seed] for seed in seeds])
    if len(seeds) < 2 or not differences.any():
        return Difference(float(differences.mean()), *[float(differences.mean())] * 2, 1.0)
    draws = np.random.default_rng(0).integers(len(seeds), size=(10_000, len(seeds)))
    low, high = np.quantile(differences[draws].mean(1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    error = differences.std(ddof=1) / math.sqrt(len(seeds))
    p = t_tails(float(differences.mean() / error), len(seeds) - 1) if error else 0.0
    return Difference(float(differences.mean()), float(low), float(high), p)


def t_tails(t: float, freedom: int) -> float:
    """Give the chance of a value of Student's t at least as far from zero as ``t``, on both sides."""
    angles = np.linspace(0, math.pi / 2, 20_001)  # t = sqrt(freedom) tan(angle); its density becomes a cosine's power
    density = np.cos(angles) ** (freedom - 1)
    inside = angles <= math.atan(abs(t) / math.sqrt(freedom))
    return float(max(0.0, 1 - np.trapezoid(density[inside], angles[inside]) / np.trapezoid(density, angles)))


def holm(differences: Sequence[Difference]) -> list[Difference]:
    """Correct the chances of all comparisons that are read together."""
    order = sorted(range(len(differences)), key=lambda place: differences[place].p)
    corrected, largest = list(differences), 0.0
    for rank, place in enumerate(order):
        d = differences[place]
        largest = max(largest, min(1.0, d.p * (len(differences) - rank)))
        corrected[place] = Difference(d.mean, d.low, d.high, d.p, largest)
    return corrected
