"""mtattn export."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import mtattn
from mtattn._arguments import HelpFormatter, at_least

if TYPE_CHECKING:
    from torch import Tensor

    from mtattn import FARAMTN

TOLERANCE = 1e-4  # logits; float32 sums in another order differ by less
BATCH_SIZE = 16
MOST_IMAGES = 512


def parser(prog: str) -> ArgumentParser:
    """Make the parser of the subcommand."""
    parser = ArgumentParser(
        prog,
        description="Export a trained model to one ONNX file that runs without torch, and check that it gives the same "
        "numbers.",
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", help="a run, the folder of a saved model, or its name on the hub")
    parser.add_argument("file", type=Path, metavar="FILE.onnx", help="where to write")
    parser.add_argument("--no-maps", action="store_true", help="leave the attribute maps out")
    parser.add_argument(
        "--fixed-size", action="store_true", help="for trunks made for one image size: ViTs, tf_ models"
    )
    parser.add_argument("--int8", type=Path, metavar="FILE.onnx", help="also write a copy with int8 convolutions")
    parser.add_argument("--calibrate-on", type=Path, metavar="FOLDER", help="training images that set int8's scales")
    parser.add_argument(
        "--num-images", type=at_least(1), help=f"how many of these images to use, at most; {MOST_IMAGES}"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    return parser


def main(options: Namespace) -> None:
    """Export, and check what was written."""
    if (options.int8 is None) != (options.calibrate_on is None):
        raise ValueError("--int8 and --calibrate-on go together: int8 is scaled on images of the training part.")
    if options.num_images is not None and options.calibrate_on is None:
        raise ValueError("--num-images says how many images of --calibrate-on to use; give both, or leave it out.")
    if options.int8 is not None and options.int8.absolute() == options.file.absolute():
        raise ValueError(f"--int8 writes a second file, got {options.file} for both; give it another name.")
    from mtattn.export import export_onnx, quantize_onnx  # noqa: PLC0415  brings torch, which --help does without
    from mtattn.models import find_model  # noqa: PLC0415

    model = mtattn.FARAMTN.from_pretrained(find_model(options.model))
    for file in (options.file, options.int8):
        if file is not None and file.exists() and not options.overwrite:
            raise FileExistsError(f"{file} exists already; move it away, or replace it with --overwrite.")
    images = (
        [] if options.calibrate_on is None else choose_images(options.calibrate_on, options.num_images or MOST_IMAGES)
    )
    export_onnx(
        model,
        options.file,
        maps=not options.no_maps,
        dynamic_size=not options.fixed_size,
        overwrite=options.overwrite,
    )
    check(model, options.file, dynamic_size=not options.fixed_size)
    print(f"{options.file}: {options.file.stat().st_size / 1e6:.1f} MB")
    if images:
        quantize_onnx(options.file, options.int8, batches(model, images), overwrite=options.overwrite)
        compare(model, options.file, options.int8, next(batches(model, images)))
        print(f"{options.int8}: {options.int8.stat().st_size / 1e6:.1f} MB, scaled on {len(images)} images")


def check(model: "FARAMTN", file: Path, *, dynamic_size: bool) -> None:
    """Compare the file with the model on some images, and print by how much they differ."""
    import torch  # noqa: PLC0415

    (height, width), num_colors = model.config["image"]["size"], len(model.config["image"]["mean"])
    sizes = [(1, height, width), (5, height, width), (2, height + 32, width + 16)]
    for batch, height, width in sizes[: 2 + dynamic_size]:
        images = torch.randn(batch, num_colors, height, width)
        with torch.inference_mode():
            expected = {"logits": model(images), "maps": model.attribute_maps(images)}
        for name, output in run(file, images).items():
            difference = float((output - expected[name]).abs().max())
            print(f"{tuple(images.shape)}: {name} of torch and onnxruntime differ by at most {difference:.1e}")
            if not difference <= TOLERANCE:
                file.unlink()  # nobody may take it for the model
                raise ValueError(
                    f"{file} differs from the model by {difference:.1e} in {name}, more than {TOLERANCE:.0e}."
                )


def compare(model: "FARAMTN", file: Path, quantized: Path, images: "Tensor") -> None:
    """Print how far the int8 copy is from the file."""
    before, after = run(file, images)["logits"], run(quantized, images)["logits"]
    difference = float((after - before).abs().mean())
    told = f"int8: logits differ by {difference:.3f} on average"
    if same := share_of_same_answers(model, before, after):
        told += f", {same[0] / same[1]:.1%} of the answers are the same"
    print(told)


def share_of_same_answers(model: "FARAMTN", before: "Tensor", after: "Tensor") -> tuple[int, int] | None:
    """Count the same answers of yes or no, class or level, and all of them; numbers are never quite the same."""
    from mtattn.decisions import Decisions, decisions_of  # noqa: PLC0415
    from mtattn.prediction import Prediction  # noqa: PLC0415

    decisions = decisions_of(model.config) or Decisions("one half")
    same = count = 0
    for rows in zip(before, after, strict=True):
        first, second = (Prediction(None, row, model.groups, decisions).answers for row in rows)
        chosen = [name for name, answer in first.items() if not isinstance(answer, float)]
        same, count = same + sum(first[name] == second[name] for name in chosen), count + len(chosen)
    return (same, count) if count else None


def run(file: Path, images: "Tensor") -> dict[str, "Tensor"]:
    """Give the outputs of a file by name."""
    import onnxruntime  # noqa: PLC0415
    import torch  # noqa: PLC0415

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, session.run(names, {"images": images.numpy()})), strict=True))


def choose_images(folder: Path, count: int) -> list[Path]:
    """Choose evenly spaced pictures of a folder, and of the folders in it."""
    from mtattn.data import find_images  # noqa: PLC0415

    files = find_images(folder).files
    count = min(count, len(files))
    return [files[index * len(files) // count] for index in range(count)]


def batches(model: "FARAMTN", files: list[Path]) -> Iterator["Tensor"]:
    """Prepare pictures as the model takes them."""
    import torch  # noqa: PLC0415

    from mtattn.prediction.pictures import preparation  # noqa: PLC0415

    prepare = preparation(**model.config["image"])
    for start in range(0, len(files), BATCH_SIZE):
        images = []
        for file in files[start : start + BATCH_SIZE]:
            if isinstance(image := prepare(file), OSError):
                raise image
            images.append(image)
        yield torch.stack(images)
