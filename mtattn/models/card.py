"""The model card: the README.md of a saved model, written from its config and from the run that trained it."""

import hashlib
import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from mtattn._baselines import unlearnt_in_words
from mtattn.groups import AttributeGroups, Categorical, Number, Ordinal
from mtattn.groups.kinds import Attribute

CARD_FILE = "README.md"
_MARK = "<!-- mtattn wrote this card, and replaces it only while nobody has changed it: "
_SCORES = {
    "mean_accuracy": "accuracy",
    "majority_accuracy": "accuracy of the majority baseline",
    "gain": "gain over the baseline",
    "mean_balanced_accuracy": "balanced accuracy",
    "mean_average_precision": "average precision",
    "mean_f1": "F1",
    "mean_skill": "skill",
}
_PROGRAM = """import torch
from mtattn import FARAMTN
from mtattn.data import image_transform, read_image

model = FARAMTN.from_pretrained(".")
images = image_transform(**model.config["image"])(read_image("face.jpg"))[None]
with torch.no_grad():
"""
_READ_OUT = """    probabilities = model(images)[0].sigmoid()
    maps = model.attribute_maps(images)[0]  # where each logit comes from: it is the mean of its map
for name, probability in zip(model.groups.attributes, probabilities.tolist(), strict=True):
    print(f"{name}: {probability:.0%}")
"""
_READ_OUT_KINDS = """    outputs = model(images)  # one for each of model.groups.columns
    maps = model.attribute_maps(images)[0]  # where each output comes from: it is the mean of its map
for name, (said,) in model.groups.texts(outputs).items():
    print(f"{name}: {said}")
"""
_OF_GROUPS = ("accuracy", "majority_accuracy", "balanced_accuracy", "average_precision", "f1")
_PLACES = {"root", "output", "resume", "overwrite", "workers", "skip_unreadable", "skipped", "images"}
_NOISE = {
    "CelebA": "CelebA's labels are noisy: two annotators agree at 95 % or more on only 12 of its 40 attributes "
    "([arXiv 2210.07356](https://arxiv.org/abs/2210.07356)), and up to 40 % of the labels that tell of a beard are "
    "wrong; Big_Lips, Oval_Face and Pointy_Nose are hard for every method. Its pictures show celebrities, "
    "who do not look like everybody.",
    "LFWA": "LFWA's labels are noisy: a model that was trained on CelebA alone agrees with only 72 to 74 % of them. "
    "Its pictures are press photographs.",
    "FairFace": "FairFace's age, gender and race are what annotators saw in a picture, not facts about a person. "
    "Pairs of equal pictures in it disagree about them.",
    "PETA": "PETA's labels are what annotators saw in a picture, not facts about a person, and all images of a person "
    "have the same. Its official splits leak: most test images show a person who was seen in training.",
    "drawn faces": "This model has seen drawings only, never a photograph.",
}
_LICENCE = {
    "CelebA": "CelebA is for non-commercial research only, and so is this model. The code of mtattn is MIT.",
    "LFWA": "LFWA is for non-commercial research only, and so is this model. The code of mtattn is MIT.",
    "FairFace": "FairFace is CC BY 4.0; credit Karkkainen and Joo, WACV 2021. The code of mtattn is MIT.",
    "PETA": "PETA is for non-commercial research only, and so is this model. The code of mtattn is MIT.",
    "drawn faces": "MIT. The faces are drawn from avataaars by Pablo Stanley, free for personal and commercial use.",
}


