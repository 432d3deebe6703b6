"""Export a trained model to one ONNX file that runs without torch, and check that it gives the same numbers.

python examples/export.py runs/celeba face.onnx
python examples/export.py runs/celeba face.onnx --int8 face-int8.onnx --calibrate-on path/to/training/images
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import torch

from mtattn import FARAMTN
from mtattn.data import image_transform, read_image
from mtattn.export import export_onnx, quantize_onnx
from mtattn.recipes import HelpFormatter, at_least

TOLERANCE = 1e-4  # logits; float32 sums in another order differ by less
BATCH_SIZE = 16


def parse() -> Namespace:
    parser = ArgumentParser(description=__doc__.partition("\n")[0], formatter_class=HelpFormatter, allow_abbrev=False)
    parser.add_argument("model", type=Path, metavar="FOLDER", help="a finished run, or the folder of a saved model")
    parser.add_argument("file", type=Path, metavar="FILE.onnx", help="where to write")
    parser.add_argument("--no-maps", action="store_true", help="leave the attribute maps out")
    parser.add_argument(
        "--fixed-size", action="store_true", help="for trunks made for one image size: ViTs, tf_ models"
    )
    parser.add_argument("--int8", type=Path, metavar="FILE.onnx", help="also write a copy with int8 convolutions")
    parser.add_argument("--calibrate-on", type=Path, metavar="FOLDER", help="training images that set int8's scales")
    parser.add_argument("--num-images", type=at_least(1), default=512, help="how many of these images to use, at most")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    options = parser.parse_args()
    if (options.int8 is None) != (options.calibrate_on is None):
        parser.error("--int8 and --calibrate-on go together: int8 is scaled on images of the training part")
    return options


def main(options: Namespace) -> None:
    saved = options.model / "model"  # of a run
    model = FARAMTN.from_pretrained(saved if saved.is_dir() else options.model)
    for file in (options.file, options.int8):
        if file is not None and file.exists() and not options.overwrite:
            raise FileExistsError(f"{file} exists already; move it away, or replace it with --overwrite.")
    maps, dynamic_size = not options.no_maps, not options.fixed_size
    images = [] if options.calibrate_on is None else find_images(options.calibrate_on, options.num_images)
    export_onnx(model, options.file, maps=maps, dynamic_size=dynamic_size, overwrite=options.overwrite)
    height, width = model.config["image"]["size"]
    for shape in [(1, 3, height, width), (5, 3, height, width), (2, 3, height + 32, width + 16)][: 2 + dynamic_size]:
        check(model, options.file, torch.randn(shape))
    print(f"{options.file}: {options.file.stat().st_size / 1e6:.1f} MB")
    if images:
        quantize_onnx(options.file, options.int8, batches(model, images), overwrite=options.overwrite)
        compare(options.file, options.int8, next(batches(model, images)))
        print(f"{options.int8}: {options.int8.stat().st_size / 1e6:.1f} MB, scaled on {len(images)} images")


@torch.no_grad()
def check(model: FARAMTN, file: Path, images: torch.Tensor) -> None:
    """Compare the file with the model on some images, and print by how much they differ."""
    expected = {"logits": model(images), "maps": model.attribute_maps(images)}
    for name, output in run(file, images).items():
        difference = float((output - expected[name]).abs().max())
        print(f"{tuple(images.shape)}: {name} of torch and onnxruntime differ by at most {difference:.1e}")
        if not difference <= TOLERANCE:
            raise ValueError(f"{file} differs from the model by {difference:.1e} in {name}, more than {TOLERANCE:.0e}.")


def compare(file: Path, quantized: Path, images: torch.Tensor) -> None:
    before, after = run(file, images)["logits"], run(quantized, images)["logits"]
    same = ((before > 0) == (after > 0)).float().mean()
    difference = float((after - before).abs().mean())
    print(f"int8: logits differ by {difference:.3f} on average, {same:.1%} of the answers are the same")


def run(file: Path, images: torch.Tensor) -> dict[str, torch.Tensor]:
    import onnxruntime  # noqa: PLC0415  only now: --help needs none

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, session.run(names, {"images": images.numpy()})), strict=True))


def find_images(folder: Path, count: int) -> list[Path]:
    """Choose evenly spaced files of a folder, and of the folders in it."""
    suffixes = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in suffixes)
    if not files:
        raise FileNotFoundError(
            f"no images ({', '.join(suffixes)}) in {folder.absolute()}; give another --calibrate-on."
        )
    count = min(count, len(files))
    return [files[index * len(files) // count] for index in range(count)]


def batches(model: FARAMTN, files: list[Path]) -> Iterator[torch.Tensor]:
    transform = image_transform(**model.config["image"])
    for start in range(0, len(files), BATCH_SIZE):
        yield torch.stack([transform(read_image(file)) for file in files[start : start + BATCH_SIZE]])


if __name__ == "__main__":
    try:
        main(parse())
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"export.py: {error}")
