"""Tables of one's own: read in any form that programs write them in, by name, with every fault told at once."""

import csv
import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mtattn import AttributeGroups, Categorical, Number, Ordinal
from mtattn.data import TableImages
from mtattn.data.table import Plan, Table, balanced_parts, propose, read_plan, read_table, write_plan
from mtattn.data.table.images import targets

WORDS = [("1", "0"), ("1.0", "0.0"), ("yes", "no"), ("TRUE", "FALSE"), ("True", "False"), ("Y", "N"), ("1", "-1")]
HOLES = ["", "NA", "NaN", "null", "N/A", "<NA>"]
HAIR, AGE = ("black", "brown, dark", "n\u00e9e"), ("0-2", "3-9", "10-19")


@pytest.fixture
def folder(tmp_path):
    for name in ("ann.png", "bob.png", "eve.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    return tmp_path


def written(folder, text, encoding="utf-8"):
    (folder / "labels.csv").write_bytes(text.encode(encoding))
    return folder / "labels.csv"


@st.composite
def tables(draw):
    """Columns of every kind, with holes, and the targets that they say."""
    rows = draw(st.integers(2, 8))
    unknown = st.just(math.nan)
    picks = {
        "Hat, red": st.sampled_from([0.0, 1.0]),
        "hair": st.sampled_from([0.0, 1.0, 2.0]),
        "age": st.sampled_from([0.0, 1.0, 2.0]),
        "height": st.integers(-40, 400).map(lambda value: value / 4),
    }
    return {name: draw(st.lists(pick | unknown, min_size=rows, max_size=rows)) for name, pick in picks.items()}


PLAN = Plan(
    "image file",
    AttributeGroups({"all": ["Hat, red", Categorical("hair", HAIR), Ordinal("age", AGE), Number("height", "cm")]}),
)


def cell(name, value, words, hole):
    if math.isnan(value):
        return hole
    yes, no = words
    choices = {"Hat, red": (no, yes), "hair": HAIR, "age": AGE}
    return choices[name][int(value)] if name in choices else f"{value:g}"


@settings(max_examples=60)
@given(
    wanted=tables(),
    words=st.sampled_from(WORDS),
    hole=st.sampled_from(HOLES),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    ends_in_delimiter=st.booleans(),
    blank_lines=st.booleans(),
)
def test_a_csv_of_any_form_says_the_same_targets(  # noqa: PLR0917  hypothesis names them
    tmp_path_factory, wanted, words, hole, delimiter, encoding, newline, quoting, ends_in_delimiter, blank_lines
):
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=newline, quoting=quoting)
    end = [""] * ends_in_delimiter
    writer.writerow(["image file", *wanted, *end])
    for index, values in enumerate(zip(*wanted.values(), strict=True)):
        cells = [cell(name, value, words, hole) for name, value in zip(wanted, values, strict=True)]
        writer.writerow([f"{index}.png", *cells, *end])
        stream.write(newline * blank_lines)
    file = written(tmp_path_factory.mktemp("table"), stream.getvalue(), encoding)
    table = read_table(file)
    assert table.cells["image file"] == [f"{index}.png" for index in range(len(table))]
    expected = torch.tensor(list(wanted.values())).T
    torch.testing.assert_close(targets(table, PLAN), expected, equal_nan=True, rtol=0, atol=0)


@settings(max_examples=30)
@given(wanted=tables(), form=st.sampled_from(["objects", "numbers", "nullable", "parquet"]))
def test_a_data_frame_and_a_parquet_file_say_the_same_targets(tmp_path_factory, wanted, form):
    pd = pytest.importorskip("pandas", reason="the extra tables is not installed")
    rows = len(wanted["hair"])
    words = (True, False) if form in ("objects", "parquet") else (1.0, 0.0)
    frame = pd.DataFrame({"image file": [f"{index}.png" for index in range(rows)]})
    for name, values in wanted.items():
        column = [None if math.isnan(value) else cell(name, value, words, None) for value in values]
        frame[name] = [None if text is None else float(text) for text in column] if name == "height" else column
    if form == "nullable":
        frame["Hat, red"] = frame["Hat, red"].astype("Int64")
    source = frame
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="the extra tables is not installed")
        source = tmp_path_factory.mktemp("table") / "labels.parquet"
        frame.to_parquet(source)
    expected = torch.tensor(list(wanted.values())).T
    torch.testing.assert_close(targets(read_table(source), PLAN), expected, equal_nan=True, rtol=0, atol=0)


