"""The training loop of the recipes, on Accelerate: fit and evaluate."""

from mtattn.training.checks import SCORES
from mtattn.training.evaluation import evaluate
from mtattn.training.loop import fit
from mtattn.training.watch import TrainingDiverged

__all__ = ["SCORES", "TrainingDiverged", "evaluate", "fit"]
