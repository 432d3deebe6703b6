"""Every picture becomes RGB and upright with its own colours, wherever it comes from; a folder's images are found."""

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mtattn.data import UnreadableImage, find_images, read_image, read_row
from mtattn.data.images import readable_suffixes

GREYS = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)  # 0, 257, ... 65535: all 256 high bytes
ORANGE = (200, 120, 40)


def orange(mode):
    return Image.new("RGB", (6, 4), ORANGE).convert(mode, palette=Image.Palette.ADAPTIVE)


def with_alpha_in_palette():
    picture = orange("P")
    picture.info["transparency"] = bytes([0, 128])
    return picture


def turned():
    picture = Image.new("RGB", (6, 4), ORANGE)
    picture.paste((0, 0, 0), (0, 0, 2, 4))
    picture.getexif()[0x0112] = 6
    return picture


PICTURES = {
    "RGB": (lambda: orange("RGB"), "png", ORANGE),
    "RGBA": (lambda: orange("RGBA"), "png", ORANGE),
    "palette": (lambda: orange("P"), "png", ORANGE),
    "palette with alpha": (with_alpha_in_palette, "png", ORANGE),
    "grey": (lambda: Image.new("L", (6, 4), 90), "png", (90, 90, 90)),
    "grey with alpha": (lambda: Image.new("LA", (6, 4), (90, 7)), "png", (90, 90, 90)),
    "black and white": (lambda: Image.new("1", (6, 4), 1), "png", (255, 255, 255)),
    "CMYK": (lambda: orange("CMYK"), "tif", ORANGE),
    "YCbCr": (lambda: orange("YCbCr"), "tif", ORANGE),
    "16 bits": (lambda: Image.fromarray(np.full((4, 6), 0x5AFF, np.uint16)), "png", (90, 90, 90)),
    "16 bits, TIFF": (lambda: Image.fromarray(np.full((4, 6), 0x5AFF, np.uint16)), "tif", (90, 90, 90)),
    "first of several": (lambda: orange("P"), "gif", ORANGE),
}


def near(picture, color):
    assert (picture.mode, picture.size) == ("RGB", (6, 4))
    assert np.abs(np.asarray(picture, int) - color).max() <= 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_any_mode_keeps_its_colours_from_a_file_and_from_a_row(tmp_path, name):
    make, suffix, color = PICTURES[name]
    file = tmp_path / f"picture.{suffix}"
    make().save(file)
    near(read_image(file), color)
    with Image.open(file) as opened:
        near(read_row({"image": opened}, [])[0], color)
    near(read_row({"image": make()}, [])[0], color)


def test_16_bit_greys_keep_their_brightness_in_every_byte_order(tmp_path):
    for dtype in ("<u2", ">u2"):
        Image.fromarray(GREYS.astype(dtype)).save(tmp_path / "grey.tif")
        assert (np.asarray(read_image(tmp_path / "grey.tif"))[..., 0] == GREYS >> 8).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_a_camera_picture_is_turned_upright_from_a_file_and_from_a_row(tmp_path, suffix):
    picture = turned()
    picture.save(tmp_path / f"camera.{suffix}", exif=picture.getexif())
    row, _ = read_row({"image": Image.open(tmp_path / f"camera.{suffix}")}, [])
    for upright in (read_image(tmp_path / f"camera.{suffix}"), row):
        assert upright.size == (4, 6)
        pixels = np.asarray(upright, int)
        assert pixels[0].mean() < 40  # black was on the left, and is on top
        assert pixels[-1].mean() > 100


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_a_picture_of_32_bits_is_refused_because_nobody_knows_its_white(tmp_path, dtype):
    Image.fromarray(np.full((4, 6), 1, dtype)).save(tmp_path / "depth.tif")
    with pytest.raises(UnreadableImage, match=r"cannot read .*depth\.tif: it has 32 bits a colour, .* 8 or 16 bits"):
        read_image(tmp_path / "depth.tif")
    with pytest.raises(UnreadableImage, match="read_row: cannot read the picture in column 'image': it has 32 bits"):
        read_row({"image": Image.open(tmp_path / "depth.tif")}, [])