class TestProposal:
    def test_columns_have_their_usual_roles_and_the_kinds_of_their_values(self):
        cells = {
            "file": ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg"],
            "Split": ["train", "train", "train", "val", "test", "test"],
            "person": ["1", "1", "2", "3", "4", "5"],
            "official": ["train", "test", "train", "val", "test", "test"],
            "Hat": ["yes", "no", "", "no", "no", "no"],
            "hair": ["red", "black", "red", "", "black", "red"],
            "band": ["10+", "0-2", "3-9", "0-2", "3-9", "0-2"],
            "height": ["1,5", "2.5", "", "3", "4", "5"],
            "note": ["i", "j", "k", "l", "m", "n"],
            "empty": [""] * 6,
        }
        plan = propose(Table("labels.csv", cells, list(range(2, 8))))
        assert (plan.image, plan.split, plan.person) == ("file", "Split", "person")
        assert plan.groups.kinds == (
            "Hat",
            Categorical("hair", ("black", "red")),
            Ordinal("band", ("0-2", "3-9", "10+")),
            Number("height"),
        )
        assert plan.left_out == {
            "note": "6 different texts", "empty": "empty", "official": "it says train, valid and test"
        }  # fmt: skip

    def test_an_image_column_of_another_name_is_known_by_its_values(self):
        table = Table("labels.csv", {"Hat": ["1", "0"], "Bild": ["a.jpg", "b.JPG"]}, [2, 3])
        assert propose(table).image == "Bild"

    def test_columns_that_are_asked_for_go_before_usual_names(self):
        cells = {"image": ["1", "0"], "pic": ["a.jpg", "b.jpg"], "split": ["no", "yes"], "Hat": ["1", "0"]}
        table = Table("labels.csv", cells, [2, 3])
        plan = propose(table, image="pic", attributes=["split", "image"])
        assert (plan.image, plan.split, plan.groups.attributes) == ("pic", None, ("split", "image"))
        assert plan.left_out == {"Hat": "not asked for"}

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            pytest.param({"image": "fil"}, "no column in t.csv 'fil'; did you mean 'file'", id="column"),
            pytest.param(
                {"attributes": ["note"]},
                "a few different values, or numbers, got 9 different texts in 'note'",
                id="kind",
            ),
        ],
    )
    def test_what_cannot_be_is_refused(self, options, message):
        cells = {"file": [f"{index}.jpg" for index in range(9)], "note": list("abcdefghi"), "Hat": ["1"] * 9}
        with pytest.raises(ValueError, match=message):
            propose(Table("t.csv", cells, list(range(9))), **options)

    def test_a_plan_is_kept_in_a_file_that_a_person_edits(self, tmp_path):
        plan = Plan("image file", PLAN.groups, "split", 'who "I" am', {"note": "9 different texts"})
        write_plan(tmp_path / "plan.toml", plan)
        assert read_plan(tmp_path / "plan.toml") == plan
        with pytest.raises(FileExistsError):
            write_plan(tmp_path / "plan.toml", plan)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param("image = 3 4", "is no TOML file", id="toml"),
            pytest.param("[groups]\na = ['x']", "got no 'image'", id="image"),
            pytest.param("imag = 'x'", "no key in .* 'imag'; did you mean 'image'", id="key"),
            pytest.param("image = 'x'\n[groups]\na = [{categorical = 'b'}]", "the keys of its kind", id="kind"),
        ],
    )
    def test_a_file_that_is_no_plan_is_refused(self, text, message, tmp_path):
        (tmp_path / "plan.toml").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_plan(tmp_path / "plan.toml")


