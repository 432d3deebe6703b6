"""Multi-task attention for attribute recognition: WSGSA, CGFF, DWSLoss, and FAR-AMTN as the reference model."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from mtattn import functional, groups, losses, modules  # noqa: F401  attributes of the package
    from mtattn.groups import AttributeGroups, Categorical, Number, Ordinal
    from mtattn.losses import DWSLoss, DynamicWeighting
    from mtattn.models import FARAMTN
    from mtattn.modules import CGFF, WSGSA, GroupHeads
    from mtattn.prediction import Predictor

__all__ = [
    "CGFF",
    "FARAMTN",
    "WSGSA",
    "AttributeGroups",
    "Categorical",
    "DWSLoss",
    "DynamicWeighting",
    "GroupHeads",
    "Number",
    "Ordinal",
    "Predictor",
]

# Loaded on first use: the command answers --help before torch is there, and a server needs no torch at all.
_MODULE_OF = {
    "AttributeGroups": "groups",
    "CGFF": "modules",
    "Categorical": "groups",
    "DWSLoss": "losses",
    "DynamicWeighting": "losses",
    "FARAMTN": "models",
    "GroupHeads": "modules",
    "Number": "groups",
    "Ordinal": "groups",
    "Predictor": "prediction",
    "WSGSA": "modules",
}
_MODULES = ("functional", "groups", "losses", "modules")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name == "__version__":
        return import_module(f"{__name__}._version").installed_version()
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
