"""Pictures of all kinds, brought to MNIST's form."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps
from scipy import ndimage

from seqmnist_tf.data import load_mnist
from seqmnist_tf.serve import SavedModel, picture, picture_to_text, prepare_picture
from seqmnist_tf.serve.ask import SURE
from seqmnist_tf.serve.picture import prepare
from seqmnist_tf.system import InputError
from tests.serve.photographs import SAMPLES, blank_photographs, encoded_photographs
from tests.toy import ROOT


def drawn_digit(size: int = 280, width: int = 24) -> Image.Image:
    """Return a 7, light on dark, off the middle."""
    image = Image.new("L", (size, size), 0)
    corners = [(size * x // 100, size * y // 100) for x, y in ((30, 22), (72, 20), (48, 80))]
    ImageDraw.Draw(image).line(corners, fill=255, width=width, joint="curve")
    return image


def coloured(image: Image.Image, ink: tuple[int, int, int], paper: tuple[int, int, int]) -> Image.Image:
    share = np.asarray(image)[..., None] / 255
    return Image.fromarray((np.array(ink) * share + np.array(paper) * (1 - share)).astype(np.uint8))


def on_nothing(image: Image.Image, value: int) -> Image.Image:
    return Image.merge("RGBA", [*[Image.new("L", image.size, value)] * 3, image])


@functools.cache
def committed_model() -> SavedModel:
    return SavedModel.load(ROOT / "export" / "seqmnist" / "2")


DIGIT = drawn_digit()
SPECKLED = ImageOps.invert(DIGIT)
SPECKLED.paste(0, (3, 3, 7, 7))
SAME = {
    "dark on light": ImageOps.invert(DIGIT),
    "blue on yellow": coloured(DIGIT, (20, 20, 120), (250, 240, 120)),
    "pale": DIGIT.point(lambda value: 100 + value // 8),
    "black on nothing": on_nothing(DIGIT, 0),
    "white on nothing": on_nothing(DIGIT, 255),
    "grey with alpha": on_nothing(DIGIT, 0).convert("LA"),
    "palette": coloured(DIGIT, (255, 255, 0), (0, 0, 90)).convert("P"),
    "one bit": DIGIT.convert("1"),
    "16 bits": Image.fromarray(np.asarray(DIGIT).astype(np.uint16) * 257),
    "floats": Image.fromarray(np.asarray(DIGIT).astype(np.float32) / 255),
    "CMYK": coloured(DIGIT, (0, 0, 0), (255, 255, 255)).convert("CMYK"),
    "elsewhere": ImageOps.expand(DIGIT, (100, 5, 3, 240)),
    "with a speck": SPECKLED,
    "cut out tightly": DIGIT.crop(DIGIT.getbbox()),
    **{f"{side} pixels": DIGIT.resize((side, side), Image.Resampling.BOX) for side in (56, 100, 1000, 3000)},
}


def to_mnist(picture: Image.Image) -> np.ndarray:
    image = prepare(picture)
    assert image is not None
    return image


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean difference over inked pixels; the centring, by whole pixels, may differ by one."""
    moved = [np.roll(a, (down, right), (0, 1)).astype(float) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return min(float(np.abs(image - b)[(image > 0) | (b > 0)].mean()) for image in moved)


@pytest.mark.parametrize("size", [(280, 280), (40, 280), (280, 70)])
def test_a_picture_has_mnists_form(size: tuple[int, int]) -> None:
    image = to_mnist(DIGIT.resize(size))
    assert (image.dtype, image.shape, image.max()) == (np.uint8, (28, 28), 255)
    assert [round(centre) for centre in ndimage.center_of_mass(image)] == [14, 14]
    height, width = (np.ptp(np.flatnonzero(image.any(axis=axis))) + 1 for axis in (1, 0))
    left, top, right, bottom = DIGIT.resize(size).getbbox()  # type: ignore[misc]
    assert max(height, width) == 20 and width / height == pytest.approx((right - left) / (bottom - top), abs=0.1)


@pytest.mark.parametrize("kind", SAME)
def test_the_same_digit_in_any_colours_place_and_size(kind: str) -> None:
    assert difference(to_mnist(SAME[kind]), to_mnist(DIGIT)) < 30


def test_a_picture_in_mnists_form_is_unchanged() -> None:
    image = to_mnist(DIGIT)
    np.testing.assert_array_equal(to_mnist(Image.fromarray(image)), image)
    np.testing.assert_array_equal(to_mnist(Image.fromarray(255 - image)), image)


def test_a_stroke_that_stands_apart_stays() -> None:
    five = Image.new("L", (280, 280))
    for line in ([(90, 40), (190, 40)], [(90, 70), (90, 130), (180, 150), (170, 230), (80, 240)]):
        ImageDraw.Draw(five).line(line, fill=255, width=20, joint="curve")
    assert ndimage.label(to_mnist(five) > 127)[1] == 2


@pytest.mark.parametrize("n", range(15))
def test_any_picture_has_mnists_form_or_is_blank(n: int) -> None:
    random = np.random.RandomState(n)
    mode = ["L", "RGB", "RGBA", "1", "P"][n % 5]
    size = tuple(int(side) for side in random.randint(1, [3, 40, 400][n % 3], 2))
    image = Image.fromarray(random.randint(0, [2, 256][n % 2], (*size, 4)).astype(np.uint8), "RGBA").convert(mode)
    result = prepare(image)
    assert result is None or ((result.dtype, result.shape) == (np.uint8, (28, 28)) and result.any())


def test_a_camera_that_was_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # of eight; the others are Pillow's
    DIGIT.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "digit.png", exif=exif)
    np.testing.assert_array_equal(prepare_picture(tmp_path / "digit.png"), to_mnist(DIGIT))


