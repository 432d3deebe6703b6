"""What a model's outputs mean, read from the metadata of its file, without torch."""

from typing import Any

import numpy as np

from mtattn.serving.session import Prediction


def as_json(prediction: Prediction, metadata: dict[str, Any], *, maps: bool) -> dict[str, Any]:
    """Put what a model says of a picture under its names, groups and attributes in the model's order.

    Under ``groups`` a yes-or-no attribute has its probability, a class or level one a choice, a number itself. Where
    there is more than yes or no at one half, ``answers`` says what the model answers (None: uncertain), and ``units``
    what its numbers are in.
    """
    groups: dict[str, dict[str, Any]] = {}
    answers: dict[str, bool | str | float | None] = {}
    attributes, decisions = attributes_of(metadata), metadata.get("decisions") or {}
    for attribute in attributes:
        name, group = attribute["name"], attribute["group"]
        values = prediction.logits[attribute["columns"]].astype(np.float64)
        if attribute["kind"] == "binary":
            values = values / decisions.get("temperatures", {}).get(group, 1.0)
        said = _meaning(attribute, values)
        groups.setdefault(group, {})[name] = said
        if isinstance(said, dict):
            answers[name] = _choice(attribute, values)
        elif attribute["kind"] == "binary":
            answers[name] = _decide(float(_sigmoid(values[0])), name, decisions)
        else:
            answers[name] = said
    answer: dict[str, Any] = {"groups": groups}
    if decisions or any(attribute["kind"] != "binary" for attribute in attributes):
        answer["answers"] = answers
        answer["units"] = {each["name"]: each["unit"] for each in attributes if each.get("unit")}
    if maps and prediction.maps is not None:
        columns = metadata.get("columns") or [attribute["name"] for attribute in attributes]
        answer["maps"] = dict(zip(columns, prediction.maps.astype(np.float64).round(4).tolist(), strict=True))
    return answer


def attributes_of(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    """List the attributes; files of older versions name them alone, and all of theirs are yes or no."""
    if "attributes" in metadata:
        told: list[dict[str, Any]] = metadata["attributes"]
        return told
    names = [(group, name) for group, members in metadata["groups"].items() for name in members]
    return [
        {"name": name, "group": group, "kind": "binary", "columns": [index]}
        for index, (group, name) in enumerate(names)
    ]


def description(metadata: dict[str, Any]) -> dict[str, Any]:
    """Describe each attribute as a client needs it: its kind, group, classes, levels or unit, and its thresholds."""
    decisions = metadata.get("decisions") or {}
    told = []
    for attribute in attributes_of(metadata):
        known = ("name", "group", "kind", "classes", "levels")
        shown: dict[str, Any] = {key: attribute[key] for key in known if key in attribute}
        if attribute["kind"] == "number":
            shown["unit"] = attribute.get("unit", "")
        if attribute["kind"] == "binary":
            shown["yes_above"] = decisions.get("thresholds", {}).get(attribute["name"], 0.5)
            shown["no_up_to"] = decisions.get("absent", {}).get(attribute["name"], shown["yes_above"])
        told.append(shown)
    goal = {"thresholds_for": decisions["goal"]} if decisions else {}
    return {"image": metadata["image"], **goal, "attributes": told}


def _decide(probability: float, name: str, decisions: dict[str, Any]) -> bool | None:
    threshold = decisions.get("thresholds", {}).get(name, 0.5)
    absent = decisions.get("absent", {}).get(name, threshold)
    return True if probability > threshold else None if probability > absent else False


def _meaning(attribute: dict[str, Any], values: np.ndarray) -> float | dict[str, float]:
    if attribute["kind"] == "number":
        return round(float(attribute["mean"] + attribute["std"] * values[0]), 4)
    if attribute["kind"] == "binary":
        return round(float(_sigmoid(values[0])), 4)
    if attribute["kind"] == "categorical":
        shares = np.exp(values - values.max())
        return dict(zip(attribute["classes"], (shares / shares.sum()).round(4).tolist(), strict=True))
    above = np.cumprod(_sigmoid(values))
    shares = np.append(1.0, above) - np.append(above, 0.0)
    return dict(zip(attribute["levels"], shares.round(4).tolist(), strict=True))


def _choice(attribute: dict[str, Any], values: np.ndarray) -> str:
    if attribute["kind"] == "categorical":
        chosen: str = attribute["classes"][int(values.argmax())]
        return chosen
    level: str = attribute["levels"][int((np.cumprod(_sigmoid(values)) > 0.5).sum())]
    return level


def _sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))
