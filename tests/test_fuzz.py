"""Whatever is done to a file: it is read, or refused by an error of ours that names it, and nothing else happens.

``tests/readers.py`` lists the files; ``MTATTN_FUZZ=20000 pytest tests/test_fuzz.py`` tries so many damages of each.
"""

import contextlib
import copy
import json
import os
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

for package in ("h5py", "onnx", "onnxruntime", "pandas", "pyarrow", "scipy"):
    pytest.importorskip(package, reason="the extras recipes, tables and serve are not installed")

from readers import OWN, READERS, flaw, watched  # noqa: E402

from mtattn.data import LFWA, PETA  # noqa: E402
from mtattn.data.mat import read_mat  # noqa: E402
from mtattn.data.table import read_plan, read_table  # noqa: E402

NASTY = [None, True, -1, 0, 1, 3, 0.5, 10**400, 1e308, float("nan"), float("inf"), "", "x", "\ud800", "\0", "../x"]
NASTY += ["hf-hub:a/b", [], {}, [[]], [1, 2], [0.5], ["a", "a"], {"a": 1}, {"categorical": "x", "classes": ["a", "b"]}]
NASTY += [{"number": "n", "unit": "", "mean": 0, "std": 1}, 2**16, 2**31, 2**63, "64", [64, 64], [1, 1, 1]]


def places(value, path=()):
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


@st.composite
def changed(draw, sound):
    """JSON with other values, more or fewer of them."""
    value = json.loads(sound)
    for _ in range(draw(st.integers(1, 3))):
        path, new = draw(st.sampled_from(list(places(value)))), copy.deepcopy(draw(st.sampled_from(NASTY)))
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        if not path:
            value = new if draw(st.integers(0, 9)) == 0 else value
        elif draw(st.integers(0, 4)) == 0:
            del holder[path[-1]]
        elif isinstance(holder, list) and draw(st.integers(0, 4)) == 0:
            holder.append(new)
        else:
            holder[path[-1]] = new
    return json.dumps(value).encode()


@st.composite
def damaged(draw, sound, words):
    """The same bytes with some left out, others put in, and perhaps cut short."""
    data = bytearray(sound)
    new = st.binary(max_size=8) | st.sampled_from(words or (b"",))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.sampled_from([0, 1, 1, 2, 4, 8, 50]))] = draw(new)
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 6)) == 0 else data)


@pytest.fixture(scope="module")
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    READERS[request.param].write(folder)
    return folder


def listed(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


MANY = os.environ.get("MTATTN_FUZZ")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("folder", "name"), [(name, name) for name in READERS], ids=list(READERS), indirect=["folder"])
def test_a_damaged_file_is_read_or_refused_and_nothing_else_happens(folder, name):
    reader = READERS[name]
    reader.read(folder)
    sound, there = (folder / reader.file).read_bytes(), listed(folder)
    damage = damaged(sound, reader.words)
    if reader.file.endswith(".json"):
        damage |= changed(sound)

    @settings(max_examples=int(MANY or 12), derandomize=MANY is None, database=None)
    @given(damage)
    def damage_and_read(data):
        reader.damage(folder, data)
        with watched() as noted:
            wrong = flaw(reader, folder)
        assert wrong is None
        assert noted == []

    try:
        damage_and_read()
    finally:
        reader.damage(folder, sound)
    assert listed(folder) == there


def test_what_is_watched_is_noted(tmp_path):
    with watched() as noted:
        (tmp_path / "a").write_text("a")
        (tmp_path / "a").read_text()
        (tmp_path / "a").unlink()
    assert [line.partition(" ")[0] for line in noted] == ["open", "os.remove"]