def model_card(
    config: Mapping[str, Any], *, run: Mapping[str, Any] | None = None, title: str = "FAR-AMTN"
) -> ModelCard:
    """Write the card of a model.

    Args:
        config: The model's.
        run: What ``metrics.json`` of its run holds; only ``"test"`` must be there. None: no run is known.
        title: What the model is, the data after the word "on".

    Example:
        >>> model = FARAMTN(nn.Conv2d(3, 16, 4), 16, AttributeGroups({"mouth": ["Smiling"]}))
        >>> model_card(model.config, title="FAR-AMTN on drawn faces").data.license
        'mit'
    """
    data = title.partition(" on ")[2]
    known = next((name for name in _NOISE if data.endswith(name)), "")
    parts = Template(files("mtattn.models").joinpath("card.md").read_text(encoding="utf-8"))
    groups = AttributeGroups.from_plain(config["groups"])
    text = parts.substitute(
        title=_plain(title),
        model=_describe(config),
        version=config["mtattn_version"],
        groups=_table(["group", "attributes"], _members(groups)),
        usage=_usage(config, groups),
        measured=_measured(run, groups) if run else "Nothing is recorded: the model was saved without a run.",
        training=_training(run, data) if run else "Nothing is recorded: the model was saved without a run.",
        noise=_NOISE.get(known, "How noisy the labels behind this model are is not recorded."),
        config=json.dumps({key: value for key, value in config.items() if key != "groups"}, indent=2),
        licence=_LICENCE.get(known, "The code of mtattn is MIT. What holds for the weights follows from their data."),
    )
    metadata = _metadata(run, title, data, drawn=known == "drawn faces")
    unsigned = str(ModelCard(f"---\n{metadata.to_yaml()}\n---\n\n{text}"))
    return ModelCard(f"{unsigned}\n{_MARK}{_digest(unsigned)} -->\n")


def is_unchanged(card: Path) -> bool:
    """Tell whether a file is a card that was written here and that nobody has touched since."""
    before, mark, after = card.read_text(encoding="utf-8", errors="replace").rpartition(f"\n{_MARK}")
    return bool(mark) and after == f"{_digest(before)} -->\n"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _metadata(run: Mapping[str, Any] | None, title: str, data: str, *, drawn: bool) -> ModelCardData:
    measured = {score: _number(run["test"][score]) for score in _SCORES if score in run["test"]} if run else {}
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=re.sub(r"\W+", "-", data.lower()) or "unknown",
            dataset_name=data or "unknown",
            dataset_split="test",
            metric_type=score.removeprefix("mean_"),
            metric_name=_SCORES[score],
            metric_value=round(value, 4),
        )
        for score, value in measured.items()
        if not math.isnan(value)
    ]
    return ModelCardData(
        library_name="mtattn",
        pipeline_tag="image-classification",
        tags=["attribute-recognition", "multi-task-learning", "model_hub_mixin", "pytorch_model_hub_mixin"],
        license="mit" if drawn else "other",
        license_name=None if drawn else "see-the-card",
        model_name=title if results else None,
        eval_results=results or None,
    )


def _describe(config: Mapping[str, Any]) -> str:
    num_attributes, num_groups = sum(map(len, config["groups"].values())), len(config["groups"])
    backbone = f", on the backbone {config['backbone']['name']}" if "backbone" in config else ""
    return f"A network that reads {num_attributes} attributes in {num_groups} groups off an image{backbone}."


def _members(groups: AttributeGroups) -> list[list[str]]:
    kinds = iter(groups.kinds)
    return [[name, ", ".join(_kind(next(kinds)) for _ in members)] for name, members in groups.items()]


def _kind(attribute: Attribute) -> str:
    match attribute:
        case Categorical(name, classes):
            return f"{name} (one of {', '.join(classes)})"
        case Ordinal(name, levels):
            return f"{name} (a level: {' < '.join(levels)})"
        case Number(name, unit):
            return f"{name} (a number{f', in {unit}' if unit else ''})"
    return attribute


def _usage(config: Mapping[str, Any], groups: AttributeGroups) -> str:
    own = ["trunk"] * ("backbone" not in config)
    own += [part for part in ("shared", "heads") if config.get(f"own_{part}", False)]
    if own:
        passed = ", ".join(f"{part}={part}" for part in own)
        return (
            f'```python\nfrom mtattn import FARAMTN\n\nmodel = FARAMTN.from_pretrained(".", {passed})\n```\n\n'
            f"`.` is this folder; the name of a repository on the hub does as well. The model was built on a "
            f"{' and a '.join(own)} module of its own, not in this folder: build it as it was, and pass it."
        )
    (height, width), num_colors = config["image"]["size"], len(config["image"]["mean"])
    program, read = _PROGRAM + (_READ_OUT if groups.columns is groups else _READ_OUT_KINDS), ""
    if num_colors not in {1, 3}:
        program = program.replace(", read_image", "").replace('read_image("face.jpg")', "picture")
        read = f"`picture` has {num_colors} channels, read as for training. "
    return (
        f"```python\n{program}```\n\n`.` is this folder; the name of a repository on the hub does as well. {read}"
        f"{_seen(config['image'].get('crop', 1.0))} squeezed to {height} x {width} pixels (height first)."
    )


