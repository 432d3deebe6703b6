"""What an exported file says of its model, read and checked without torch."""

import json
from typing import Any

from mtattn._rules import OBJECT, TEXT, Rule, are, check, check_decisions, check_image, is_centres, is_number, whole

_NAMES = Rule(lambda value: are(TEXT)(value) and len(value) > 0, "a list of names")
_CHOICES = Rule(lambda value: are(TEXT)(value) and len(value) > 1, "a list of at least two names")
_NUMBER = Rule(is_number, "a number")
_GROUPS = Rule(
    lambda value: (
        isinstance(value, dict) and len(value) > 0 and all(isinstance(of, list) and of for of in value.values())
    ),
    "an object of lists of attributes",
)
_KINDS = {"binary": (), "categorical": ("classes",), "ordinal": ("levels",), "number": ("mean", "std")}
_ATTRIBUTE = {
    "name": TEXT,
    "group": TEXT,
    "kind": Rule(lambda value: isinstance(value, str) and value in _KINDS, f"one of {', '.join(_KINDS)}"),
    "columns": Rule(lambda value: are(whole(0, 2**20))(value) and len(value) > 0, "a list of whole numbers"),
    "classes": _CHOICES,
    "levels": _CHOICES,
    "unit": TEXT,
    "mean": _NUMBER,
    "std": _NUMBER,
}
_METADATA = {"groups": _GROUPS, "image": OBJECT, "mtattn_version": TEXT, "columns": _NAMES}


def read_metadata(text: str, place: object) -> dict[str, Any]:
    """Read what stands in an exported file under ``mtattn``.

    Args:
        text: What stands there.
        place: The file.

    Raises:
        ValueError: It is damaged.
    """
    owner = f"what {place} says about its model is damaged"
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{owner}: {error}; export the model again.") from error
    check(owner, {"it": metadata}, {"it": OBJECT})
    check(owner, metadata, _METADATA, needs=("groups", "image", "mtattn_version"))
    check_image(owner, metadata["image"], needs=("size", "mean", "std"))
    if metadata.get("decisions") is not None:
        check_decisions(owner, metadata["decisions"])
    if metadata.get("map_centres") is not None and not is_centres(metadata["map_centres"]):
        raise ValueError(f"{owner}: map_centres are rows and columns of increasing numbers.")
    if "attributes" in metadata:
        _check_attributes(owner, metadata)
    elif not all(isinstance(name, str) for members in metadata["groups"].values() for name in members):
        raise ValueError(f"{owner}: groups list names where attributes are not told.")
    result: dict[str, Any] = metadata
    return result


def _check_attributes(owner: str, metadata: dict[str, Any]) -> None:
    attributes = metadata["attributes"]
    check(owner, metadata, {"attributes": Rule(are(OBJECT), "a list of objects")})
    places = []
    for each in attributes:
        check(owner, each, _ATTRIBUTE, within="attributes.", needs=("name", "group", "kind", "columns"))
        check(owner, each, _ATTRIBUTE, within="attributes.", needs=_KINDS[each["kind"]])
        choices = len(each.get("classes", each.get("levels", ())))
        if len(each["columns"]) != {"categorical": choices, "ordinal": choices - 1}.get(each["kind"], 1):
            raise ValueError(f"{owner}: attributes.columns of {each['name']!r} are too few or too many.")
        places += each["columns"]
    told = [name for name, members in metadata["groups"].items() for _ in members]
    if places != list(range(len(places))) or [each["group"] for each in attributes] != told:
        raise ValueError(f"{owner}: attributes are those of groups, with columns from 0 on, one after the other.")
    if len(metadata.get("columns", places)) != len(places):
        raise ValueError(f"{owner}: columns has a name for each of {len(places)} columns of the attributes.")


def num_columns(metadata: dict[str, Any]) -> int:
    """Count the outputs that the metadata tells of."""
    if "attributes" in metadata:
        return sum(len(each["columns"]) for each in metadata["attributes"])
    return sum(map(len, metadata["groups"].values()))