class TestWhatWasFound:
    """By fuzzing; each stands for its kind."""

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            pytest.param("settings", b"[]", id="settings that are a list"),
            pytest.param("settings", b"[" * 3000, id="nested settings"),
            pytest.param("manifest", b'{"a":' * 3000, id="a nested manifest"),
            pytest.param("history", b"[1]", id="a history of numbers"),
            pytest.param("history", b"[{", id="half a history"),
            pytest.param("split", b"picture,part\na.png,train\n", id="a split without its columns"),
            pytest.param("pairs", b"1 1\na 1 2\n\xff 1 b 1\n", id="pairs in another encoding"),
            pytest.param("table", b"\xff\xfeA", id="half a letter of UTF-16"),
            pytest.param("columns", b'image = "image"\ngroups = 3\n', id="no groups"),
            pytest.param("columns", b'image = ["image"]\n[groups]\na = ["Hat"]\n', id="two image columns"),
            pytest.param("columns", b'image = "image"\n[groups]\na = [[1]]\n', id="an attribute that is a list"),
            pytest.param("columns", b"a = " + b"[" * 3000, id="nested columns"),
            pytest.param("CelebA labels", b"1\nSmiling Hat\n/000001.jpg 1 -1\n", id="a name that begins at the root"),
            pytest.param("CelebA labels csv", b"image_id,Smiling,Hat\n", id="a header alone"),
            pytest.param("CelebA labels csv", b'image_id,Smiling,Hat\n"', id="a header and a quote"),
            pytest.param("CelebA labels csv", b'image_id,Smiling,Hat\n"" \n', id="a header and quotes"),
            pytest.param("CelebA parts csv", b'image_id,partition\n""\n', id="a header and quotes around nobody"),
            pytest.param("fairface.csv", b"image,split,age,gender,race\n1.jpg,val,3-8,Male,Indian\n", id="another age"),
            pytest.param(
                "fairface.csv",
                b"image,split,age,gender,race\n1.jpg,val,3-9,Male,Indian\n1.jpg,train,,Male,\n",
                id="an image twice",
            ),
            pytest.param("peta.csv", b"image,split,personalMale,age\n1.png,train,yes,\n", id="another yes"),
            pytest.param("metadata", b"[]", id="metadata that are a list"),
            pytest.param("metadata", b"[" * 3000, id="nested metadata"),
            pytest.param("metadata", b"{", id="half of the metadata"),
            pytest.param("PETA.mat", b"x" * 124 + b"\x00\x01IM" + b"\x0f\0\0\0\x08\0\0\0notzlib!", id="no zlib"),
        ],
    )
    def test_is_refused_in_our_words(self, name, data, tmp_path):
        reader = READERS[name]
        reader.write(tmp_path)
        reader.damage(tmp_path, data)
        with pytest.raises(OWN):
            reader.read(tmp_path)
        assert flaw(reader, tmp_path) is None

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda told: told.update(groups={"warm": []}), id="an empty group"),
            pytest.param(lambda told: told.update(groups={"warm": ["Red"]}), id="fewer attributes than columns"),
            pytest.param(lambda told: told.update(groups={"warm": [{"number": "n"}]}), id="kinds that are not told"),
            pytest.param(lambda told: told["image"].pop("mean"), id="no mean"),
            pytest.param(lambda told: told["image"].update(mean=[0.5], std=[0.5]), id="another number of colours"),
            pytest.param(lambda told: told.update(map_centres={"rows": [0.5, 0.1], "columns": [0.5]}), id="centres"),
            pytest.param(lambda told: told.update(attributes=[{"name": "Red"}]), id="half an attribute"),
            pytest.param(lambda told: told.update(decisions={"goal": "f1", "kept": 3}), id="decisions"),
        ],
    )
    def test_metadata_that_cannot_be_are_refused_by_the_server_too(self, change, tmp_path):
        from mtattn.serving.session import Session

        reader = READERS["metadata"]
        reader.write(tmp_path)
        told = json.loads((tmp_path / "metadata.json").read_text())
        change(told)
        reader.damage(tmp_path, json.dumps(told).encode())
        with pytest.raises(ValueError, match=r"model\.onnx"):
            Session(tmp_path / "model.onnx")

    def test_an_axis_of_an_onnx_file_whose_name_is_no_text(self, tmp_path):
        from mtattn.serving.session import Session

        READERS["onnx"].write(tmp_path)
        file = tmp_path / "model.onnx"
        file.write_bytes(file.read_bytes().replace(b"batch", b"batc\xe8"))
        with pytest.raises(ValueError, match=r"model\.onnx is missing, damaged or no ONNX file"):
            Session(file)


def element(kind, content):
    return np.array([kind, len(content)], "<u4").tobytes() + content + bytes(-len(content) % 8)


def mat(variable):
    return b" " * 124 + b"\x00\x01IM" + variable


class TestMatlabFiles:
    """Against scipy, which wrote and reads them."""

    @settings(max_examples=25)
    @given(
        value=st.recursive(
            st.text("aä b", min_size=1, max_size=9)
            | st.tuples(st.sampled_from(["f8", "f4", "u1", "i4", "u2"]), st.integers(0, 3), st.integers(0, 4)).map(
                lambda told: np.arange(told[1] * told[2], dtype=told[0]).reshape(told[1], told[2])
            ),
            lambda inner: (
                st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, min_size=1)
            ),
            max_leaves=6,
        ),
        compressed=st.booleans(),
    )
    def test_a_variable_is_what_scipy_reads(self, tmp_path_factory, value, compressed):
        import scipy.io

        def as_cells(value):
            if isinstance(value, list):
                cells = np.empty((1, len(value)), object)
                for place, item in enumerate(value):
                    cells[0, place] = as_cells(item)
                return cells
            return {key: as_cells(item) for key, item in value.items()} if isinstance(value, dict) else value

        def same(ours, theirs):
            if isinstance(ours, str):
                assert ours == (theirs[0] if len(theirs) else "")
            elif ours.dtype != object:
                np.testing.assert_array_equal(ours, theirs)
                assert ours.shape == theirs.shape
            else:
                assert ours.shape == theirs.shape
                for mine, other in zip(ours.ravel(), theirs.ravel(), strict=True):
                    if not isinstance(mine, dict):
                        same(mine, other)
                        continue
                    assert tuple(mine) == other.dtype.names
                    for key in mine:
                        same(mine[key], other[key])

        file = tmp_path_factory.getbasetemp() / "variables.mat"
        scipy.io.savemat(file, {"other": 1.0, "wanted": as_cells(value)}, do_compression=compressed)
        same(read_mat(file, "wanted"), scipy.io.loadmat(file, chars_as_strings=True)["wanted"])
        with pytest.raises(KeyError, match="absent"):
            read_mat(file, "absent")


