"""What each column of a table is: proposed from names and values, and kept in a small file that a person edits."""

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtattn._files import read_text
from mtattn._rules import OBJECT, TEXT, Rule, check
from mtattn.data.images import readable_suffixes
from mtattn.data.table.reading import Table, refuse
from mtattn.data.table.values import propose_kind, says_parts
from mtattn.groups import Attribute, AttributeGroups, Categorical, Number, Ordinal, check_known

USUAL_NAMES = {
    "image": ("image", "file", "filename", "file_name", "image_id", "image_name", "path", "img", "picture", "photo"),
    "split": ("split", "partition", "subset", "set"),
    "person": ("person", "person_id", "identity", "subject", "subject_id", "celeb_id", "individual", "patient"),
}

_FORM = {
    "image": TEXT,
    "split": TEXT,
    "person": TEXT,
    "groups": Rule(
        lambda value: OBJECT.holds(value) and all(isinstance(members, list) for members in value.values()),
        "a table of lists of attributes",
    ),
    "left_out": OBJECT,
}


@dataclass(frozen=True)
class Plan:
    """What each column of a table is.

    Args:
        image: The column of image names.
        groups: The attributes; numbers need no mean and standard deviation yet.
        split: The column that says train, valid or test.
        person: The column of what must not be in two parts: a person, a scene, a patient.
        left_out: Why each other column is no attribute.

    Example:
        >>> Plan("image", AttributeGroups({"Hat": ["Hat"]}), person="who").person
        'who'
    """

    image: str
    groups: AttributeGroups
    split: str | None = None
    person: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> list[str]:
        """Tell the plan in lines of text."""
        roles = [("image", self.image), ("split", self.split), ("person", self.person)]
        lines = [f"{role}: column {column!r}" for role, column in roles if column is not None]
        binary = [kind for kind in self.groups.kinds if isinstance(kind, str)]
        lines += [f"yes or no: {', '.join(binary)}"] * bool(binary)
        lines += [_description(kind) for kind in self.groups.kinds if not isinstance(kind, str)]
        return lines + [f"left out: column {name!r}, {why}" for name, why in self.left_out.items()]


def propose(
    table: Table,
    *,
    image: str | None = None,
    split: str | None = None,
    person: str | None = None,
    attributes: Sequence[str] | None = None,
) -> Plan:
    """Propose what each column of a table is: those named as asked for, others by their usual names and values.

    Each attribute gets a group of its own: which of them belong together only a person knows.

    Args:
        table: The table.
        image: The column of image names; found by its usual names, or by its values, if None.
        split: The column that says train, valid or test; found by its usual names if None.
        person: The column of what must not be in two parts; found by its usual names if None.
        attributes: The columns that are attributes; all that can be if None.

    Raises:
        ValueError: A named column is not there, no column holds image names, or none is an attribute.

    Example:
        >>> table = Table("labels.csv", {"file": ["a.jpg", "b.jpg"], "Hat": ["1", "0"], "who": ["ann", "bob"]}, [2, 3])
        >>> propose(table, person="who").groups
        AttributeGroups({'Hat': ['Hat']})
    """
    named = {"image": image, "split": split, "person": person}
    asked = [column for column in named.values() if column is not None]
    check_known("propose", f"column in {table.source}", [*asked, *(attributes or ())], table.columns)
    free = [column for column in table.columns if column not in asked and column not in (attributes or ())]
    roles = {role: named[role] or _usual(role, free) for role in USUAL_NAMES}
    if roles["image"] is None:
        roles["image"] = next((column for column in free if _holds_images(table.cells[column])), None)
    if roles["image"] is None:
        raise ValueError(
            f"propose: a table has a column of image names, found none in {table.source}, which has "
            f"{', '.join(table.columns)}; name it with image=, on the command line --image-column."
        )
    taken = set(roles.values())
    wanted = attributes or [column for column in table.columns if column not in taken]
    splits = {column: "it says train, valid and test" for column in wanted if says_parts(table.cells[column])}
    kinds: dict[str, Attribute | None] = {
        column: propose_kind(column, table.cells[column]) for column in wanted if column not in splits
    }
    refuse(
        table.source,
        "an attribute has a few different values, or numbers",
        (
            f"{_many(table.cells[column])} in {column!r}"
            for column, kind in kinds.items()
            if kind is None and attributes
        ),
        "leave these columns out of the attributes",
        owner="propose",
    )
    found = {column: [kind] for column, kind in kinds.items() if kind is not None}
    if not found:
        raise ValueError(f"propose: no column of {table.source} is an attribute, got {', '.join(table.columns)}.")
    left_out = {column: _many(table.cells[column]) for column, kind in kinds.items() if kind is None} | splits
    if attributes:
        rest = [column for column in table.columns if column not in taken and column not in attributes]
        left_out |= dict.fromkeys(rest, "not asked for")
    return Plan(roles["image"], AttributeGroups(found), roles["split"], roles["person"], left_out)


