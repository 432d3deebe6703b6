"""What the programs in ``examples/`` share: their options, the folder of a run, and how a run ends."""

from mtattn._arguments import HelpFormatter, at_least, positive
from mtattn.recipes.options import model_options, recipe_parser, run_options, size_options, training_options
from mtattn.recipes.output import check_output, open_output
from mtattn.recipes.results import explain_faces, finish_run
from mtattn.recipes.running import run_recipe
from mtattn.recipes.teachers import taught_by

__all__ = [
    "HelpFormatter",
    "at_least",
    "check_output",
    "explain_faces",
    "finish_run",
    "model_options",
    "open_output",
    "positive",
    "recipe_parser",
    "run_options",
    "run_recipe",
    "size_options",
    "taught_by",
    "training_options",
]
