"""Changes of published files, for the tests of the checks."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import keras


def flip_digit(path: Path, pattern: str = r"\d") -> None:
    """Change one digit, the last in the last match of ``pattern``."""
    text = path.read_text()
    match = list(re.finditer(pattern, text))[-1]
    at = next(i for i in range(match.end() - 1, match.start() - 1, -1) if text[i].isdigit())
    path.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])


def flip_byte(path: Path) -> None:
    """Change one bit of the byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def exchange_losses(path: Path) -> None:
    """Exchange the first two losses of ``steps.csv`` or ``steps.csv.gz``: their epoch's mean stays."""
    packed = path.suffix == ".gz"
    text = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    text = re.sub(rb"\n1,([^,]*)(.*)\n2,([^,]*)", rb"\n1,\3\2\n2,\1", text, count=1)
    path.write_bytes(gzip.compress(text) if packed else text)


def other_weights(path: Path) -> None:
    """Change the sign of all weights of a model."""
    model = keras.saving.load_model(path, compile=False)
    model.set_weights([-weights for weights in model.get_weights()])
    model.save(path)
