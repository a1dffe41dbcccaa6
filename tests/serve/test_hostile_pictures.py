"""Pictures of strangers: only six formats are opened, sizes are checked before decoding, damage is one line."""

from __future__ import annotations

import io
import re
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from seqmnist_tf.serve import prepare_picture
from seqmnist_tf.serve.picture import FORMATS, MAX_PIXELS, MAX_SIDE, prepare
from seqmnist_tf.system import InputError
from tests.serve.test_picture import DIGIT, difference, read_picture

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\n(/tmp/x) (w) file\nshowpage\n%%EOF\n"


def saved(kind: str, picture: Image.Image = DIGIT, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, pixels: bytes = b"", bits: int = 8, colour: int = 0, extra: bytes = b"") -> bytes:
    """Return a PNG of the declared size, whatever pixels it has."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def gif(width: int, height: int) -> bytes:
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + frame + b";"


def tiff(*tags: tuple[int, int, int, int]) -> bytes:
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


def wide_tiff(width: int) -> bytes:
    content = saved("TIFF")
    at = content.index(struct.pack("<H", 256), 8)  # the tag of the width: tag, type, count, value
    return content[:at] + struct.pack("<HHII", 256, 4, 1, width) + content[at + 12 :]


def floats(value: float) -> bytes:
    image = np.zeros((40, 40), np.float32)
    image[10:20, 10:20] = value
    return saved("TIFF", Image.fromarray(image))


NOT_READABLE = "is not a readable picture (give a PNG, JPEG, WebP, GIF, BMP or TIFF)"
TOO_LARGE = f"at most {MAX_PIXELS:,} are allowed"
TOO_LONG = f"at most {MAX_SIDE:,} on a side are allowed"
HOSTILE_PICTURES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", NOT_READABLE),
    "text": (b"no picture", NOT_READABLE),
    "EPS, which Ghostscript would run": (EPS, NOT_READABLE),
    "EPS behind a PNG's name": (b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, len(EPS)) + bytes(20) + EPS, NOT_READABLE),
    "ICO": (saved("ICO"), NOT_READABLE),
    "PPM": (saved("PPM"), NOT_READABLE),
    "69 bytes of 1 x 100,000,000": (png(1, 100_000_000), f"1x100000000 pixels ({TOO_LONG})"),
    "a side too long": (png(MAX_SIDE + 1, 1), f"{MAX_SIDE + 1}x1 pixels ({TOO_LONG})"),
    "pixels too many": (png(7072, 7072), f"7072x7072 pixels ({TOO_LARGE})"),
    "a bomb by Pillow's measure": (png(60_000, 60_000), f"too many pixels ({TOO_LARGE})"),
    "no width": (png(0, 5), "digit.png"),
    "a GIF of 65,535 x 65,535": (gif(65_535, 65_535), f"too many pixels ({TOO_LARGE})"),
    "a BMP of 10,000 x 10,000": (bmp(10_000, 10_000), TOO_LARGE),
    "a TIFF of 100,000 x 280": (wide_tiff(100_000), TOO_LONG),
    "a TIFF without tags": (tiff(), "digit.png"),
    "a TIFF that ends in its tags": (tiff((256, 4, 1, 9), (257, 4, 1, 9))[:20], "digit.png"),
    "a PNG cut off": (saved("PNG")[:200], "cannot read"),
    "a PNG with pixels missing": (png(30, 30, bytes(100)), "cannot read"),
    "a PNG whose comment unpacks to 200 MB": (
        png(30, 30, bytes(31 * 30), extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000)))),
        "digit.png",
    ),
    "a palette without colours": (png(30, 30, bytes(31 * 30), colour=3), "digit.png: None"),
    "Exif that is none": (saved("JPEG", exif=b"Exif\0\0II*\0" + b"\xff" * 40)[:400], "digit.png"),
    "one colour": (saved("PNG", Image.new("L", (50, 50), 99)), "digit.png: None"),
    "not a number": (floats(np.nan), "pixels that are not finite numbers"),
}


def peak_memory() -> int:
    """Return the most memory that this process had since its peak began anew, in kB."""
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line)


@pytest.mark.parametrize("kind", HOSTILE_PICTURES)
def test_a_hostile_picture_is_one_line_in_little_time_and_memory(kind: str, tmp_path: Path) -> None:
    content, message = HOSTILE_PICTURES[kind]
    (tmp_path / "digit.png").write_bytes(content)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, start = peak_memory(), time.process_time()
    try:
        answer = f"digit.png: {prepare_picture(tmp_path / 'digit.png').image}"
    except InputError as error:
        answer = str(error)
    assert message in answer and "digit.png" in answer
    assert answer.isprintable() and len(answer) < 500
    assert time.process_time() - start < 2
    assert peak_memory() - before < 150_000


def test_the_largest_pictures_are_read(tmp_path: Path) -> None:
    wanted = read_picture(io.BytesIO(saved("PNG")), "digit")
    large = DIGIT.resize((7000, 7000))
    read = read_picture(io.BytesIO(saved("JPEG", large)), "large")
    assert difference(read, wanted) < 45
    side = Image.new("L", (MAX_SIDE, 300))
    side.paste(DIGIT.resize((300, 300)), (MAX_SIDE // 2, 0))
    assert read_picture(io.BytesIO(saved("PNG", side)), "long").any()


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files_are_read_or_refused(kind: str) -> None:
    """Files of each format, each with a few bytes changed or cut off."""
    whole = saved(kind, DIGIT.convert("RGB") if kind == "WEBP" else DIGIT)
    random = np.random.RandomState(0)
    n, refused = 40, 0
    for _ in range(n):
        content = bytearray(whole[: random.randint(20, len(whole) + 1)] if random.rand() < 0.3 else whole)
        for _ in range(random.randint(1, 6)):
            content[random.randint(min(len(content), 400))] = random.randint(256)
        try:
            image = prepare_picture(io.BytesIO(bytes(content)), "digit").image
        except InputError as error:
            refused += 1
            assert str(error).isprintable() and "digit" in str(error)
        else:
            refused += image is None
            assert image is None or (image.dtype, image.shape) == (np.uint8, (28, 28))
    assert n / 15 < refused <= n


def test_names_cannot_move_the_terminals_cursor(tmp_path: Path) -> None:
    name = "a\x1b[2J\n\u202eb\udcff.png"
    with pytest.raises(InputError) as raised:
        prepare_picture(tmp_path / name)
    assert r"a\x1b[2J\n\u202eb\udcff.png: No such file" in str(raised.value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("error", [MemoryError(), KeyError(7), struct.error("x"), RecursionError("deep")])
def test_whatever_pillow_raises_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Callable[[], None]:
        raise error

    content = io.BytesIO(saved("PNG"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(InputError, match=r"^cannot read digit: it is damaged \("):
        prepare_picture(content, "digit")


@pytest.mark.parametrize("share", [0.03, 0.5])
def test_thousands_of_specks_take_little_time(share: float) -> None:
    specks = np.random.RandomState(0).rand(256, 256) < share
    start = time.process_time()
    assert prepare(Image.fromarray(np.where(specks, 0, 255).astype(np.uint8))) == (None, 0)
    assert time.process_time() - start < 5  # 1.5 s were seen on a loaded machine
