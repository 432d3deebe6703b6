"""Predict the attributes of single pictures with a trained model, and save where the evidence lies.

python examples/predict.py runs/celeba/model photo.jpg
python examples/predict.py runs/celeba/model *.jpg --maps maps
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch

from mtattn import FARAMTN
from mtattn.data import image_transform, read_image
from mtattn.recipes import HelpFormatter
from mtattn.report import FaceExample, plot_attribute_maps


def parse() -> Namespace:
    parser = ArgumentParser(description=__doc__.partition("\n")[0], formatter_class=HelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL", help="the folder of a saved model")
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="pictures, cropped like the training data"
    )
    parser.add_argument("--maps", type=Path, metavar="FOLDER", help="save a figure of attribute maps for each picture")
    parser.add_argument("--num-maps", type=int, default=6, help="maps of this many attributes, the likeliest first")
    return parser.parse_args()


@torch.no_grad()
def main(options: Namespace) -> None:
    model = FARAMTN.from_pretrained(options.model)
    transform = image_transform(**model.config["image"])
    for path in options.images:
        picture = read_image(path)
        maps = model.attribute_maps(transform(picture)[None])[0]
        probabilities = maps.mean((-2, -1)).sigmoid()  # the maps average to the logits
        print_table(path, model, probabilities)
        if options.maps is not None:
            face = FaceExample(
                image=image_transform(model.config["image"]["size"], mean=[0] * 3, std=[1] * 3)(picture),
                probabilities=probabilities,
                targets=torch.full_like(probabilities, torch.nan),
                maps=maps,
            )
            likeliest = probabilities.argsort(descending=True)[: options.num_maps]
            save_maps(options.maps / f"{path.stem}.png", model, face, likeliest.tolist())


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
    if file.exists():
        raise FileExistsError(f"{file} exists already; move it away, or give another folder with --maps.")
    file.parent.mkdir(parents=True, exist_ok=True)
    attributes = [model.groups.attributes[index] for index in indices]
    plot_attribute_maps([face], model.groups, attributes).savefig(file, dpi=150)
    print(f"  maps: {file}")


if __name__ == "__main__":
    try:
        main(parse())
    except (ValueError, OSError) as error:
        sys.exit(f"predict.py: {error}")
