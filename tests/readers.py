"""Every file of a stranger that the library reads, in small and sound, for tests that damage it.

``tests/test_fuzz.py`` and ``tests/guided_fuzz.py`` damage them.
"""

import hashlib
import json
import sys
from argparse import Namespace
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from serving import write_model
from settings import perturbed, tiny
from test_data_lfwa import NAMES, write_indices, write_labels
from test_data_pa100k import write as write_pa100k
from test_data_peta_mat import write as write_peta

from mtattn import AttributeGroups
from mtattn.cli import evaluate
from mtattn.data import LFWA, PA100K, PETA, CelebA, FairFace, LFWPairs, TableImages, read_image
from mtattn.data.table import Plan, propose, read_plan, read_table, write_plan
from mtattn.export import read_onnx_metadata
from mtattn.functional import draw_maps
from mtattn.models import find_model
from mtattn.models.backbones import build_backbone
from mtattn.prediction import Predictor
from mtattn.recipes.output import check_output
from mtattn.serving.pictures import FORMATS as SENT
from mtattn.serving.pictures import RefusedPicture, read_picture
from mtattn.training.checkpoints import MANIFEST_FILE, load_checkpoint

OWN = (ValueError, TypeError, OSError)  # and what inherits from them


@dataclass(frozen=True)
class Reader:
    """A file, how to write a folder with a sound one, how to read it, and what a damage may consist of."""

    file: str
    write: Any
    read: Any
    words: tuple[bytes, ...] = ()
    names: tuple[str, ...] = ()  # what an error may name in place of the file
    put: Any = None  # what else has to follow the file

    def damage(self, folder, data):
        (folder / self.file).write_bytes(data)
        if self.put:
            self.put(folder, data)


CELEBA = ["000001.jpg", "000002.jpg", "000003.jpg"]
TEXT = (b"\n", b"\r", b" ", b"-1", b"0", b"1", b"2", b"\0", b"\xff", b"\xef\xbb\xbf", b"9" * 30, b"000001.jpg")
CELLS = (*TEXT, b",", b";", b"\t", b"|", b'"', b'""', b"nan", b"inf", b"1e400", b"=1+1", b"../x.png", b"\xff\xfe")
JSON = (
    b"{",
    b"}",
    b"[",
    b"]",
    b"[" * 3000,
    b'{"a":' * 3000,
    b"null",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 400,
    b"true",
    b'""',
    b'"\\ud800"',
    b'"\\u0000"',
    b"\xff",
    b",",
    b":",
)
TOML = (*JSON, b"=", b"\n", b"[groups]\n", b"a = [[1]]\n", b"[a.b.c]\n", b"{ number = 1 }", b"1979-05-27", b"'''")
PLAN = Plan("image", AttributeGroups({"head": ["Hat"]}), split="split")


def pictures(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name)


