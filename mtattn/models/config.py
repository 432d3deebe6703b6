"""What a saved config may say: a table of every option, checked before anything is built."""

import re
from collections.abc import Mapping
from typing import Any

from mtattn._rules import CLAIM, MOST, OBJECT, SIZE, TEXT, Rule, are, check, check_decisions, check_image, is_number
from mtattn._rules import told as _told
from mtattn._rules import whole as _whole
from mtattn.groups import AttributeGroups

AFFINITIES = ("content", "pairs", "both")

OPTIONS: dict[str, Rule] = {  # of the constructor
    "channels": SIZE,
    "out_channels": SIZE,
    "reduction": Rule(lambda value: value is None or SIZE.holds(value), f"{SIZE.words}, or null"),
    "fused_channels": SIZE,
    "num_heads": SIZE,
    "dropout": Rule(lambda value: is_number(value) and 0 <= value < 1, "a number in [0, 1)"),
    "spatial": CLAIM,
    "key_channels": SIZE,
    "coordinates": CLAIM,
    "affinity": Rule(lambda value: value in AFFINITIES, f"one of {', '.join(AFFINITIES)}"),
}
_REST = {
    "groups": OBJECT,
    "own_shared": CLAIM,
    "own_heads": CLAIM,
    "backbone": OBJECT,
    "image": OBJECT,
    "map_centres": OBJECT,
    "mtattn_version": TEXT,
}
_PARTS = {"groups", "channels", "out_channels", "coordinates", "own_shared"}  # what a config cannot do without
_BACKBONE = {
    "name": Rule(lambda value: isinstance(value, str) and re.fullmatch(r"\w[\w.-]*", value) is not None,
                 "the name of a timm model, without a place to fetch it from"),
    "options": OBJECT,
    "drop_stages": _whole(0, 1000),
}  # fmt: skip
_SIMPLE = Rule(
    lambda value: (
        value is None
        or type(value) is bool
        or (is_number(value) and abs(value) <= MOST)
        or (isinstance(value, str) and re.fullmatch(r"\w*", value) is not None)
    ),
    "",
)
_BACKBONE_OPTION = Rule(
    lambda value: _SIMPLE.holds(value) or (are(_SIMPLE)(value) and len(value) <= 64),
    f"a word, a number up to {MOST}, true, false, null, or a list of these",
)
# What decides the form of a timm model. Its other arguments read files, reach the network or change what it returns:
# checkpoint_path, pretrained*, cache_dir, features_only, num_classes, scriptable ...
# fmt: off
_BACKBONE_OPTIONS = {
    "img_size", "in_chans", "patch_size", "window_size", "dynamic_img_size", "dynamic_img_pad", "strict_img_size",
    "always_partition", "drop_rate", "drop_path_rate", "drop_block_rate", "pos_drop_rate", "patch_drop_rate",
    "proj_drop_rate", "attn_drop_rate", "output_stride", "stem_width", "stem_type", "stem_size", "avg_down",
    "replace_stem_pool", "cardinality", "base_width", "width", "groups", "layers", "channels", "depth", "depths",
    "dims", "embed_dim", "num_heads", "mlp_ratio", "class_token", "reg_tokens", "no_embed_class", "pos_embed",
    "qkv_bias", "qk_norm", "init_values", "kernel_sizes", "patch_norm", "stem_chs", "fix_stem", "se_from_exp",
    "pad_type", "act_layer", "norm_layer", "aa_layer", "se_layer", "block_size", "zero_init_last", "global_pool",
    "fc_norm", "pre_norm", "final_norm",
}
# fmt: on


def check_config(config: Any, place: object) -> AttributeGroups:
    """Refuse what is not the config of a FARAMTN, and return the groups of one that is.

    Args:
        config: What was read.
        place: Where it was read.

    Raises:
        ValueError: A part is missing, or is not what it has to be.
    """
    if not (isinstance(config, dict) and config.keys() >= _PARTS and isinstance(config["groups"], dict)):
        raise ValueError(
            f"FARAMTN.from_pretrained: the config of a FARAMTN has {', '.join(sorted(_PARTS))}; "
            f"that of {place} is something else, or of an earlier mtattn."
        )
    owner = f"FARAMTN.from_pretrained: the config of {place} is damaged"
    check(owner, config, OPTIONS | _REST)
    if "backbone" in config:
        check(owner, config["backbone"], _BACKBONE, within="backbone.", needs=tuple(_BACKBONE))
        check_backbone_options(owner, config["backbone"]["options"])
    check_image(owner, config.get("image", {}))
    if config.get("decisions") is not None:
        check_decisions(owner, config["decisions"])
    try:
        return AttributeGroups.from_plain(config["groups"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{owner}: {error}") from error


def check_backbone_options(owner: str, options: Mapping[str, Any]) -> None:
    """Refuse options of a backbone that cannot be saved, or do more than decide its form.

    Raises:
        ValueError: An option is not on the list, or no plain value.
    """
    for name, value in options.items():
        if name not in _BACKBONE_OPTIONS:
            raise ValueError(
                f"{owner}: {name!r} is not on the list of backbone_options, which decide the form of the backbone and "
                f"nothing else; build one that needs it yourself, and pass it as the trunk."
            )
        if not _BACKBONE_OPTION.holds(value):
            raise ValueError(f"{owner}: backbone_options are saved as JSON: {_told(name, _BACKBONE_OPTION, value)}")