def _seen(crop: float | Sequence[float]) -> str:
    height, width = (crop, crop) if isinstance(crop, float | int) else crop
    if height == width == 1:
        return "The picture, not cut, is"
    return f"The middle of the picture, {height:.0%} of its height and {width:.0%} of its width, is"


def _measured(run: Mapping[str, Any], groups: AttributeGroups) -> str:
    test, intervals = run["test"], run["test"].get("intervals", {})
    values = dict(test)
    if "mean_accuracy" in test and "majority_accuracy" in test:
        values["gain"] = _number(test["mean_accuracy"]) - _number(test["majority_accuracy"])
    means = [
        [name, _percent(values[score]), _ends(intervals.get(score))]
        for score, name in _SCORES.items()
        if score in values
    ]
    parts = [
        "On the test split, in %, means over the attributes:",
        _table(["", "value", "95 % interval"], means),
        "The intervals are percentile bootstraps over the test images: they tell how far other images would move "
        "a number, not how far another seed would. The baseline answers every image with the class that is more "
        "frequent in training.",
        *filter(None, [_plain(unlearnt_in_words(run.get("unlearnt", ())))]),
    ]
    if groups.columns is groups:
        rows = [[name, *(_percent(scores[score]) for score in _OF_GROUPS)] for name, scores in test["groups"].items()]
        return "\n\n".join(
            [*parts, _table(["group", "accuracy", "baseline", "balanced accuracy", "average precision", "F1"], rows)]
        )
    rows = [
        [name, *_of_kind(kind, test["attributes"][name])]
        for name, kind in zip(groups.attributes, groups.kinds, strict=True)
    ]
    told = (
        "Of a number, and of the error in levels, the baseline is the median of training. Skill is 1 minus the error "
        "over the baseline's: 0 is knowing nothing, 100 is perfect."
    )
    return "\n\n".join([*parts[:2], f"{parts[2]} {told}", _table(["attribute", "measured", "baseline", "skill"], rows)])


def _of_kind(attribute: Attribute, scores: Mapping[str, float | None]) -> list[str]:
    measured = [f"accuracy {_percent(scores['accuracy'])} %"] if "accuracy" in scores else []
    baseline = [f"{_percent(scores['majority_accuracy'])} %"] if "majority_accuracy" in scores else []
    if "within_one" in scores:
        measured += [f"within one level {_percent(scores['within_one'])} %"]
    if "mean_absolute_error" in scores:
        unit = f" {attribute.unit}".rstrip() if isinstance(attribute, Number) else " levels"
        measured += [f"mean absolute error {_digits(scores['mean_absolute_error'])}{unit}"]
        baseline += [f"{_digits(scores['median_error'])}{unit}"]
    return [", ".join(measured), ", ".join(baseline), _percent(scores["skill"])]


def _training(run: Mapping[str, Any], data: str) -> str:
    settings, versions = run.get("settings", {}), run.get("versions", {})
    rows = [["data", data]] if data else []
    rows += [[f"images, {use}", f"{count:,}"] for use, count in settings.get("images", {}).items()]
    rows += [[f"left out, {use}", str(len(paths))] for use, paths in settings.get("skipped", {}).items()]
    # a file's name only: where it lies on somebody's machine is nobody's business
    told = {name: value for name, value in settings.items() if name not in _PLACES and value is not None}
    rows += [[name.replace("_", " "), _without_place(value)] for name, value in told.items()]
    return _table(["setting", "value"], [*rows, *([f"version of {name}", value] for name, value in versions.items())])


def _without_place(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ", ".join(map(_without_place, value))
    return Path(str(value)).name


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Let Markdown and HTML show a text as it stands, on one line."""
    return re.sub(r"([\\`*\[\]|$]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _percent(value: float | None) -> str:
    return "\N{EN DASH}" if math.isnan(_number(value)) else f"{100 * _number(value):.1f}"


def _digits(value: float | None) -> str:
    return "\N{EN DASH}" if math.isnan(_number(value)) else f"{_number(value):.3g}"


def _ends(ends: Sequence[float | None] | None) -> str:
    return " to ".join(map(_percent, ends)) if ends else ""