class TestFaults:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param("", "a header and rows, got 0 lines", id="empty"),
            pytest.param("image,Hat\n", "a header and rows, got 1 lines", id="no rows"),
            pytest.param("image,Hat,\na.jpg,1,2\n", "a column has a name, got none for column 3", id="no name"),
            pytest.param("image,Hat,Hat\na,1,1\n", "column names are unique, got 'Hat' 2 times", id="same name"),
            pytest.param("image,Hat\na,1,1\n\nb\n", "got 3 in line 2, 1 in line 4", id="cells"),
            pytest.param('image,Hat\n"a\nb",1\nc\n', "got 1 in line 4", id="after a line break in quotes"),
        ],
    )
    def test_what_is_no_table_is_refused_with_its_lines(self, text, message, tmp_path):
        with pytest.raises(ValueError, match=rf"read_table: .*{message}.*labels\.csv"):
            read_table(written(tmp_path, text))

    def test_files_of_other_programs_are_told_what_to_do(self, tmp_path):
        (tmp_path / "a.xlsx").write_bytes(b"PK")
        (tmp_path / "b.parquet").write_bytes(b"PK")
        (tmp_path / "c.csv").write_bytes(b"image\0,Hat\n")
        for name, message in (
            ("a.xlsx", "save the sheet as csv"),
            ("b.parquet", "no parquet file"),
            ("c.csv", "binary"),
        ):
            with pytest.raises(ValueError, match=message):
                read_table(tmp_path / name)
        with pytest.raises(FileNotFoundError, match=r"read_table: no file .*none\.csv"):
            read_table(tmp_path / "none.csv")

    def test_what_was_guessed_is_said(self, tmp_path):
        assert "read as Windows-1252" in read_table(written(tmp_path, "image,H\u00fct\na,1\n", "cp1252")).notes[0]
        table = read_table(written(tmp_path, ",image,Hat\n0,a,1\n1,b,0\n"))
        assert table.columns == ("image", "Hat")
        assert "counts the rows, as pandas writes it" in table.notes[0]

    def test_a_word_that_may_be_a_value_is_not_taken_for_unknown_without_a_note(self, tmp_path):
        table = read_table(written(tmp_path, "image,glasses\na,none\nb,sun\nc,None\nd,NA\n"))
        assert table.cells["glasses"] == ["", "sun", "", ""]
        assert "'none' in 'glasses' (1), 'None' in 'glasses' (1); if that is a value" in table.notes[0]

    @pytest.mark.parametrize("levels", [("0.5-1.5", "1.5-2.5", "2.5-10.0"), ("0-2", "3-9", "more than 70")])
    def test_levels_go_from_the_lowest_number_to_the_highest(self, levels):
        table = Table("t.csv", {"image": [f"{row}.jpg" for row in range(30)], "age": [*levels] * 10}, [*range(30)])
        assert propose(table).groups.kinds == (Ordinal("age", levels),)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param(
                "image,Hat\nann.png,1\nbob.png,perhaps\neve.png,so\n",
                r"'Hat' is yes or no .*, got 'perhaps' for 'Hat' in line 3, 'so' for 'Hat' in line 4 in .*; correct",
                id="all values at once",
            ),
            pytest.param("image,Hat\nann.png,1\nbob.png,0\neve.png,-1\n", "both for 'Hat'", id="0 and -1"),
            pytest.param("image,Hat\nann.png,1\n,0\n", "in column 'image', got none in line 3", id="no image"),
            pytest.param("image,Hat\nann.png,1\nann.png,0\n", "'ann.png' in line 2 and line 3", id="twice"),
            pytest.param(
                "image,Hat\n../ann.png,1\nC:\\\\b.png,0\n",
                r"lies in the folder, .*, got '../ann.png' in line 2, 'C:",
                id="out of it",
            ),
            pytest.param("image,Hat,split\nann.png,1,train\nbob.png,0,prob\n", "got 'prob' in line 3", id="part"),
        ],
    )
    def test_faults_of_a_row_name_line_and_column(self, text, message, folder):
        plan = Plan("image", AttributeGroups({"a": ["Hat"]}), split="split" if "split" in text else None)
        with pytest.raises(ValueError, match=message):
            TableImages(written(folder, text), folder, plan)

    def test_a_column_of_the_plan_that_is_gone_is_named(self, folder):
        with pytest.raises(ValueError, match=r"no column in .*labels\.csv 'Hut'; did you mean 'Hat'"):
            TableImages(
                written(folder, "image,Hat\nann.png,1\n"), folder, Plan("image", AttributeGroups({"a": ["Hut"]}))
            )


