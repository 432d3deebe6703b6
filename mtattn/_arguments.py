"""What options of programs are made of."""

from argparse import Action, ArgumentDefaultsHelpFormatter, ArgumentParser, ArgumentTypeError
from collections.abc import Callable


class HelpFormatter(ArgumentDefaultsHelpFormatter):
    """Tells defaults, where there is one to tell."""

    def _get_help_string(self, action: Action) -> str | None:
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


def at_least(minimum: int) -> Callable[[str], int]:
    """Make the type of an option that is a whole number with a smallest value.

    Example:
        >>> at_least(1)("3")
        3
    """

    def whole_number(text: str) -> int:
        if int(text) < minimum:
            raise ArgumentTypeError(f"must be at least {minimum}, got {text}")
        return int(text)

    return whole_number


def positive(text: str) -> float:
    """Read an option that is a number above zero.

    Example:
        >>> positive("0.5")
        0.5
    """
    if not float(text) > 0:
        raise ArgumentTypeError(f"must be above 0, got {text}")
    return float(text)


def mirror_option(parser: ArgumentParser) -> None:
    """Add the option that asks the model of mirror images too.

    Example:
        >>> parser = ArgumentParser()
        >>> mirror_option(parser)
        >>> parser.parse_args(["--mirror"]).mirror
        True
    """
    parser.add_argument(
        "--mirror",
        action="store_true",
        help="answer with the mean of each picture and its mirror image, in twice the time; not for attributes that "
        "tell left from right",
    )
