"""What an exported file says about its model, to programs and to people."""

import json
import os
from pathlib import Path
from typing import Any

from mtattn._extras import needed_by
from mtattn._files import write_whole
from mtattn._metadata import read_metadata
from mtattn._version import installed_version
from mtattn.groups import Attribute, AttributeGroups, Categorical, Number, Ordinal

METADATA_KEY = "mtattn"
_MEANING = ("classes", "levels", "unit", "mean", "std")
_DECODE = {
    "binary": "sigmoid(logit) is the probability of yes",
    "categorical": "softmax(its logits) is the probability of each class; the class with the greatest is the answer",
    "ordinal": "P(level > k) is the product of sigmoid(logit) over its columns 0 to k; "
    "the answer is levels[how many k have P(level > k) > 0.5]",
    "number": "mean + std * logit is the number in its unit",
}


def metadata_of(groups: AttributeGroups, image: dict[str, Any]) -> dict[str, Any]:
    """Collect what a program must know that has the file and nothing else; see :func:`read_onnx_metadata`.

    Example:
        >>> groups = AttributeGroups({"face": ["Smiling", Number("age", unit="years", mean=33, std=20)]})
        >>> told = metadata_of(groups, {"size": [64, 64], "mean": [0.5] * 3, "std": [0.5] * 3})
        >>> told["attributes"][1]
        {'name': 'age', 'group': 'face', 'kind': 'number', 'columns': [1], 'unit': 'years', 'mean': 33.0, 'std': 20.0}
        >>> told["decode"]["number"]
        'mean + std * logit is the number in its unit'
    """
    names = list(groups)
    attributes = [
        {
            "name": name,
            "group": names[group],
            "kind": _kind(attribute),
            "columns": [index for index, owner in enumerate(groups.attribute_of) if owner == place],
            **_meaning(attribute),
        }
        for place, (name, attribute, group) in enumerate(
            zip(groups.attributes, groups.kinds, groups.group_of, strict=True)
        )
    ]
    return {
        "mtattn_version": installed_version(),
        "groups": groups.to_plain(),
        "image": image,
        "input": _input(image),
        "columns": list(groups.columns.attributes),
        "attributes": attributes,
        "decode": {kind: _DECODE[kind] for kind in dict.fromkeys(map(_kind, groups.kinds))},
    }


def description_of(metadata: dict[str, Any]) -> str:
    """Say the same to a person who opens the file in a viewer."""
    lines = [
        f"Attribute recognition, written by mtattn {metadata['mtattn_version']}.",
        f"Input: {metadata['input']}",
        "Output logits (batch, column): one column a yes-or-no attribute or number, several for a class or a level; "
        "maps (batch, column, h, w), where there are any, average to the logits.",
        *(f"{kind}: {rule}." for kind, rule in metadata["decode"].items()),
        *(_line(attribute) for attribute in metadata["attributes"]),
        "All of this is in the metadata too, as JSON under the key 'mtattn'.",
    ]
    return "\n".join(lines)


def read_onnx_metadata(file: "str | os.PathLike[str]") -> dict[str, Any]:
    """Read what a file of :func:`export_onnx` says about its model.

    Without torch and onnx the same is
    ``json.loads(InferenceSession(file).get_modelmeta().custom_metadata_map["mtattn"])``.

    Returns:
        ``groups`` (the attributes of each group, in the order of the outputs), ``columns`` (the name of each output),
        ``attributes`` (of each its ``name``, ``group``, ``kind``, ``columns``, and its ``classes``, ``levels`` or
        ``unit``, ``mean`` and ``std``), ``decode`` (for each kind, how to read its columns), ``image`` (``size``,
        ``mean``, ``std`` and, unless it is the whole image, ``crop``, see :func:`mtattn.data.image_transform`),
        ``input`` (the same in words), ``mtattn_version`` and, with maps, ``map_centres`` (``rows`` and ``columns``,
        where the cells of a map look in such an image, see :func:`mtattn.models.map_centres`). Files of older
        versions have ``groups``, ``image`` and ``mtattn_version`` only.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not an ONNX file, or not one of :func:`export_onnx`.
        ImportError: The extra ``export`` is not installed.
    """
    with needed_by("read_onnx_metadata", extra="export"):
        import onnx  # noqa: PLC0415
    if not Path(file).is_file():
        raise FileNotFoundError(f"read_onnx_metadata: no file {Path(file).absolute()}.")
    try:
        properties = onnx.load(str(file), load_external_data=False).metadata_props
    except Exception as error:  # protobuf's own, which is no ValueError
        raise ValueError(f"read_onnx_metadata: {file} is damaged or no ONNX file.") from error
    for entry in properties:
        if entry.key == METADATA_KEY:
            return read_metadata(entry.value, file)
    raise ValueError(f"read_onnx_metadata: {file} was not written by mtattn; write it with export_onnx.")


def write_onnx(proto: Any, file: Path, metadata: dict[str, Any], description: str) -> None:
    """Write a model with what it says about itself."""
    del proto.metadata_props[:]
    proto.metadata_props.add(key=METADATA_KEY, value=json.dumps(metadata))
    proto.doc_string = proto.graph.doc_string = description
    proto.producer_name, proto.producer_version = "mtattn", metadata["mtattn_version"]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, proto.SerializeToString())


def free_file(file: "str | os.PathLike[str]", owner: str, overwrite: bool) -> Path:
    """Refuse a file that is there already, unless it may be replaced."""
    file = Path(file)
    if file.exists() and not overwrite:
        raise FileExistsError(f"{owner}: {file} exists already; move it away, or pass overwrite=True.")
    return file


def _kind(attribute: Attribute) -> str:
    return "binary" if isinstance(attribute, str) else type(attribute).__name__.lower()


def _meaning(attribute: Attribute) -> dict[str, Any]:
    match attribute:
        case Categorical(_, classes):
            return {"classes": list(classes)}
        case Ordinal(_, levels):
            return {"levels": list(levels)}
        case Number():
            mean, std = attribute.moments
            return {"unit": attribute.unit, "mean": mean, "std": std}
    return {}


def _input(image: dict[str, Any]) -> str:
    height, width = image["size"]
    color = {1: "grey", 3: "red, green, blue"}.get(len(image["mean"]), f"{len(image['mean'])} channels")
    crop = image.get("crop", 1.0)
    kept_height, kept_width = crop if isinstance(crop, list | tuple) else (crop, crop)
    cut = (
        "the whole of it"
        if kept_height == kept_width == 1
        else f"its middle, {kept_height:g} of the height and {kept_width:g} of the width,"
    )
    return (
        f"images, float32 (batch, color, height, width). A picture is turned upright and brought to 8 bits, {color}; "
        f"{cut} is resized to {height} x {width} (height x width), bilinear with antialiasing (Pillow's "
        f"resize(..., BILINEAR, box)), divided by 255, then (value - mean) / std for each color, with mean "
        f"{image['mean']} and std {image['std']}."
    )


def _line(attribute: dict[str, Any]) -> str:
    first, last = attribute["columns"][0], attribute["columns"][-1]
    columns = f"column {first}" if first == last else f"columns {first} to {last}"
    told = "; ".join(f"{key} {attribute[key]}" for key in _MEANING if key in attribute)
    return f"{columns}: {attribute['name']} ({attribute['kind']}{'; ' if told else ''}{told})"
