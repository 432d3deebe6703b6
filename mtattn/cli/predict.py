"""mtattn predict."""

import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import mtattn
from mtattn._arguments import HelpFormatter, at_least, mirror_option

if TYPE_CHECKING:
    from mtattn.prediction import Prediction


def parser(prog: str) -> ArgumentParser:
    """Make the parser of the subcommand."""
    parser = ArgumentParser(
        prog,
        description="Predict the attributes of pictures with a trained model, and save where the evidence lies.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model", metavar="MODEL", help="a run, the folder of a saved model, its name on the hub, or an ONNX file"
    )
    parser.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help="pictures, or folders of pictures, cropped like the training data",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the probabilities here in place of tables")
    parser.add_argument("--maps", type=Path, metavar="FOLDER", help="save a figure of attribute maps for each picture")
    parser.add_argument("--num-maps", type=at_least(1), default=6, help="maps of so many attributes, the likeliest")
    mirror_option(parser)
    parser.add_argument("--device", help="where to compute: cpu, cuda, cuda:1; a GPU where there is one")
    parser.add_argument("--batch-size", type=at_least(1), default=32, help="pictures computed at once")
    parser.add_argument("--workers", type=at_least(1), help="threads that read pictures; one a core")
    return parser


def main(options: Namespace) -> None:
    """Predict, and tell what could not be."""
    from mtattn.prediction import write_csv  # noqa: PLC0415  brings torch, which --help does without

    predictor = mtattn.Predictor(
        options.model,
        device=options.device,
        batch_size=options.batch_size,
        workers=options.workers,
        mirror=options.mirror,
    )
    images = list(find(options.images))
    if options.csv is not None and options.csv.exists():
        raise FileExistsError(f"{options.csv} exists already; move it away, or give another file with --csv.")
    figures = name_figures(images, options.maps) if options.maps is not None else {}
    predictions = predictor.predict([path for path, _ in images], maps=bool(figures))
    if figures:
        predictions = saving_maps(predictions, figures, options.num_maps)
    if options.csv is not None:
        num_predicted = write_csv(options.csv, predictor.groups, predictions)
    else:
        num_predicted = sum(map(print_table, predictions))
    for error in predictor.skipped:
        print(f"left out: {error}", file=sys.stderr)
    if options.csv is not None:
        print(f"{options.csv}: {num_predicted} of {len(images)} pictures")
    if not num_predicted:
        raise ValueError(f"none of the {len(images)} pictures could be read.")


def find(places: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Give the pictures named, and those in the folders named and within these, each with its path from there."""
    from mtattn.data import find_images  # noqa: PLC0415  brings torch, which --help does without

    for place in places:
        if not place.is_dir():
            yield place, Path(place.name)
            continue
        found = find_images(place)
        if found.note():
            print(f"{place}: {found.note()}", file=sys.stderr)
        yield from ((file, file.relative_to(place)) for file in found.files)


def name_figures(images: list[tuple[Path, Path]], folder: Path) -> dict[Path, Path]:
    """Give each picture the file of its maps, in the same folders within the new one; find now what would collide."""
    owners: dict[Path, Path] = {}
    for path, within in images:
        figure = folder / within.with_suffix(".png")
        if figure in owners:
            both = f"{owners[figure]} and {path}"
            raise ValueError(f"--maps needs a file of its own for each picture, got {figure} for {both}; rename one.")
        if figure.exists():
            raise FileExistsError(f"{figure} exists already; move it away, or give another folder with --maps.")
        owners[figure] = path
    return {path: figure for figure, path in owners.items()}


def print_table(prediction: "Prediction") -> int:
    """Print the probability and the answer of each attribute; return how many pictures that were."""
    print(prediction.source)
    answers, probabilities, texts = prediction.answers, prediction.probabilities, prediction.texts
    width = max(map(len, answers))
    for group, attributes in prediction.groups.items():
        print(f"  {group}")
        for name in attributes:
            answer, share = answers[name], probabilities.get(name)
            said = "uncertain" if answer is None else "yes" if answer else "no"
            print(f"    {name:{width}}  {f'{share:6.1%}  {said}' if isinstance(share, float) else texts[name]}")
    return 1


def saving_maps(
    predictions: Iterable["Prediction"], figures: dict[Path, Path], num_maps: int
) -> Iterator["Prediction"]:
    """Draw the maps of each picture's likeliest attributes, of a class that of the one said, and pass all on."""
    from mtattn.report import FaceExample, plot_attribute_maps  # noqa: PLC0415  brings matplotlib

    for prediction in predictions:
        yield prediction
        columns, file = prediction.groups.columns, figures[prediction.source]
        likeliest = sorted(prediction.answers, key=partial(_share, prediction), reverse=True)[:num_maps]
        shown = [_column(prediction, name) for name in likeliest]
        assert prediction.image is not None
        assert prediction.maps is not None  # both were asked for
        face = FaceExample(
            image=prediction.image,
            probabilities=prediction.logits.sigmoid(),
            targets=prediction.logits * math.nan,
            maps=prediction.maps,
            centres=prediction.centres,
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        captions = [[prediction.texts[name] for name in likeliest]]
        plot_attribute_maps([face], columns, shown, captions=captions).savefig(file, dpi=150)
        print(f"  maps: {file}")


def _share(prediction: "Prediction", name: str) -> float:
    """How likely an answer is; a number has no probability and comes last."""
    share = prediction.probabilities.get(name, -1.0)
    return max(share.values()) if isinstance(share, dict) else share


def _column(prediction: "Prediction", name: str) -> str:
    """Name the column whose map shows the answer best: of a class its own, of a level the nearest threshold."""
    columns, logits = prediction.groups.columns.attributes, prediction.logits
    place, answer = prediction.groups.columns_of(name), prediction.answers[name]
    if f"{name}={answer}" in columns[place]:
        return f"{name}={answer}"
    nearest: str = columns[place.start + int(logits[place].abs().argmin())]
    return nearest
