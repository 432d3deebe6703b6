"""Ablation at inference: replace what a part of a trained model computes, and measure what changes."""

from mtattn.ablation.changes import Change
from mtattn.ablation.measure import Ablations, Effect, Link, measure_ablations
from mtattn.ablation.replace import ablated

__all__ = ["Ablations", "Change", "Effect", "Link", "ablated", "measure_ablations"]
