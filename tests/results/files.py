"""Changes of published files, for the tests of the checks."""

from __future__ import annotations

import re
from pathlib import Path

import keras

from seqmnist_tf.results.board import Board
from seqmnist_tf.results.records import Record
from seqmnist_tf.results.store import file_hash, read_manifest, write_manifest


def read_records(folder: Path) -> dict[str, list[Record]]:
    """Return the completed records of a results folder by name."""
    return Board.read(folder).records


def list_record(folder: Path) -> None:
    """Write the present hashes of a record's files into the manifest, and drop those of files that are gone."""
    results = Path("results")
    present = {path.relative_to(results).as_posix(): file_hash(path) for path in folder.iterdir() if path.is_file()}
    kept = {name: digest for name, digest in read_manifest(results).items() if (results / name).is_file()}
    write_manifest(results, {**kept, **present})


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


def other_weights(path: Path) -> None:
    """Change the sign of all weights of a model."""
    model = keras.saving.load_model(path, compile=False)
    model.set_weights([-weights for weights in model.get_weights()])
    model.save(path)
