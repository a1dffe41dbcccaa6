"""The command that checks a layer before it is trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from seqmnist_tf.check import main
from tests.conftest import Command
from tests.model.test_layers import GOOD, ON_STOCK_KERAS


@pytest.mark.slow
def test_a_bare_cell_is_checked_and_timed(command: Command, in_tmp: Path) -> None:
    (in_tmp / "own.py").write_text(ON_STOCK_KERAS + "print('read me')")
    result = command(main, "own.py:Cell", "--train.batch-size=4")
    assert result.status == 0, result.err
    rows = dict(re.split(" +", line, maxsplit=1) for line in result.out.splitlines())
    assert list(rows) == ["layer", "checked", "parameters", "kernel", "step", "memory", "time"]
    assert rows["layer"].startswith("RNN of Cell: ") and "is a cell" in result.err and "read me" in result.err
    # a matrix of units x units, and ten outputs
    assert rows["parameters"].startswith(f"{128 * 128 + 1290:,} with 128 units")
    assert f"256 units have {256 * 256 + 2570:,}" in rows["parameters"]
    assert rows["kernel"].startswith("stock Keras: ")
    assert re.match(r"\d+ ms on stock Keras, for 4 images", rows["step"])
    assert rows["time"].endswith(" for 6 seeds, here")
    assert {path.name for path in in_tmp.iterdir()} == {"own.py"}


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("strong", "model.layer"),
        ("own.py:Other", "model.layer"),
        ("nowhere.py:Last", "nowhere.py"),
        ("own.py:Mixed", "independently"),
    ],
)
def test_what_is_no_layer_is_bad_input(layer: str, words: str, command: Command, in_tmp: Path) -> None:
    mixed = GOOD.replace("class Last", "class Mixed").replace("x[:, -1]", "x[:, -1] - ops.mean(x[:, -1], axis=0)")
    (in_tmp / "own.py").write_text(mixed)
    result = command(main, layer)
    assert (result.status, result.out) == (2, "")
    (error,) = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert words in error
