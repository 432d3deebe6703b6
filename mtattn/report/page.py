"""report.html: one file that opens without network."""

import os
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, SupportsFloat

from mtattn._baselines import unlearnt_in_words
from mtattn._files import write_whole
from mtattn.ablation import Ablations
from mtattn.groups import AttributeGroups, Number
from mtattn.report import tables
from mtattn.report.ablation import ablation_sentences, shown_links
from mtattn.report.cards import face_cards
from mtattn.report.faces import FaceExample
from mtattn.report.figures import plot_attribute_bars, plot_links, plot_loss_left, plot_weights
from mtattn.report.kinds import Pairs, is_mixed, plot_confusion, plot_numbers, plot_skill_bars
from mtattn.report.numbers import percent
from mtattn.report.sentences import gap_sentence, headline
from mtattn.report.svg import inline_svg

_CARDS = {
    "mean_skill": "mean skill",
    "mean_accuracy": "mean accuracy",
    "majority_accuracy": "majority baseline",
    "mean_balanced_accuracy": "balanced accuracy",
    "mean_average_precision": "average precision",
    "mean_f1": "F1",
}
_READ_ALL = "All scores are means over the attributes, measured on the test split. Missing labels count nowhere."
_READ_BARS = (
    "Grey reaches to the baseline. Blue is what the model gains over it, orange what it loses to it, the number in "
    "brackets the difference in percentage points. On the left the baseline answers every image with the class that is "
    "more frequent in the training split. Plain accuracy rewards ignoring rare attributes: where 2 % of the people are "
    "bald, “never bald” is right for 98 % of them. Balanced accuracy, on the right, averages the shares of positives "
    "and of negatives that are recognised, so that answer gets 50 %."
)
_READ_SKILL = (
    "Skill is one scale for attributes of every kind: 0 % is the best answer without a look at the image, 100 % is no "
    "error at all, and below 0 the model is worse than that answer. For yes-or-no attributes and classes it follows "
    "from the balanced accuracy, for levels and numbers from the mean absolute error beside that of the median."
)
_READ_PAIRS = (
    "For classes and levels a row holds the images that are truly of one, and shows in percent what was said of them: "
    "the darker the diagonal the better. For numbers a point is an image: right predictions lie on the line."
)
_READ_TABLE = (
    "Average precision is the area under the precision-recall curve and asks only for the right order, not for the "
    "right threshold; a random order gets about the share of positives. A dash stands where the labels leave a score "
    "undefined. A click on a column's name sorts by it."
)
_READ_THRESHOLDS = (
    "The model says yes to an attribute where its probability is above a threshold of its own. It was chosen on the "
    "validation part and is saved with the model; these scores are those of the test part, which had no say in it. "
    "All other scores of this page are those at one half."
)
_READ_UNCERTAIN = (
    " Between two thresholds the answer is uncertain: the scores in this table count the other answers alone, and "
    "answered is their share."
)
_READ_SLICES = (
    "The same scores for parts of the test images, with the model's thresholds where it has some. Two values whose "
    "intervals overlap may differ by chance alone, and the largest of several gaps is larger than the true one; values "
    "with fewer than 20 images are told, but make no gap. Labels that are rare among some images move these scores too."
)
_READ_LOSS = (
    "The mean loss of a group in each epoch, divided by its mean loss in the first. Lines that fall together mean that "
    "the groups converge together; a line that stays above the others belongs to a group that has more left to learn."
)
_READ_WEIGHTS = (
    "The weight by which a group's loss was multiplied in each epoch; the weights average to 1, the grey line. A group "
    "above it counted for more than its share of the attributes."
)
_READ_ABLATIONS = (
    "What the trained model computes in a part is replaced by something simpler, and the scores of the test images are "
    "measured again. The score is the mean balanced accuracy; of attributes that are numbers, the share of the "
    "median's error that is avoided. In brackets is the 95 % interval, had the images differed. It tells what this "
    "model uses; a model trained without the part may make up for it."
)
_READ_LINKS = (
    "A row shows what a group gains by hearing each other group: by how many points the mean score of its attributes "
    "falls when it hears the same from it for all images, the mean. Below it stands the weight of the link in percent, "
    "averaged over images and heads. A large weight is no proof of influence."
)
_READ_MAPS = (
    "The parts of the picture that speak for an attribute (orange) and against it (blue). These maps are no "
    "approximation made afterwards: the cells of a map average exactly to the attribute's logit, from which the "
    "probability beneath it comes. Each cell is drawn at the middle of what it looks at, smoothly between; it has seen "
    "more of the picture than its surroundings. Each group is shown by the attribute that gains most over its "
    "baseline; the scale is the same for all pictures."
)
_HALF_A_PAGE = 5.8  # inches; beside another figure a wider one would have to be scrolled


