"""The study as one table: what is trained, on what, and what it is called."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SEEDS = 10
EPOCHS = 4
SEARCH_EPOCHS = 3
BATCH = 64
LEARNING_RATES = (0.0006, 0.002, 0.006, 0.018, 0.054, 0.162, 0.486)
WEIGHT_DECAYS = (0.01, 0.1)  # the second at the best rate only
SEARCH_SEEDS = (1000, 1001, 1002)  # of no final run; the second and third try the best settings of the first
FINALISTS = 3
TUNED_SEEDS = 5  # where the trunk is trained too
OURS = "faramtn"  # FARAMTN and DWSLoss as they come


@dataclass(frozen=True)
class Row:
    """One configuration."""

    name: str
    title: str
    section: str
    head: str = "faramtn"
    head_options: Mapping[str, Any] = field(default_factory=dict)
    grouping: str = "default"
    loss: str = "weighted"
    loss_options: Mapping[str, Any] = field(default_factory=dict)
    balanced: bool = False  # positives weighted by how rare they are
    periods: int = 1  # of the weighting, in an epoch
    everywhere: bool = True  # on all data sets, or on LFWA only


PARTS, OTHERS, GROUPINGS, WEIGHTING, RARE, VARIANTS = (
    "FARAMTN's parts",
    "What people use in its place",
    "Groups",
    "Weighting the groups",
    "Rare attributes",
    "Variants of the parts",
)
EQUAL = {"rule": "equal"}


def _ours(name: str, title: str, section: str = VARIANTS, loss: Mapping[str, Any] = EQUAL, **options: Any) -> Row:
    own = {key: options.pop(key) for key in ("grouping", "periods", "everywhere") if key in options}
    return Row(name, title, section, head_options=options, loss_options=loss, **own)


def _other(name: str, title: str, head: str, *, everywhere: bool = True) -> Row:
    return Row(name, title, OTHERS, head=head, loss_options=EQUAL, everywhere=everywhere)


def _rule(name: str, title: str, **loss_options: Any) -> Row:
    return Row(name, title, WEIGHTING, loss_options=loss_options, everywhere=False)


ROWS = (
    _other("linear", "one linear layer", "linear"),
    _ours("wsgsa", "WSGSA, gates only", PARTS, spatial=False, fuse=False),
    _ours("wsgsa-cgff", "WSGSA, gates only + CGFF", PARTS, spatial=False),
    _ours("wsgsa-cgff-dws", "WSGSA, gates only + CGFF + DWS", PARTS, {"rule": "dws"}, spatial=False, everywhere=False),
    _ours("spatial", "WSGSA with `spatial=True`", PARTS, fuse=False),
    _ours("spatial-cgff", "WSGSA with `spatial=True` + CGFF", PARTS),
    _ours(OURS, "**FARAMTN**: WSGSA with `spatial=True` + CGFF + DWS", PARTS, {"rule": "dws"}),
    _other("linear-per-group", "a hidden layer for each group", "linear per group", everywhere=False),
    _other("conv-per-group", "a convolution for each group", "conv per group"),
    _ours(
        "queries",
        "a query for each attribute: no gates, no groups",
        OTHERS,
        grouping="40",
        wsgsa="ungated",
        fuse=False,
        queries=1,
        coordinates=False,
    ),
    _other("ml-decoder", "timm's ML-Decoder", "ml-decoder", everywhere=False),
    _other("mmoe", "LibMTL's MMoE", "mmoe", everywhere=False),
    _other("mtan", "MTAN's attention", "mtan", everywhere=False),
    _ours("groups-1", "one group", GROUPINGS, {"rule": "dws"}, grouping="1", everywhere=False),
    _ours("groups-4", "4 groups of PS-MCNN", GROUPINGS, {"rule": "dws"}, grouping="4", everywhere=False),
    _ours("groups-9", "9 groups of MCNN", GROUPINGS, {"rule": "dws"}, grouping="9", everywhere=False),
    _ours("groups-40", "a group for each attribute", GROUPINGS, {"rule": "dws"}, grouping="40", everywhere=False),
    _ours("groups-random", "8 random groups", GROUPINGS, {"rule": "dws"}, grouping="random", everywhere=False),
    _ours(
        "groups-labels",
        "8 groups of correlated labels",
        GROUPINGS,
        {"rule": "dws"},
        grouping="labels",
        everywhere=False,
    ),
    _rule("dws-half", "DWS, alpha 0.5", rule="dws", alpha=0.5),
    _rule("dws-2", "DWS, alpha 2", rule="dws", alpha=2.0),
    _ours("dws-often", "DWS, four periods an epoch", WEIGHTING, {"rule": "dws"}, periods=4, everywhere=False),
    _rule("dwa", "DWA (Liu 2019)", rule="dwa"),
    _rule("trend", "loss trend and scale (He 2017)", rule="trend"),
    _rule("random", "random weights (Lin 2022)", rule="random"),
    Row("uw", "torchjd's UW (Kendall 2018)", WEIGHTING, loss="uw", everywhere=False),
    Row("famo", "torchjd's FAMO", WEIGHTING, loss="famo", everywhere=False),
    Row(
        "linear-pos-weight",
        "one linear layer, `pos_weight`",
        RARE,
        "linear",
        loss_options=EQUAL,
        balanced=True,
        everywhere=False,
    ),
    Row("pos-weight", "FARAMTN, `pos_weight`", RARE, balanced=True, everywhere=False),
    Row("asymmetric", "FARAMTN, timm's asymmetric loss", RARE, loss="asymmetric", everywhere=False),
    _ours("one-query", "one query a group in place of eight", loss={"rule": "dws"}, queries=1),
    _ours("no-place", "looking by what is there, not by the place", loss={"rule": "dws"}, coordinates=False),
    _ours("positions-only", "positions without gates", fuse=False, wsgsa="ungated", everywhere=False),
    _ours("unshared", "gates on a convolution for each group", wsgsa="unshared", spatial=False, everywhere=False),
    _ours("unscaled", "CGFF without its fixed factor", loss={"rule": "dws"}, scaled=False),
    _ours("norm", "CGFF with a norm before queries and keys", loss={"rule": "dws"}, norm=True, everywhere=False),
)
BY_NAME = {row.name: row for row in ROWS}


def rows_of(data: str) -> tuple[Row, ...]:
    """List what is trained on a data set."""
    return tuple(row for row in ROWS if row.everywhere or data == "lfwa")


@dataclass(frozen=True)
class Plan:
    """What all rows have in common where the trunk is trained too."""

    results: str
    backbone: str
    size: int
    rows: tuple[str, ...]
    learning_rates: tuple[float, ...]
    trunk_rate: float | None  # None: the trunk learns at the head's rate, and both are searched as one
    search_epochs: int
    epochs: int
    mixed: bool  # whether the trunk computes in bfloat16
    weight_decay: float = 0.05


TUNED = Plan(
    results="lfwa-finetuned",
    backbone="tf_efficientnet_lite0",
    size=96,
    rows=("linear", OURS, "no-place"),
    learning_rates=(0.001, 0.006, 0.036, 0.216),
    trunk_rate=5e-4,
    search_epochs=2,
    epochs=3,
    mixed=False,
)
FROM_SCRATCH = Plan(
    results="lfwa-from-scratch",
    backbone="resnet50",
    size=64,
    rows=("linear", OURS),
    learning_rates=(0.0005, 0.002, 0.008),
    trunk_rate=None,
    search_epochs=3,
    epochs=8,
    mixed=True,
)
