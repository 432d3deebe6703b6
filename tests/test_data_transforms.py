"""From a picture to a tensor: what is kept of it, how it is made smaller, and what chance may change."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from mtattn.data import image_transform, read_image

PLAIN = {"mean": [0.0] * 3, "std": [1.0] * 3}


def noise(width, height, mode="RGB"):
    """A picture that no flip, shift or cut leaves as it is."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def framed(width, height, inner):
    """A white picture with a black frame: ``inner`` of its height and of its width is white, in the middle."""
    picture = Image.new("RGB", (width, height))
    size = round(width * inner[1]), round(height * inner[0])
    picture.paste(Image.new("RGB", size, "white"), ((width - size[0]) // 2, (height - size[1]) // 2))
    return picture


class TestWhatIsKept:
    def test_the_whole_picture_is_what_torchvision_resizes_to_the_bit(self):
        usual = v2.Compose(
            [v2.Resize((64, 48)), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.4], [0.2])]
        )
        ours = image_transform((64, 48), mean=[0.4] * 3, std=[0.2] * 3)
        assert torch.equal(ours(noise(178, 218)), usual(noise(178, 218)))

    @pytest.mark.parametrize("crop", [0.5, [0.5, 0.5], (0.25, 0.75)], ids=str)
    def test_the_middle_is_kept_and_nothing_else(self, crop):
        shares = (crop, crop) if isinstance(crop, float) else crop
        picture = framed(80, 120, shares)
        assert image_transform((16, 16), **PLAIN, crop=crop)(picture)[:, 1:-1, 1:-1].min() == 1
        assert image_transform((16, 16), **PLAIN, crop=[share + 0.125 for share in shares])(picture).min() == 0

    def test_the_first_share_is_of_the_height(self):
        picture = framed(80, 80, (0.5, 1.0))  # a white belt
        assert image_transform((8, 8), **PLAIN, crop=(0.4, 1.0))(picture).min() == 1
        assert image_transform((8, 8), **PLAIN, crop=(1.0, 0.4))(picture).min() == 0

    def test_a_smaller_picture_has_means_not_samples(self):
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, ::2] = 255
        seen = image_transform((8, 8), **PLAIN)(Image.fromarray(stripes))
        torch.testing.assert_close(seen, torch.full((3, 8, 8), 0.5), rtol=0, atol=0.02)

    def test_height_comes_first_in_the_size(self):
        assert image_transform((128, 64), **PLAIN)(noise(30, 20)).shape == (3, 128, 64)


class TestWhatComesIn:
    @pytest.mark.parametrize("mode", ["P", "L", "CMYK", "YCbCr", "RGBA", "1", "HSV", "LA"])
    def test_a_picture_of_any_mode_is_taken_as_its_file_is(self, mode, tmp_path):
        picture = noise(20, 30).convert(mode)
        transform = image_transform((10, 10), **PLAIN)
        assert torch.equal(transform(picture), transform(picture.convert("RGB")))
        if mode in {"P", "L", "RGBA", "1", "LA"}:
            picture.save(tmp_path / "picture.png")
            with Image.open(tmp_path / "picture.png") as opened:
                assert torch.equal(transform(opened), transform(read_image(tmp_path / "picture.png")))

    def test_a_picture_of_16_bits_is_not_all_white(self):
        picture = Image.fromarray(np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16))
        seen = image_transform((16, 16), **PLAIN)(picture)
        torch.testing.assert_close(seen[0], torch.arange(256).reshape(16, 16) / 255)

    def test_a_picture_is_turned_as_its_exif_says(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # a quarter to the right
        noise(20, 30).save(tmp_path / "turned.png", exif=exif)
        transform = image_transform((10, 10), **PLAIN)
        with Image.open(tmp_path / "turned.png") as opened:
            seen = transform(opened)
        assert torch.equal(seen, transform(read_image(tmp_path / "turned.png")))
        assert torch.equal(seen, transform(noise(20, 30).rotate(-90, expand=True)))

    @pytest.mark.parametrize("picture", [noise(8, 8), noise(8, 8, "L")], ids=["colour", "grey"])
    def test_one_mean_makes_one_channel(self, picture):
        seen = image_transform((8, 8), mean=[0.5], std=[0.5])(picture)
        grey = torch.from_numpy(np.array(picture.convert("L"))) / 255
        torch.testing.assert_close(seen, (grey[None] - 0.5) / 0.5)

    def test_other_numbers_of_channels_are_those_of_the_picture(self):
        transform = image_transform((8, 8), mean=[0.5] * 4, std=[0.5] * 4)
        assert transform(noise(9, 9, "CMYK")).shape == (4, 8, 8)
        with pytest.raises(ValueError, match="a channel for each of the 4 numbers in mean, got one of mode RGB"):
            transform(noise(9, 9))

    @pytest.mark.parametrize(
        "other",
        [np.zeros((8, 8, 3), np.uint8), torch.zeros(3, 8, 8), "face.jpg", Path("face.jpg"), b"bytes", None],
        ids=lambda other: type(other).__name__,
    )
    def test_what_is_no_picture_is_refused_with_the_way_to_one(self, other):
        kind = type(other).__name__
        with pytest.raises(TypeError, match=rf"takes an image of PIL, got {kind}; read a file with .*read_image"):
            image_transform((8, 8), **PLAIN)(other)


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"crop": 1.5}, "the share of the image to keep, above 0 and at most 1 .all of it., got 1.5"),
            ({"crop": 0}, "got 0"),
            ({"crop": float("nan")}, "got nan"),
            ({"crop": (0.5, 2.0)}, r"got \(0.5, 2.0\)"),
            ({"crop": (0.5, 0.5, 0.5)}, "a height and a width"),
            ({"crop": "0.5"}, "a height and a width"),
            ({"crop": None}, "a height and a width"),
            ({"size": 64}, "size is a height and a width in pixels, such as .64, 64., got 64"),
            ({"size": (64, 0)}, "got .64, 0."),
            ({"size": (64.0, 64.0)}, "got .64.0, 64.0."),
            ({"size": (3, 64, 64)}, "got .3, 64, 64."),
            ({"mean": [0.5]}, "mean and std have a number for each colour"),
            ({"mean": [], "std": []}, "mean and std have a number for each colour"),
            ({"augment": "storng"}, "no augmentation 'storng'; did you mean 'strong'"),
        ],
        ids=str,
    )
    @pytest.mark.outside  # values of no annotated type
    def test_an_option_that_fits_no_picture(self, options, message):
        with pytest.raises(ValueError, match=message):
            image_transform(**{"size": (64, 64), **PLAIN, **options})


