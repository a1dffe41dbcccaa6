"""Synthetic photographs of digits: MNIST's samples as dark strokes on paper, in uneven light and on other papers."""

from __future__ import annotations

import base64
import functools
import io
import json

import numpy as np
from PIL import Image, ImageOps

from seqmnist_tf.serve.app import WEB

SIDE = 400
DOWN, RIGHT = np.mgrid[0:SIDE, 0:SIDE] / SIDE
SAMPLES = {
    sample["label"]: np.frombuffer(base64.b64decode(sample["pixels"]), np.uint8).reshape(28, 28)
    for sample in json.loads((WEB / "samples.json").read_text())
}


@functools.cache
def strokes(digit: int) -> np.ndarray:
    """Return the ink of a digit in the middle of a sheet, 0 to 1."""
    sample = Image.fromarray(SAMPLES[digit]).resize((300, 300), Image.Resampling.BICUBIC)
    return np.asarray(ImageOps.expand(sample, 50), np.float64) / 255


def sheet(digit: int) -> np.ndarray:
    """Return a digit in dark ink on white paper, as the share of the light that comes back."""
    return 0.9 - 0.7 * strokes(digit)


LINES = np.where((np.arange(SIDE) % 40 < 3)[:, None], 0.7, 0.9)  # pale, on white paper


def lined(digit: int) -> np.ndarray:
    """Return a digit on lined paper."""
    return np.minimum(sheet(digit), LINES)


def photograph(reflected: np.ndarray, light: np.ndarray | float = 1.0, noise: float = 0.01) -> Image.Image:
    """Return a grey picture of a sheet in some light, with the noise of a camera."""
    noisy = reflected * light + np.random.RandomState(0).normal(0, noise, reflected.shape)
    return Image.fromarray((255 * noisy.clip(0, 1)).round().astype(np.uint8))


def of_half_the_light(shaded: np.ndarray, edge: float = 0.02) -> np.ndarray:
    """Return the light with a shadow where ``shaded`` is above 0; its edge is as soft as ``edge``."""
    return 1 - 0.5 * (shaded / edge + 0.5).clip(0, 1)


LIGHTS = {
    "even light": 1.0,
    "gradient": 1 - 0.6 * RIGHT,
    "gradient from above": 0.35 + 0.6 * DOWN,
    "half shadow": of_half_the_light(RIGHT - 0.5),
    "shadow at an angle": of_half_the_light(RIGHT + 0.5 * DOWN - 0.7),
    "soft shadow": of_half_the_light(DOWN - 0.45, edge=0.2),
    "vignette": 1 - 0.9 * ((DOWN - 0.5) ** 2 + (RIGHT - 0.5) ** 2),
}


def photographs(digit: int) -> dict[str, Image.Image]:
    """Return photographs of a digit by name."""
    plain = photograph(sheet(digit))
    transparent = Image.new("RGBA", (SIDE, SIDE), (20, 20, 60, 0))
    transparent.putalpha(Image.fromarray((255 * strokes(digit)).astype(np.uint8)))
    return {
        **{name: photograph(sheet(digit), light) for name, light in LIGHTS.items()},
        "lined paper": photograph(lined(digit)),
        "lined paper, gradient": photograph(lined(digit), LIGHTS["gradient"]),
        "chalk": photograph(0.15 + 0.7 * strokes(digit)),
        "chalk, gradient": photograph(0.15 + 0.7 * strokes(digit), LIGHTS["gradient"]),
        "chalk, half shadow": photograph(0.15 + 0.7 * strokes(digit), LIGHTS["half shadow"]),
        "noise": photograph(sheet(digit), noise=0.08),
        "pale": photograph(0.9 - 0.2 * strokes(digit)),
        "transparent": transparent,
        "coloured": ImageOps.colorize(plain, (30, 30, 140), (250, 240, 150)),
        "small": plain.resize((60, 60), Image.Resampling.BOX),
        "large": photograph(sheet(digit), LIGHTS["gradient"]).resize((2400, 2400), Image.Resampling.BICUBIC),
        "wide": ImageOps.expand(plain, (400, 0, 200, 0), fill=229),
    }


def blank_photographs() -> dict[str, Image.Image]:
    """Return photographs of paper, lined paper and a blackboard without a digit, by name."""
    papers = {"paper": np.array(0.9), "lined paper": LINES, "blackboard": np.array(0.15)}
    return {
        f"{paper}, {name}": photograph(np.broadcast_to(reflected, (SIDE, SIDE)), light)
        for paper, reflected in papers.items()
        for name, light in LIGHTS.items()
    }


def encoded_photographs(digit: int) -> dict[str, bytes]:
    """Return the files of the photographs: PNG, and JPEG from a camera that was turned, by the value of EXIF."""
    pictures = {name: (picture, "PNG", Image.Exif()) for name, picture in photographs(digit).items()}
    for value, turn in (
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ):
        exif = Image.Exif()
        exif[0x0112] = value
        pictures[f"turned, EXIF {value}"] = (photograph(sheet(digit), LIGHTS["gradient"]).transpose(turn), "JPEG", exif)
    files = {}
    for name, (picture, kind, exif) in pictures.items():
        file = io.BytesIO()
        picture.save(file, kind, exif=exif)
        files[name] = file.getvalue()
    return files