class TestImages:
    TEXT = "image,Hat,hair,split,person\nann.png,1,red,train,x\nbob.png,,black,val,y\neve.png,0,red,test,\n"

    def test_parts_and_persons_follow_the_images(self, folder):
        data = TableImages(written(folder, self.TEXT), folder)
        assert data.parts.tolist() == ["train", "valid", "test"]
        part = data.subset([2, 0])
        assert (part.files, part.parts.tolist(), part.persons.tolist()) == (
            ["eve.png", "ann.png"], ["test", "train"], ["", "x"]
        )  # fmt: skip
        assert data.part("valid").files == ["bob.png"]
        image, target = data[0]
        assert (image.size, target.tolist()) == ((8, 8), [1, 1])

    def test_missing_images_are_left_out_with_all_that_is_theirs(self, folder):
        (folder / "ann.png").unlink()
        file = written(folder, self.TEXT)
        with pytest.raises(FileNotFoundError, match=r"1 of 3 missing, the first is .*ann\.png"):
            TableImages(file, folder)
        with pytest.warns(UserWarning, match="left out 1 of 3 images because they are missing"):
            data = TableImages(file, folder, missing="skip")
        assert (data.files, data.persons.tolist()) == (["bob.png", "eve.png"], ["y", ""])

    def test_absolute_paths_within_the_folder_are_taken(self, folder):
        data = TableImages(written(folder, f"image,Hat\n{folder.absolute()}/ann.png,1\n"), folder)
        assert data.files == ["ann.png"]

    def test_a_part_that_the_table_does_not_name_is_refused(self, folder):
        data = TableImages(written(folder, "image,Hat\nann.png,1\n"), folder)
        with pytest.raises(ValueError, match="names an image of part 'test', got none"):
            data.part("test")


class TestBalancedParts:
    GROUPS = AttributeGroups({"a": ["common", "rare"], "b": [Categorical("c", ("x", "y", "z")), Number("n")]})

    @staticmethod
    def drawn(seed, images=400):
        random = np.random.default_rng(seed)
        columns = [random.random(images) < 0.4, random.random(images) < 0.03, random.integers(0, 3, images)]
        found = np.stack([*columns, random.normal(size=images)], 1).astype(float)
        return np.where(random.random(found.shape) < 0.1, np.nan, found)

    @settings(max_examples=15)
    @given(seed=st.integers(0, 1000), several=st.integers(1, 6))
    def test_no_person_is_in_two_parts_and_every_label_has_its_share(self, seed, several):
        targets = self.drawn(seed)
        persons = [str(index // several) for index in range(len(targets))]
        parts = balanced_parts(targets, self.GROUPS, persons=persons, seed=seed)
        assert len(set(zip(persons, parts.tolist(), strict=True))) == len(set(persons))
        for name, share in {"train": 0.8, "valid": 0.1, "test": 0.1}.items():
            chosen = targets[parts == name]
            assert len(chosen) == pytest.approx(share * len(targets), abs=0.02 * len(targets))
            assert (chosen[:, 0] == 1).sum() == pytest.approx(share * (targets[:, 0] == 1).sum(), abs=2 * several)
            assert (chosen[:, 1] == 1).sum() >= min(1, share * (targets[:, 1] == 1).sum() // 2)

    @settings(max_examples=10)
    @given(seed=st.integers(0, 1000))
    def test_every_part_has_its_share_of_positives_however_rare_they_are(self, seed):
        random = np.random.default_rng(seed)
        rates = np.array([0.6, 0.3, 0.3, 0.07, 0.3, 0.03])
        targets = (random.random((600, 6)) < rates).astype(float)
        groups = AttributeGroups({"all": list("abcdef")})
        parts = balanced_parts(targets, groups, persons=[str(index // 2) for index in range(600)], seed=seed)
        for name, share in {"train": 0.8, "valid": 0.1, "test": 0.1}.items():
            found, wanted = targets[parts == name].sum(0), share * targets.sum(0)
            assert (abs(found - wanted) <= np.maximum(2, 0.2 * wanted)).all(), (name, found, wanted)

    def test_the_same_seed_gives_the_same_parts(self):
        targets = self.drawn(0)
        first, second = (balanced_parts(targets, self.GROUPS, seed=3) for _ in range(2))
        assert (first == second).all()

    def test_unknown_persons_are_not_taken_for_one(self):
        parts = balanced_parts(self.drawn(0), self.GROUPS, persons=[""] * 400)
        assert 36 <= (parts == "test").sum() <= 44

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            pytest.param({"shares": {"train": 0.5, "test": 0.4}}, "are above 0 and add up to 1", id="shares"),
            pytest.param({"persons": ["ann"] * 400}, "a person for each of the 3 parts, got 1", id="one person"),
        ],
    )
    def test_what_cannot_be_split_is_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            balanced_parts(self.drawn(0), self.GROUPS, **options)
