"""Predict the attributes of pictures with a trained model, and save where the evidence lies.

python examples/predict.py runs/celeba/model photo.jpg
python examples/predict.py runs/celeba/model *.jpg --maps maps
python examples/predict.py runs/celeba/model folder --csv attributes.csv
"""

import csv
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from mtattn import FARAMTN
from mtattn.data import UnreadableImage, image_transform, read_image
from mtattn.recipes import HelpFormatter
from mtattn.report import FaceExample, plot_attribute_maps

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def parse() -> Namespace:
    parser = ArgumentParser(description=__doc__.partition("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="the folder of a saved model")
    parser.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help="pictures or folders, cropped like the training data",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the probabilities here in place of tables")
    parser.add_argument("--maps", type=Path, metavar="FOLDER", help="save a figure of attribute maps for each picture")
    parser.add_argument("--num-maps", type=int, default=6, help="maps of this many attributes, the likeliest first")
    return parser.parse_args()


def main(options: Namespace) -> None:
    model = FARAMTN.from_pretrained(options.model)
    images = list(find_images(options.images))
    figures = name_figures(images, options.maps)
    if options.csv is not None:
        write_csv(options.csv, model, figures, options)
        return
    for path, figure in figures:
        print_table(path, model, predict(model, path, figure, options))


def find_images(places: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Give the pictures named, and those in the folders named and within these, each with its path from there."""
    for place in places:
        if not place.is_dir():
            yield place, Path(place.name)
            continue
        found = sorted(file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES)
        if not found:
            raise FileNotFoundError(f"no images ({', '.join(SUFFIXES)}) in {place.absolute()}.")
        yield from ((file, file.relative_to(place)) for file in found)


def name_figures(images: list[tuple[Path, Path]], folder: Path | None) -> list[tuple[Path, Path | None]]:
    """Give each picture the file of its maps, in the same folders within the new one; find now what would collide."""
    if folder is None:
        return [(path, None) for path, _ in images]
    owners: dict[Path, Path] = {}
    for path, within in images:
        figure = folder / within.with_suffix(".png")
        if figure in owners:
            both = f"{owners[figure]} and {path}"
            raise ValueError(f"--maps needs a file of its own for each picture, got {figure} for {both}; rename one.")
        if figure.exists():
            raise FileExistsError(f"{figure} exists already; move it away, or give another folder with --maps.")
        owners[figure] = path
    return [(path, figure) for figure, path in owners.items()]


@torch.no_grad()
def predict(model: FARAMTN, path: Path, figure: Path | None, options: Namespace) -> torch.Tensor:
    picture = read_image(path)
    maps = model.attribute_maps(image_transform(**model.config["image"])(picture)[None])[0]
    probabilities = maps.mean((-2, -1)).sigmoid()  # the maps average to the logits
    if figure is not None:
        face = FaceExample(
            image=image_transform(model.config["image"]["size"], mean=[0] * 3, std=[1] * 3)(picture),
            probabilities=probabilities,
            targets=torch.full_like(probabilities, torch.nan),
            maps=maps,
        )
        likeliest = probabilities.argsort(descending=True)[: options.num_maps]
        save_maps(figure, model, face, likeliest.tolist())
    return probabilities


def write_csv(file: Path, model: FARAMTN, figures: list[tuple[Path, Path | None]], options: Namespace) -> None:
    """Write a row for each picture; one that cannot be read has none and is named."""
    if file.exists():
        raise FileExistsError(f"{file} exists already; move it away, or give another file with --csv.")
    num_rows = 0
    with file.open("w", newline="", encoding="utf-8") as opened:
        rows = csv.writer(opened)
        rows.writerow(["image", *model.groups.attributes])
        for path, figure in figures:
            try:
                probabilities = predict(model, path, figure, options)
            except UnreadableImage as error:
                print(f"left out: {error}", file=sys.stderr)
                continue
            rows.writerow([path, *(f"{probability:.4f}" for probability in probabilities.tolist())])
            num_rows += 1
    print(f"{file}: {num_rows} of {len(figures)} pictures")


def print_table(path: Path, model: FARAMTN, probabilities: torch.Tensor) -> None:
    print(path)
    width = max(map(len, model.groups.attributes))
    names = iter(zip(model.groups.attributes, probabilities.tolist(), strict=True))
    for group, attributes in model.groups.items():
        print(f"  {group}")
        for _ in attributes:
            name, probability = next(names)
            print(f"    {name:{width}}  {probability:6.1%}  {'yes' if probability > 0.5 else 'no'}")


def save_maps(file: Path, model: FARAMTN, face: FaceExample, indices: list[int]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    attributes = [model.groups.attributes[index] for index in indices]
    plot_attribute_maps([face], model.groups, attributes).savefig(file, dpi=150)
    print(f"  maps: {file}")


if __name__ == "__main__":
    try:
        main(parse())
    except (ValueError, OSError) as error:
        sys.exit(f"predict.py: {error}")