@pytest.mark.parametrize("ending", ["png", "bmp", "gif", "tiff", "webp", "jpg"])
def test_files(tmp_path: Path, ending: str) -> None:
    DIGIT.save(tmp_path / f"digit.{ending}")
    image = prepare_picture(tmp_path / f"digit.{ending}")
    assert image is not None and difference(image, to_mnist(DIGIT)) < 20


def test_bad_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    DIGIT.save(tmp_path / "large.png")
    cut = (tmp_path / "large.png").read_bytes()[:300]
    (tmp_path / "cut.png").write_bytes(cut)
    (tmp_path / "text.png").write_text("no picture")
    DIGIT.save(tmp_path / "picture.eps")  # Pillow would start Ghostscript
    monkeypatch.setattr(picture, "MAX_PIXELS", 280 * 280 - 1)
    for name in ("large.png", "cut.png", "text.png", "picture.eps", "missing.png", ""):
        with pytest.raises(InputError, match=f"cannot read {tmp_path / name}: "):
            prepare_picture(tmp_path / name)
    with pytest.raises(InputError, match="cannot read stdin: "):
        prepare_picture(io.BytesIO(cut), "stdin")


@pytest.mark.parametrize("digit", SAMPLES)
def test_a_photograph_is_read_right_in_any_light(digit: int) -> None:
    model = committed_model()
    for name, file in encoded_photographs(digit).items():
        image = prepare_picture(io.BytesIO(file))
        assert image is not None, name
        answer = model(images=image[None])
        assert answer["class_id"] == [digit] and answer["probabilities"].max() > 0.8, name


def test_blank_paper_in_any_light_and_a_chart_show_no_digit() -> None:
    """The lines of a page have no digit's form either: where they are taken for ink, the model is unsure."""
    for name, blank in blank_photographs().items():
        image = prepare(blank)
        if name.startswith("lined") and image is not None:
            assert committed_model()(images=image[None])["probabilities"].max() < SURE, name
        else:
            assert image is None, name
    assert prepare_picture(ROOT / "docs" / "plateau.png") is None


@pytest.mark.network
def test_mnists_test_images_are_unchanged() -> None:
    for image in load_mnist("auto", None, ("test",))["test"].images[:1000]:
        np.testing.assert_array_equal(to_mnist(Image.fromarray(image)), image)


@pytest.mark.network
def test_drawn_digits_are_read_as_well_as_the_images_themselves() -> None:
    """The first 200 test digits, white on black and black on white, in four sizes."""
    model, test = SavedModel.load(ROOT / "export" / "seqmnist" / "2"), load_mnist("auto", None, ("test",))["test"]
    images, labels = test.images[:200], test.labels[:200]

    def right(images: np.ndarray) -> int:
        return int((model(images=images)["class_id"] == labels).sum())

    for side in (28, 56, 280, 1000):
        for levels in (images, 255 - images):
            drawn = [Image.fromarray(each).resize((side, side), Image.Resampling.BICUBIC) for each in levels]
            assert right(np.stack([to_mnist(each) for each in drawn])) >= right(images) - 1


def test_text_shows_the_image() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[0, 1], image[27, 0] = 255, 128
    lines = picture_to_text(image).split("\n")
    assert len(lines) == 28
    assert lines[0] == "  @@" and lines[27] == "++" and not any(lines[1:27])