def write_plan(file: str | os.PathLike[str], plan: Plan) -> None:
    """Write a plan as a small TOML file, to be looked at and changed by a person.

    Raises:
        FileExistsError: The file is there already.
    """
    lines = ["# What each column of the table is. Change what is wrong; mtattn train --config reads it.", ""]
    roles = {"image": plan.image, "split": plan.split, "person": plan.person}
    lines += [f"{role} = {json.dumps(column)}" for role, column in roles.items() if column is not None]
    lines += [
        "",
        "# Attributes that show in the same place belong into one group. A plain name says yes or no.",
        "[groups]",
    ]
    for name, members in plan.groups.to_plain().items():
        lines.append(f"{json.dumps(name)} = [{', '.join(map(_toml, members))}]")
    lines += ["", "[left_out]", *(f"{json.dumps(name)} = {json.dumps(why)}" for name, why in plan.left_out.items())]
    with Path(file).open("x", encoding="utf-8") as opened:
        opened.write("\n".join(lines) + "\n")


def read_plan(file: str | os.PathLike[str]) -> Plan:
    """Read what :func:`write_plan` wrote and a person changed.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file.
    """
    text = read_text("read_plan", Path(file))
    try:
        found = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"read_plan: {file} is no TOML file ({error}).") from error
    check_known("read_plan", f"key in {file}", found, ("image", "split", "person", "groups", "left_out"))
    for key in ("image", "groups"):
        if key not in found:
            raise ValueError(f"read_plan: {file} names the image column and the groups, got no {key!r}.")
    check(f"read_plan: {file}", found, _FORM)
    try:
        groups = {name: [_filled(member) for member in members] for name, members in found["groups"].items()}
        of_groups = AttributeGroups.from_plain(groups)
    except (TypeError, ValueError) as error:
        raise ValueError(f"read_plan: the groups in {file} cannot be: {error}") from error
    return Plan(found["image"], of_groups, found.get("split"), found.get("person"), found.get("left_out", {}))


def _filled(member: Any) -> Any:
    if isinstance(member, Mapping) and "number" in member:
        return {"unit": "", "mean": None, "std": None} | dict(member)
    return member


def _toml(member: Any) -> str:
    if isinstance(member, str):
        return json.dumps(member, ensure_ascii=False)
    pairs = (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in member.items() if value is not None)
    return "{ " + ", ".join(pairs) + " }"


def _usual(role: str, columns: Sequence[str]) -> str | None:
    lower = {column.lower().replace(" ", "_"): column for column in columns}
    return next((lower[name] for name in USUAL_NAMES[role] if name in lower), None)


def _holds_images(cells: Sequence[str]) -> bool:
    suffixes = tuple(readable_suffixes())
    return all(cell.lower().endswith(suffixes) for cell in cells)


def _many(cells: Sequence[str]) -> str:
    different = {cell for cell in cells if cell}
    if len(different) == 1:
        return f"{next(iter(different))!r} in every row"
    return f"{len(different)} different texts" if different else "empty"


def _description(kind: Attribute) -> str:
    match kind:
        case Categorical(name, classes):
            return f"one of {len(classes)} classes: {name} ({', '.join(classes)})"
        case Ordinal(name, levels):
            return f"one of {len(levels)} levels in this order: {name} ({', '.join(levels)})"
        case Number(name):
            return f"a number: {name}"
    return kind
