"""The training loop of the recipes, on Accelerate: fit and evaluate, in one process or several."""

from mtattn.training.checks import SCORES
from mtattn.training.distributed import processes
from mtattn.training.evaluation import evaluate
from mtattn.training.loop import fit
from mtattn.training.watch import TrainingDiverged

__all__ = ["SCORES", "TrainingDiverged", "evaluate", "fit", "processes"]