class TestBombs:
    """A small file may not take more memory than is said."""

    @pytest.fixture
    def peak(self):
        """The memory that Python and numpy took, in MB."""

        @contextlib.contextmanager
        def measured(most):
            tracemalloc.start()
            try:
                yield
                assert tracemalloc.get_traced_memory()[1] / 2**20 < most
            finally:
                tracemalloc.stop()

        return measured

    def test_matlab(self, tmp_path, peak):
        packer = zlib.compressobj(9)
        zeros = bytes(2**24)
        content = b"".join(packer.compress(zeros) for _ in range(17)) + packer.flush()
        (tmp_path / "PETA.mat").write_bytes(mat(element(15, content)))
        with peak(600), pytest.raises(ValueError, match=r"PETA\.mat must be .* unpacks to more than 268,435,456 bytes"):
            PETA(tmp_path, "train")

    def test_matlab_cells(self, tmp_path, peak):
        flags, shape = element(6, bytes([1]) + bytes(7)), element(5, np.array([2**15, 2**15], "<i4").tobytes())
        (tmp_path / "PETA.mat").write_bytes(mat(element(14, flags + shape + element(1, b"peta"))))
        with peak(50), pytest.raises(ValueError, match=r"a variable of shape \[32768, 32768\] stands in 48 bytes"):
            PETA(tmp_path, "train")

    def test_hdf5(self, tmp_path, peak):
        import h5py

        READERS["LFWA labels"].write(tmp_path)
        with h5py.File(tmp_path / "lfw_att_40.mat", "a") as file:
            del file["label"]
            file.create_dataset("label", (2**20, 2**10), "f8", chunks=(2**10, 2**10))  # nothing is written: 30 kB
        with peak(50), pytest.raises(ValueError, match="LFWA: label has at most 16,777,216 numbers, got 1,073,741,824"):
            LFWA(tmp_path, "train")

    def test_hdf5_that_leads_elsewhere(self, tmp_path):
        import h5py

        READERS["LFWA labels"].write(tmp_path)
        (tmp_path / "secret").write_bytes(bytes(2 * 24 * 8))
        with h5py.File(tmp_path / "lfw_att_40.mat", "a") as file:
            del file["label"]
            file.create_dataset("label", (2, 24), "f8", external=[(str(tmp_path / "secret"), 0, 2 * 24 * 8)])
        with pytest.raises(ValueError, match="label must be an array in this file, got something else"):
            LFWA(tmp_path, "train")

    def test_parquet(self, tmp_path, peak):
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2**24, np.int8)), ["a.jpg"])
        table = pa.table({"image": rows})
        with pq.ParquetWriter(tmp_path / "labels.parquet", table.schema) as writer:
            for _ in range(5):
                writer.write_table(table)
        assert (tmp_path / "labels.parquet").stat().st_size < 300_000
        with (
            peak(50),
            pytest.raises(ValueError, match=r"at most 67,108,864 cells, got 83,886,080 rows of 1 in .*parquet"),
        ):
            read_table(tmp_path / "labels.parquet")

    def test_parquet_that_says_it_has_more_rows_than_it_holds(self, tmp_path):
        import pandas as pd

        file = tmp_path / "labels.parquet"
        pd.DataFrame({"Hat": [0, 1, 1]}).to_parquet(file)
        data = file.read_bytes()
        end = len(data) - 8  # the length of what tells of the table, four bytes, and PAR1
        begin = end - int.from_bytes(data[end : end + 4], "little")
        told, truth = data[begin:end], b"\x16\x06\x26\x08"  # three rows in a piece that begins at byte 4
        assert told.count(truth) == 1
        told = told.replace(truth, b"\x16" + 7 * b"\x80" + b"\x04" + truth[2:])  # 2 ** 50 rows
        file.write_bytes(data[:begin] + told + len(told).to_bytes(4, "little") + b"PAR1")
        assert read_table(file).cells == {"Hat": ["0", "1", "1"]}

    def test_toml(self, tmp_path, peak):
        (tmp_path / "plan.toml").write_text("[" + ".".join("a" * 5000) + "]\n")
        with peak(50), pytest.raises(ValueError, match=r"^read_plan: no key in .*plan\.toml 'a'; there are"):
            read_plan(tmp_path / "plan.toml")