def write_report(
    file: str | os.PathLike[str],
    *,
    title: str,
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    groups: AttributeGroups,
    ablations: Ablations | None = None,
    faces: Sequence[FaceExample] = (),
    predictions: Pairs | None = None,
    caution: str = "",
) -> None:
    """Write one HTML file that tells how a run went, for desktop and phone, light and dark, without network.

    Args:
        file: Where to write.
        title: What the run was.
        metrics: ``{"test": ..., "valid": ..., "settings": ..., "versions": ...}`` as in ``metrics.json``; every part
            but ``"test"`` may be absent, and undefined scores may be NaN or None. ``"unlearnt"`` lists the attributes
            without a training label.
        history: One mapping an epoch: ``"epoch"`` from 1, ``"learning_rate"``, ``"train_loss"``, ``"loss_left"`` and
            ``"weights"`` by group, ``"valid"`` with ``"loss"`` and mean scores, ``"images_per_second"``, ``"seconds"``.
        groups: The attributes in the order of every attribute axis.
        ablations: What each part of the model does on the test images; None leaves the section out.
        faces: A few test images; none leaves the section out.
        predictions: What was said and what is true of each attribute that is not binary, as
            :meth:`mtattn.metrics.AttributeMetrics.predictions` returns it; None leaves these figures out.
        caution: What everybody must know who reads scores on these data.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from mtattn.metrics import AttributeMetrics
        >>> file, groups = Path(tempfile.mkdtemp(), "report.html"), AttributeGroups({"mouth": ["Smiling"]})
        >>> metrics = AttributeMetrics(groups, train_rates=[0.5])
        >>> metrics.update(torch.randn(8, 1), torch.tensor([[0.0], [1.0]]).repeat(4, 1))
        >>> write_report(file, title="FAR-AMTN", metrics={"test": metrics.compute()}, history=[], groups=groups)
        >>> file.read_text(encoding="utf-8").splitlines()[0]
        '<!DOCTYPE html>'
    """
    test = metrics["test"]
    sections = [
        _section("Attributes", _bars(test, groups), tables.attribute_table(test, groups), _note(_READ_TABLE)),
        _section("Groups and splits", tables.group_table(test, groups), tables.split_table(metrics)),
        _thresholds(metrics["decisions"], test) if metrics.get("decisions") else "",
        _slices(metrics["slices"]) if metrics.get("slices") else "",
        _predictions(predictions, groups) if predictions is not None and is_mixed(groups) else "",
        _training(history) if history else "",
        _ablations(ablations, groups) if ablations is not None else "",
        _section("Where the evidence lies", face_cards(faces, test, groups), _note(_READ_MAPS)) if faces else "",
        _run(metrics),
    ]
    template = Template(files("mtattn.report").joinpath("template.html").read_text(encoding="utf-8"))
    said = [*headline(test), unlearnt_in_words(metrics.get("unlearnt", ())), caution]
    text = template.substitute(
        title=escape(title),
        headline="".join(f"<p>{escape(sentence)}</p>" for sentence in said if sentence),
        how_to_read=_note(_READ_ALL),
        cards="".join(_card(name, percent(test[key])) for key, name in _CARDS.items() if key in test),
        sections="".join(sections),
    )
    write_whole(file, text)