def write_celeba(folder):
    pictures(folder / "img_align_celeba", CELEBA)
    rows = [f"{name}  1 -1" for name in CELEBA]
    (folder / "list_attr_celeba.txt").write_text("\n".join(["3", "Smiling Hat", *rows]) + "\n")
    parts = [f"{name} {part}" for part, name in enumerate(CELEBA)]
    (folder / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")


def write_celeba_csv(folder):
    pictures(folder / "img_align_celeba", CELEBA)
    rows = [f"{name},1,-1" for name in CELEBA]
    (folder / "list_attr_celeba.csv").write_text("\n".join(["image_id,Smiling,Hat", *rows]) + "\n")
    parts = [f"{name},{part}" for part, name in enumerate(CELEBA)]
    (folder / "list_eval_partition.csv").write_text("\n".join(["image_id,partition", *parts]) + "\n")


TABLE = "image,Hat,age,hair,split,who\n" + "".join(
    f"{name},{index % 2},{index},{'red' if index else 'black'},{part},p{index}\n"
    for index, (name, part) in enumerate(zip(CELEBA, ("train", "valid", "test"), strict=True))
)


def write_table(folder):
    pictures(folder, CELEBA)
    (folder / "labels.csv").write_text(TABLE)


def write_parquet(folder):
    import pandas as pd

    write_table(folder)
    pd.read_csv(folder / "labels.csv").to_parquet(folder / "labels.parquet")


def read_own(file):
    table = read_table(file)
    return TableImages(table, file.parent, propose(table)).targets


def write_config(folder):
    write_table(folder)
    write_plan(folder / "plan.toml", PLAN)


def read_config(folder):
    return TableImages(folder / "labels.csv", folder, read_plan(folder / "plan.toml")).targets


def write_lfwa(folder):
    write_labels(folder)
    write_indices(folder)
    pictures(folder / "lfw", [name.replace("\\", "/") for name in NAMES])


def write_peta_mat(folder):
    pictures(folder, [f"images/{number:05}.png" for number in (1, 2, 3)])
    write_peta(folder)


def write_annotation(folder):
    pictures(folder / "data", [f"{number:06}.jpg" for number in range(1, 5)])
    write_pa100k(folder)


def write_csv(name, header, rows):
    def write(folder):
        pictures(folder, [row.partition(",")[0] for row in rows])
        (folder / name).write_text("\n".join([header, *rows]) + "\n")

    return write


def write_pairs(folder):
    pictures(folder / "lfw", ["a/a_0001.jpg", "a/a_0002.jpg", "b/b_0001.jpg"])
    (folder / "pairs.txt").write_text("1 1\na 1 2\na 1 b 1\n")


def write_saved(folder):
    torch.manual_seed(0)
    model = perturbed(tiny())
    model.config["image"] |= {"size": [64, 64], "crop": 0.9}
    model.config["decisions"] = {
        "goal": "f1",
        "temperatures": {"nose": 1.5},
        "thresholds": {"Big_Nose": 0.3},
        "kept": {"Goatee": "too few"},
        "absent": {"Big_Nose": 0.2},
    }
    model.config["map_centres"] = {"size": [64, 64], "rows": [0.25, 0.75], "columns": [0.25, 0.75]}
    model.save_pretrained(folder / "model")


def use(model):
    """Answer with a model, in every way that reads what stands beside its weights."""
    (prediction,) = Predictor(model, workers=1).predict([Image.new("RGB", (9, 9))], maps=True)
    if prediction.centres is not None:
        draw_maps(prediction.maps, (9, 9), prediction.centres)
    return prediction.probabilities, prediction.answers, prediction.texts


def read_saved(folder):
    return use(find_model(folder))


SMALLEST = {"layers": [1, 1, 1, 1], "channels": [2, 2, 2, 2]}


def write_weights(suffix):
    def write(folder):
        torch.manual_seed(0)
        state = timm.create_model("resnet18", num_classes=0, **SMALLEST).state_dict()
        if suffix == "pth":
            torch.save(state, folder / "weights.pth")
        else:
            save_file(state, folder / "weights.safetensors")

    return write


def read_weights(suffix):
    return lambda folder: build_backbone("resnet18", options=SMALLEST, weights=folder / f"weights.{suffix}")


def write_onnx(folder):
    write_model(
        folder / "model.onnx", centres={"rows": [0.2, 0.4, 0.6, 0.8], "columns": [0.1, 0.3, 0.5, 0.7, 0.8, 0.9]}
    )


def read_onnx(folder):
    read_onnx_metadata(folder / "model.onnx")
    return use(folder / "model.onnx")


def write_metadata(folder):
    """The metadata of an ONNX file, as a file of its own."""
    write_onnx(folder)
    (folder / "metadata.json").write_text(json.dumps(read_onnx_metadata(folder / "model.onnx")))


def put_metadata(folder, data):
    model = onnx.load(folder / "model.onnx")
    del model.metadata_props[:]
    model.metadata_props.add(key="mtattn", value=data.decode(errors="replace"))
    onnx.save(model, folder / "model.onnx")


def write_run(folder):
    (folder / "run/model").mkdir(parents=True)
    (folder / "run/settings.json").write_text(json.dumps({"epochs": 2, "seed": 0, "num_processes": 1}))


def read_run(folder):
    options = Namespace(output=folder / "run", resume=True, overwrite=False, epochs=2, seed=0)
    return check_output(options)


def write_split(folder):
    write_table(folder)
    (folder / "run").mkdir()
    (folder / "run/split.csv").write_text("image,split\n000001.jpg,train\n000002.jpg,test\n000003.jpg,test\n")


def read_split(folder):
    return evaluate._parts(
        Namespace(model=folder / "run"), TableImages(folder / "labels.csv", folder, Plan("image", PLAN.groups))
    )


class Process:
    """What load_checkpoint needs of an Accelerator."""

    is_main_process = True

    def print(self, *_):
        pass

    def load_state(self, _):
        pass


CHECKPOINT = "run/checkpoints/epoch-0001"


def write_checkpoint(folder):
    (folder / CHECKPOINT).mkdir(parents=True)
    (folder / CHECKPOINT / "history.json").write_text('[{"epoch": 1, "loss": 0.5, "weights": {"nose": 1.0}}]')
    put_history(folder, (folder / CHECKPOINT / "history.json").read_bytes())


def put_history(folder, data):
    begun = {"epochs": 2, "groups": [["nose", ["Big_Nose"]]], "batch_size": 8}
    files = {"history.json": hashlib.sha256(data).hexdigest()}
    (folder / CHECKPOINT / MANIFEST_FILE).write_text(json.dumps({"begun": begun, "files": files}))


def read_checkpoint(folder):
    return load_checkpoint(Process(), folder / "run/checkpoints", {"epochs": 2, "batch_size": 8})


def write_picture(form, mode="RGB", **options):
    def write(folder):
        Image.effect_noise((16, 16), 50).convert(mode).save(folder / "picture", form, **options)

    return write


def read_sent(folder):
    try:
        return read_picture((folder / "picture").read_bytes())
    except RefusedPicture as error:
        raise ValueError(f"picture: {error}") from error  # it has no name


FORMS = {
    "JPEG": {},
    "PNG": {},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {},
    "PPM": {},
    "TGA": {},
    "ICO": {},
    "PCX": {},
    "SGI": {},
    "JPEG2000": {},
}

READERS = {
    "CelebA labels": Reader("list_attr_celeba.txt", write_celeba, lambda f: CelebA(f, "all").targets, TEXT),
    "CelebA parts": Reader("list_eval_partition.txt", write_celeba, lambda f: CelebA(f, "train").targets, TEXT),
    "CelebA labels csv": Reader("list_attr_celeba.csv", write_celeba_csv, lambda f: CelebA(f, "all").targets, CELLS),
    "CelebA parts csv": Reader("list_eval_partition.csv", write_celeba_csv, lambda f: CelebA(f, "train"), CELLS),
    "table": Reader("labels.csv", write_table, lambda f: read_own(f / "labels.csv"), CELLS),
    "parquet": Reader("labels.parquet", write_parquet, lambda f: read_own(f / "labels.parquet")),
    "columns": Reader("plan.toml", write_config, read_config, TOML, names=("labels.csv",)),
    "LFWA labels": Reader("lfw_att_40.mat", write_lfwa, lambda f: LFWA(f, "train").targets),
    "LFWA halves": Reader("indices_train_test.mat", write_lfwa, lambda f: LFWA(f, "train").targets),
    "annotation.mat": Reader("annotation.mat", write_annotation, lambda f: PA100K(f, "train").targets),
    "PETA.mat": Reader("PETA.mat", write_peta_mat, lambda f: PETA(f, "train").targets),
    "peta.csv": Reader(
        "peta.csv",
        write_csv("peta.csv", "image,split,personalMale,age", ["1.png,train,1,16-30", "2.png,test,0,"]),
        lambda f: PETA(f, "train", attributes=["age", "personalMale"]).targets,
        CELLS,
    ),
    "fairface.csv": Reader(
        "fairface.csv",
        write_csv("fairface.csv", "image,split,age,gender,race", ["1.jpg,val,3-9,Female,Indian", "2.jpg,train,,Male,"]),
        lambda f: FairFace(f, "all").targets,
        CELLS,
    ),
    "pairs": Reader("pairs.txt", write_pairs, lambda f: LFWPairs(f).same, (*TEXT, b"a 1 2\n", b"\xc2\xb2")),
    "config": Reader(
        "model/config.json", write_saved, lambda f: read_saved(f / "model"), JSON, ("model", "draw_maps: ")
    ),
    "weights": Reader("model/model.safetensors", write_saved, lambda f: read_saved(f / "model"), JSON, (" is NaN",)),
    "backbone.pth": Reader("weights.pth", write_weights("pth"), read_weights("pth")),
    "backbone.safetensors": Reader(
        "weights.safetensors", write_weights("safetensors"), read_weights("safetensors"), JSON
    ),
    "onnx": Reader("model.onnx", write_onnx, read_onnx),
    "metadata": Reader("metadata.json", write_metadata, read_onnx, JSON, ("model.onnx",), put_metadata),
    "settings": Reader("run/settings.json", write_run, read_run, JSON, names=("run",)),
    "split": Reader("run/split.csv", write_split, read_split, CELLS),
    "manifest": Reader(f"{CHECKPOINT}/{MANIFEST_FILE}", write_checkpoint, read_checkpoint, JSON, ("epoch-0001",)),
    "history": Reader(
        f"{CHECKPOINT}/history.json", write_checkpoint, read_checkpoint, JSON, ("epoch-0001",), put_history
    ),
} | {
    f"{form} {what}": Reader("picture", write_picture(form, **options), read)
    for form, options in FORMS.items()
    for what, read in (("picture", lambda f: read_image(f / "picture")), ("upload", read_sent))
    if what == "picture" or form in SENT
}


def flaw(reader, folder):
    """Read, and say what is wrong with how a damaged file was refused; None if it was read, or refused as promised."""
    try:
        reader.read(folder)
    except OWN as error:
        named = (Path(reader.file).name, str(folder), *reader.names)  # or what lies beside it, such as a picture
        if isinstance(error, UnicodeError) or not any(name in str(error) for name in named):
            return f"{type(error).__name__} does not name {reader.file}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


_WATCHED: list[str] | None = None


def _watch(event, arguments):
    if _WATCHED is None:
        return
    if event == "open":
        file, mode, flags = arguments
        if isinstance(file, str | bytes | Path) and (set(mode or "") & set("wxa+") or (mode is None and flags & 3)):
            _WATCHED.append(f"{event} {file}")
    elif event in {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "subprocess.Popen", "os.system", "socket.connect"}:
        _WATCHED.append(f"{event} {arguments}")


sys.addaudithook(_watch)


@contextmanager
def watched():
    """Note what is written, deleted, started or connected to meanwhile."""
    global _WATCHED  # noqa: PLW0603  an audit hook stays for ever
    noted: list[str] = []
    _WATCHED = noted
    try:
        yield noted
    finally:
        _WATCHED = None