class TestAugmentation:
    def test_true_is_light_and_false_none(self):
        for flag, name in ((True, "light"), (False, "none")):
            seen = []
            for augment in (flag, name):
                torch.manual_seed(3)
                seen.append(image_transform((16, 16), **PLAIN, augment=augment)(noise(16, 16)))
            assert torch.equal(*seen)

    def test_half_of_the_pictures_are_flipped_and_all_are_shifted_by_a_sixteenth_at_most(self):
        """Every picture is the padded original, read from another corner, as it is or as a mirror shows it."""
        height, width = 64, 32  # so that up to 4 pixels down and 2 to the side
        picture = noise(width, height)
        plain = image_transform((height, width), **PLAIN)(picture)
        transform = image_transform((height, width), **PLAIN, augment="light")
        torch.manual_seed(0)
        found = []
        for _ in range(400):
            seen = transform(picture)
            found += [
                (flipped, down, right)
                for flipped in (False, True)
                for down in range(9)
                for right in range(5)
                if torch.equal(shifted(plain.flip(2) if flipped else plain, down, right), seen)
            ]
        assert len(found) == 400
        flips, downs, rights = zip(*found, strict=True)
        assert 160 < sum(flips) < 240
        assert set(downs) == set(range(9))
        assert set(rights) == set(range(5))

    def test_strong_changes_more_and_erases_with_the_mean(self):
        picture, options = noise(64, 64), {"mean": [0.3, 0.4, 0.5], "std": [0.2] * 3}
        torch.manual_seed(0)
        seen = torch.stack([image_transform((64, 64), **options, augment="strong")(picture) for _ in range(80)])
        erased = (seen == 0).all(1).flatten(1).sum(1) > 64  # of 4,096 pixels; noise is never the mean for long
        assert 8 < erased.sum() < 40
        assert len({tuple(image.mean((1, 2)).tolist()) for image in seen}) > 60

    @pytest.mark.parametrize("augment", ["light", "strong"])
    def test_the_same_seed_gives_the_same_picture(self, augment):
        transform = image_transform((16, 16), **PLAIN, augment=augment)
        seen = []
        for _ in range(2):
            torch.manual_seed(5)
            seen.append(torch.stack([transform(noise(16, 16)) for _ in range(5)]))
        assert torch.equal(*seen)

    def test_grey_pictures_are_augmented_too(self):
        torch.manual_seed(0)
        transform = image_transform((16, 16), mean=[0.5], std=[0.5], augment="strong")
        assert all(transform(noise(20, 20)).shape == (1, 16, 16) for _ in range(40))


def shifted(image, down, right):
    """Pad an image (3, 64, 32) with its edges and read it from a corner of the padding."""
    padded = torch.nn.functional.pad(image, (2, 2, 4, 4), mode="replicate")
    return padded[:, down : down + 64, right : right + 32]