def _card(name: str, value: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def _note(text: str) -> str:
    return f'<p class="note"><b>How to read this.</b> {escape(text)}</p>'


def _figure(svg: str, note: str) -> str:
    return f'<figure><div class="scroll" tabindex="0">{svg}</div><figcaption>{_note(note)}</figcaption></figure>'


def _bars(test: Mapping[str, Any], groups: AttributeGroups) -> str:
    if is_mixed(groups):
        label = "Skill of each attribute, 0 is its baseline; the tables below have the numbers"
        return _figure(inline_svg(plot_skill_bars(test, groups), label), _READ_SKILL)
    label = "Accuracy and balanced accuracy of each attribute beside their baselines; the table below has the numbers"
    return _figure(inline_svg(plot_attribute_bars(test, groups), label), _READ_BARS)


def _thresholds(decisions: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    table = tables.threshold_table(decisions, test)
    kept = "; ".join(f"{name}: {why}" for name, why in decisions["kept"].items())
    read = _READ_THRESHOLDS + (_READ_UNCERTAIN if decisions.get("absent") else "")
    return _section("Thresholds", table, _note(read + (f" Kept at one half: {kept}." if kept else "")))


def _slices(slices: Mapping[str, Any]) -> str:
    parts = []
    for column, found in slices.items():
        parts.append(tables.slice_table(column, found))
        parts += [f"<p>{escape(sentence)}</p>" for sentence in [gap_sentence(column, found["gaps"])] if sentence]
    return _section("For whom it works", *parts, _note(_READ_SLICES))


def _predictions(pairs: Pairs, groups: AttributeGroups) -> str:
    figures = []
    for name, kind in zip(groups.attributes, groups.kinds, strict=True):
        if isinstance(kind, str) or not len(pairs[name][1]):
            continue
        said, truth = pairs[name]
        drawn = plot_numbers(said, truth, kind) if isinstance(kind, Number) else plot_confusion(said, truth, kind)
        label = f"What was predicted of {name} beside what is true; the table above has the scores"
        wide = ' class="wide"' if drawn.get_figwidth() > _HALF_A_PAGE else ""
        figures.append(f'<figure{wide}><div class="scroll" tabindex="0">{inline_svg(drawn, label)}</div></figure>')
    return _section("Predicted and true", f'<div class="pair">{"".join(figures)}</div>', _note(_READ_PAIRS))


def _training(history: Sequence[Mapping[str, Any]]) -> str:
    ends = ", ".join(f"{name} {_plain(left)}" for name, left in history[-1]["loss_left"].items())
    loss = inline_svg(plot_loss_left(history), f"Loss left of each group over the epochs; after the last epoch: {ends}")
    ends = ", ".join(f"{name} {_plain(weight)}" for name, weight in history[-1]["weights"].items())
    weights = inline_svg(plot_weights(history), f"Weight of each group over the epochs; in the last epoch: {ends}")
    pair = f'<div class="pair">{_figure(loss, _READ_LOSS)}{_figure(weights, _READ_WEIGHTS)}</div>'
    details = f"<details><summary>Each epoch in numbers</summary>{tables.epoch_table(history)}</details>"
    return _section("Training", _kept(history), pair, details)


def _kept(history: Sequence[Mapping[str, Any]]) -> str:
    """Say whose weights the model has, where the records tell; those of earlier versions do not."""
    last = history[-1]
    if "best_epoch" not in last:
        return ""
    score = _CARDS.get(last["select_by"], last["select_by"])
    said = f"The model has the weights of epoch {last['best_epoch']} of {len(history)}, the best by {score} on the"
    return f"<p>{escape(said)} validation part.</p>"


def _ablations(found: Ablations, groups: AttributeGroups) -> str:
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in ablation_sentences(found))
    parts = [said, tables.ablation_table(found.effects), _note(_READ_ABLATIONS)]
    if links := shown_links(found):
        strongest = min(links, key=lambda link: link.mean.value)
        label = f"What each group gains by hearing each other; most: {strongest.listener} hears {strongest.speaker}"
        parts.append(_figure(inline_svg(plot_links(links, groups, differing=found.differing), label), _READ_LINKS))
    return _section("What each part does here", *parts)


def _run(metrics: Mapping[str, Any]) -> str:
    parts = [
        tables.settings_table(name.capitalize(), metrics[name])
        for name in ("settings", "versions")
        if metrics.get(name)
    ]
    return _section("The run", *parts) if parts else ""


def _plain(value: SupportsFloat | None) -> str:
    return "unknown" if value is None else f"{float(value):.2f}"