@pytest.mark.parametrize(
    "value", [None, "a.jpg", b"bytes", {"bytes": b"", "path": "a.jpg"}, np.zeros((4, 4, 3), np.uint8)]
)
def test_a_row_without_a_picture_is_told_how_to_get_one(value):
    with pytest.raises(
        TypeError, match=f"column 'image' holds PIL images, got a {type(value).__name__}; cast the column"
    ):
        read_row({"image": value}, [])


def test_a_damaged_picture_in_a_row_is_told_by_its_column(tmp_path):
    Image.effect_noise((90, 90), 50).save(tmp_path / "cut.jpg")
    data = (tmp_path / "cut.jpg").read_bytes()
    with pytest.raises(UnreadableImage, match=r"read_row: cannot read the picture in column 'image': .*[Tt]runcated"):
        read_row({"image": Image.open(io.BytesIO(data[: len(data) // 2]))}, [])


def test_no_file_starts_another_program(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    with pytest.raises(UnreadableImage, match="the file is not an image"):
        read_image(tmp_path / "photo.jpg")


def encoded(form):
    file = io.BytesIO()
    Image.effect_noise((16, 16), 50).save(file, form)
    return file.getvalue()


SOUND = {form: encoded(form) for form in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA")}


@pytest.mark.filterwarnings("ignore")
@given(
    st.sampled_from(sorted(SOUND)),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=4)), max_size=6),
    st.integers(0, 2000),
)
def test_damaged_bytes_are_a_picture_or_an_unreadable_one(tmp_path_factory, form, changes, length):
    data = bytearray(SOUND[form])
    for place, new in changes:
        data[place : place + len(new)] = new
    file = tmp_path_factory.getbasetemp() / "damaged"
    file.write_bytes(data[: length or None])
    with suppress(UnreadableImage):
        assert read_image(file).mode == "RGB"


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path):
        names = ["b.jpg", "a.JPG", "in/c.jfif", "in/d.tif", "e.gif", "f.avif", "g.webp", "labels.csv", "in/LICENSE"]
        for name in [*names, ".hidden.jpg", ".cache/x.jpg"]:
            (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "all" / name).touch()
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/linked.png").touch()
        (tmp_path / "all/link").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "all/in/back").symlink_to(tmp_path / "all")
        return tmp_path / "all"

    def test_all_that_can_be_read_is_found_and_the_rest_is_counted(self, folder):
        found = find_images(folder)
        expected = ["a.JPG", "b.jpg", "e.gif", "f.avif", "g.webp", "in/c.jfif", "in/d.tif", "link/linked.png"]
        assert [file.relative_to(folder).as_posix() for file in found.files] == expected
        assert [file.name for file in found.passed_over] == ["LICENSE", "labels.csv"]
        assert found.note() == "passed over 2 files that are no images by suffix: none (1), .csv (1)"

    def test_every_suffix_that_pillow_writes_and_reads_is_found(self, tmp_path):
        for suffix in readable_suffixes() & {
            ".jpg",
            ".jpe",
            ".jfif",
            ".png",
            ".apng",
            ".gif",
            ".bmp",
            ".tiff",
            ".jp2",
            ".ppm",
        }:
            form = {"format": "JPEG"} if suffix in {".jfif", ".jpe"} else {}
            Image.new("RGB", (4, 3)).save(tmp_path / f"picture{suffix}", **form)
        for file in find_images(tmp_path).files:
            assert read_image(file).size == (4, 3)
        assert len(find_images(tmp_path).files) == 10

    def test_a_folder_without_images_says_what_it_holds(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"find_images: no images in .*; it is empty"):
            find_images(tmp_path)
        (tmp_path / "labels.csv").touch()
        with pytest.raises(FileNotFoundError, match=r"no images in .*; passed over 1 file .*: \.csv \(1\)"):
            find_images(tmp_path)

    def test_a_folder_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"find_images: no folder .*nowhere"):
            find_images(tmp_path / "nowhere")
