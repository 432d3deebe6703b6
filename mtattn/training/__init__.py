"""The training loop of the recipes, on Accelerate: fit and evaluate."""

from mtattn.training.loop import SCORES, evaluate, fit
from mtattn.training.watch import TrainingDiverged

__all__ = ["SCORES", "TrainingDiverged", "evaluate", "fit"]
