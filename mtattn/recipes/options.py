"""The options that all recipes have."""

from argparse import Action, ArgumentParser, ArgumentTypeError, BooleanOptionalAction, Namespace
from pathlib import Path
from typing import Any

from mtattn._arguments import HelpFormatter, at_least, positive
from mtattn._extras import needed_by
from mtattn.data.transforms import AUGMENTATIONS
from mtattn.training import SCORES

with needed_by("mtattn.recipes", extra="recipes"):
    import timm


class HeightAndWidth(Action):
    """Takes one value for both, or first that of the height, then that of the width."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        """Keep the two as a list."""
        if len(values) > 2:
            parser.error(f"{option_string} takes a value for both, or a height and a width, got {len(values)} values")
        setattr(namespace, self.dest, [values[0], values[-1]])


def share(text: str) -> float:
    """Read an option that is a share, above 0 and at most 1.

    Example:
        >>> share("0.7")
        0.7
    """
    if not 0 < float(text) <= 1:
        raise ArgumentTypeError(f"must be above 0 and at most 1, which is all, got {text}")
    return float(text)


def recipe_parser(description: str) -> ArgumentParser:
    """Make the parser with the options that all recipes have; a recipe sets its own defaults, with its reasons.

    Example:
        >>> parser = recipe_parser("Train on my data.")
        >>> parser.set_defaults(epochs=8)
        >>> options = parser.parse_args(["--synthetic", "500"])
        >>> options.synthetic, options.epochs, options.rule
        (500, 8, 'dws')
    """
    parser = ArgumentParser(description=description, formatter_class=HelpFormatter, allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--root", type=Path, help="the folder of the data set")
    source.add_argument(
        "--synthetic",
        type=int,
        nargs="?",
        const=4000,
        metavar="N",
        help="draw N labelled faces (4000 if N is left out) and use these in place of a data set",
    )
    run_options(parser)
    model_options(parser)
    training_options(parser)
    return parser


def run_options(parser: ArgumentParser) -> None:
    """Add the options of a run: where it goes, and how it begins."""
    run = parser.add_argument_group("the run")
    run.add_argument("--output", type=Path, help="the folder for checkpoints, model, metrics and report")
    again = run.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the output folder")
    again.add_argument("--overwrite", action="store_true", help="replace the run that the output folder holds")
    run.add_argument("--seed", type=at_least(0), default=0, help="decides all chance; the same seed gives the same run")
    run.add_argument("--workers", type=at_least(0), default=1, help="processes that read images")
    run.add_argument("--skip-unreadable", action="store_true", help="count and leave out images that cannot be read")
    run.add_argument(
        "--mirror",
        action="store_true",
        help="measure the finished model with the mean of each image and its mirror image, in twice the time; not for "
        "attributes that tell left from right",
    )


def model_options(parser: ArgumentParser) -> None:
    """Add the options of a new model on a timm backbone, for a program that takes all of them."""
    model = parser.add_argument_group("the model")
    model.add_argument("--backbone", help="a timm model name")
    model.add_argument("--backbone-weights", type=Path, metavar="FILE", help="a local checkpoint of the backbone")
    model.add_argument("--pretrained", action="store_true", help="fetch timm's pretrained weights of the backbone")
    model.add_argument("--drop-stages", type=at_least(0), help="leave out this many of the backbone's last stages")
    model.add_argument(
        "--image-size",
        type=at_least(1),
        nargs="+",
        action=HeightAndWidth,
        metavar=("PIXELS", "WIDTH"),
        help="height and width that images are squeezed to, in pixels; one number is for both",
    )
    model.add_argument(
        "--crop",
        type=share,
        nargs="+",
        action=HeightAndWidth,
        metavar=("SHARE", "WIDTH"),
        help="keep this share of height and width, in the middle; 1 is all; left out: what suits the data set",
    )
    model.add_argument("--reduction", type=at_least(1), default=16, help="divides the channels in the gates")
    model.add_argument(
        "--spatial", action=BooleanOptionalAction, default=True, help="each group also learns where to look"
    )


def training_options(parser: ArgumentParser) -> None:
    """Add the options of :func:`mtattn.training.fit` and of the optimizer, for a program that takes all of them."""
    training = parser.add_argument_group("the training")
    training.add_argument(
        "--augment", default="light", choices=AUGMENTATIONS, help="how training images are changed at random"
    )
    training.add_argument(
        "--teachers",
        nargs="+",
        metavar="MODEL",
        help="learn half from the labels, half from what these trained models say of the training images",
    )
    training.add_argument("--epochs", type=at_least(1), help="how often to go through the training images")
    training.add_argument("--batch-size", type=at_least(1), help="images a process computes at once")
    training.add_argument("--accumulate", type=at_least(1), default=1, metavar="N", help="batches that make one step")
    training.add_argument("--learning-rate", type=positive, help="peak learning rate of the new modules")
    training.add_argument("--trunk-factor", type=positive, help="the backbone's learning rate is this times the other")
    training.add_argument("--weight-decay", type=float, default=0.05, help="AdamW's, for all but biases and norms")
    training.add_argument("--rule", default="dws", help="how groups are weighted: dws, equal, dwa, trend or random")
    training.add_argument("--alpha", type=float, default=1.0, help="how strongly the rule dws follows the loss left")
    training.add_argument("--averaging", type=float, metavar="DECAY", help="keep an averaged copy of the weights")
    training.add_argument(
        "--select-by",
        choices=SCORES,
        help="keep the epoch with the highest of this on the validation part; if left out, of mean_accuracy, or of "
        "mean_skill where not all attributes are binary",
    )
    training.add_argument(
        "--mixed-precision", default="no", choices=["no", "bf16", "fp16"], help="arithmetic; fp16 needs a GPU"
    )
    training.add_argument(
        "--grad-checkpointing",
        action="store_true",
        help="compute the trunk twice: less memory, a third more time",
    )
    training.add_argument("--compile", action="store_true", help="compile the training step; takes a minute, then pays")
    training.add_argument(
        "--sync-batch-norm", action="store_true", help="batch norms look at the images of all processes; needs GPUs"
    )


def size_options(options: Namespace) -> dict[str, Any]:
    """Tell a backbone that is made for one image size, such as a ViT, which size it gets.

    Example:
        >>> size_options(Namespace(backbone="vit_tiny_patch16_224", image_size=[96, 64]))
        {'img_size': [96, 64]}
    """
    config = timm.get_pretrained_cfg(options.backbone, allow_unregistered=True)
    return {"img_size": options.image_size} if config is not None and config.fixed_input_size else {}
