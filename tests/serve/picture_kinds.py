"""Kinds of pictures that people give to the client, made from MNIST's test images, and how many are read rightly.

python tests/serve/picture_kinds.py [N]   # a table; N pictures of each kind (default: 200)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from seqmnist_tf.data import load_mnist
from seqmnist_tf.serve import SavedModel
from seqmnist_tf.serve.ask import SURE
from seqmnist_tf.serve.picture import prepare

MODEL = Path(__file__).resolve().parents[2] / "export/seqmnist/2"
SIDE = 600  # of a photograph
Kind = Callable[[np.ndarray, np.random.RandomState], Image.Image]


def page(image: np.ndarray, random: np.random.RandomState, share: float = 0.35, margin: int = 20) -> np.ndarray:
    """Return an image of MNIST as ink, 0 to 1, of a random size and place on a page (SIDE, SIDE)."""
    rows, columns = (np.flatnonzero((image > 40).any(axis=axis)) for axis in (1, 0))
    cut = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height = int(SIDE * share * random.uniform(0.8, 1.3))
    width = max(1, round(height * cut.shape[1] / cut.shape[0]))
    large = np.asarray(Image.fromarray(cut).resize((width, height), Image.Resampling.BICUBIC), float) / 255
    top, left = (random.randint(margin, max(margin + 1, SIDE - side - margin)) for side in (height, width))
    ink = np.zeros((SIDE, SIDE))
    ink[top : top + height, left : left + width] = large[: SIDE - top, : SIDE - left]
    return np.clip((ink - 0.25) * 2, 0, 1)


def photograph(paper: np.ndarray, ink: np.ndarray, tone: float = 40) -> Image.Image:
    return Image.fromarray(np.clip(paper * (1 - ink) + tone * ink, 0, 255).astype(np.uint8))


def plain(tone: float) -> np.ndarray:
    return np.full((SIDE, SIDE), tone)


def grain(random: np.random.RandomState, deviation: float) -> np.ndarray:
    return random.normal(0, deviation, (SIDE, SIDE))


def shadow(random: np.random.RandomState) -> np.ndarray:
    """Return paper that is half in the shadow, whose edge is sharp or soft."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    angle = random.uniform(0, 2 * np.pi)
    across = x * np.cos(angle) + y * np.sin(angle) - random.uniform(0.2, 0.6)
    return 210 - 110 / (1 + np.exp(-across * random.choice([4, 12, 40]))) + grain(random, 3)


def lines(random: np.random.RandomState, squared: bool = False) -> np.ndarray:
    paper = plain(225)
    step = random.randint(40, 70)
    for row in (0, 1):
        paper[row::step] -= 60
        if squared:
            paper[:, row::step] -= 60
    return paper + grain(random, 3)


def table(random: np.random.RandomState) -> np.ndarray:
    """Return paper that ends before the picture does: a darker band on one side."""
    paper = plain(225)
    band = paper[: random.randint(40, 90)]
    band[:] = random.uniform(60, 120)
    return np.rot90(paper, random.randint(4)) + grain(random, 3)


def two(image: np.ndarray, random: np.random.RandomState) -> Image.Image:
    """Return an image and its mirror image side by side, the second one smaller."""
    large, small = (Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC) for side in (280, 240))
    side = Image.new("L", (SIDE, 320))
    side.paste(large, (20, 20))
    side.paste(ImageOps.mirror(small), (320, 40))
    return ImageOps.invert(side)


def coloured(ink: tuple[int, int, int], paper: tuple[int, int, int]) -> Kind:
    def make(image: np.ndarray, random: np.random.RandomState) -> Image.Image:
        share = page(image, random)[..., None]
        return Image.fromarray((np.array(ink) * share + np.array(paper) * (1 - share)).astype(np.uint8))

    return make


def converted(change: Callable[[Image.Image], Image.Image], ink: float = 0, paper: float = 255) -> Kind:
    return lambda image, random: change(photograph(plain(paper), page(image, random), ink))


def transparent(tone: int) -> Kind:
    def make(image: np.ndarray, random: np.random.RandomState) -> Image.Image:
        opacity = Image.fromarray((255 * page(image, random)).astype(np.uint8))
        return Image.merge("LA", [Image.new("L", opacity.size, tone), opacity])

    return make


def resized(side: int) -> Kind:
    return converted(lambda picture: picture.resize((side, side), Image.Resampling.BOX))


# Kinds of pictures that were read well from the first release on: none of them may become worse.
PLAIN: dict[str, Kind] = {
    "dark on light": converted(lambda picture: picture),
    "light on dark": converted(ImageOps.invert),
    "pale": converted(lambda picture: picture, 170, 200),
    "red on green": coloured((220, 20, 20), (20, 160, 20)),
    "equally bright colours": coloured((200, 0, 0), (0, 102, 0)),
    "black on nothing": transparent(0),
    "white on nothing": transparent(255),
    "palette": converted(lambda picture: picture.convert("P")),
    "one bit": converted(lambda picture: picture.convert("1")),
    "16 bits": converted(lambda picture: Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)),
    "floats": converted(lambda picture: Image.fromarray(np.asarray(picture).astype(np.float32) / 255)),
    "28x28": lambda image, random: Image.fromarray(255 - image),
    "56x56": resized(112),
    "3000x3000": resized(3000),
    "noise": lambda image, random: photograph(plain(230) + grain(random, 20), page(image, random)),
    "thin strokes": lambda image, random: photograph(plain(255), ndimage.grey_erosion(page(image, random), 11)),
}
# Photographs.
PHOTOGRAPHS: dict[str, Kind] = {
    "rotated": lambda image, random: photograph(
        plain(230), ndimage.rotate(page(image, random), random.uniform(-20, 20), reshape=False, order=1)
    ),
    "pencil": lambda image, random: photograph(plain(220) + grain(random, 6), 0.45 * page(image, random), 90),
    "shadow": lambda image, random: photograph(shadow(random), page(image, random)),
    "shadow, pencil": lambda image, random: photograph(shadow(random), 0.5 * page(image, random), 60),
    "lined paper": lambda image, random: photograph(lines(random), page(image, random)),
    "lined paper, pencil": lambda image, random: photograph(lines(random), 0.5 * page(image, random), 60),
    "squared paper": lambda image, random: photograph(lines(random, squared=True), page(image, random)),
    "table edge": lambda image, random: photograph(table(random), page(image, random, margin=100)),
    "table edge, near": lambda image, random: photograph(table(random), page(image, random)),
}
# Pictures whose answer is not a digit alone: "no digit found", and "several digits found".
NO_DIGIT: dict[str, Kind] = {
    "grain": lambda image, random: Image.fromarray((225 + grain(random, 8)).clip(0, 255).astype(np.uint8)),
    "blank, shadow": lambda image, random: photograph(shadow(random), plain(0)),
    "blank, lined": lambda image, random: photograph(lines(random), plain(0)),
    "blank, squared": lambda image, random: photograph(lines(random, squared=True), plain(0)),
    "blank, table edge": lambda image, random: photograph(table(random), plain(0)),
}
SEVERAL: dict[str, Kind] = {"two digits": two}
KINDS = PLAIN | PHOTOGRAPHS | NO_DIGIT | SEVERAL


class Count(NamedTuple):
    """Of ``n`` pictures of a kind: how many were read rightly, had no digit, and had several."""

    n: int
    right: int
    no_digit: int
    several: int
    unsure: int
    wrong_and_sure: int


def count(kind: str, n: int, model: SavedModel, images: np.ndarray, labels: np.ndarray) -> Count:
    """Make ``n`` pictures of a kind, always the same ones, and read them."""
    random = np.random.RandomState(1)
    right = no_digit = several = unsure = wrong = 0
    for _ in range(n):
        chosen = random.randint(len(images))
        prepared = prepare(KINDS[kind](images[chosen], random))
        if prepared.image is None:
            no_digit += 1
            continue
        answer = model(images=prepared.image[None])
        sure = answer["probabilities"].max() >= SURE
        right += int(answer["class_id"][0] == labels[chosen])
        unsure += int(not sure)
        wrong += int(sure and answer["class_id"][0] != labels[chosen])
        several += int(prepared.digits > 1)
    return Count(n, right, no_digit, several, unsure, wrong)


def main(n: int, kinds: list[str]) -> None:
    test = load_mnist("auto", None, ("test",))["test"]
    model = SavedModel.load(MODEL)
    print("| kind of picture | right | no digit | several | unsure | wrong and sure |\n|---|---|---|---|---|---|")
    for kind in kinds or KINDS:
        counts = count(kind, n, model, test.images, test.labels)
        print(f"| {kind} | " + " | ".join(map(str, counts[1:])) + " |", flush=True)


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["200"])[0]), sys.argv[2:])
