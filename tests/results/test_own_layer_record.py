"""Records with a layer of their own: its text is shown, and its code runs only where that is allowed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from seqmnist_tf.config import LayerFile
from seqmnist_tf.results.__main__ import main
from seqmnist_tf.results.model_check import is_example
from seqmnist_tf.train.__main__ import main as train_main
from tests.conftest import Command
from tests.model.test_layers import GOOD
from tests.results.files import read_records
from tests.toy import ROOT

WORDS = (
    "--model.layer=own.py:Last",
    "--model.match-parameters=150",
    "--task.limit-train=40",
    "--train.batch-size=16",
    "--train.n-epochs=2",
    "--wandb.mode=disabled",
    "--run-dir=run",
)
SOURCE = GOOD + "open('executed', 'w').close()\n"


def was_executed() -> bool:
    """Return whether the layer's code ran since the last call; forget that it was imported."""
    for name in [name for name in sys.modules if name.startswith("seqmnist_layer_")]:
        del sys.modules[name]
    ran = Path("executed").exists()
    Path("executed").unlink(missing_ok=True)
    return ran


@pytest.mark.slow
def test_code_of_a_record_runs_only_where_it_is_allowed(command: Command, published: Path) -> None:
    Path("own.py").write_text(SOURCE)
    assert command(train_main, *WORDS).status == 0
    assert was_executed()
    refused = command(main, "add", "run", "--name", "mine")
    assert refused.status == 2 and "run has a layer of its own (own.py:Last)" in refused.err
    assert "give --allow-code" in refused.err and not was_executed()
    done = command(main, "add", "run", "--name", "mine", "--allow-code")
    assert (done.status, done.out) == (0, "results/mine/seed0\n") and was_executed()
    (record,) = read_records(Path("results"))["mine"]
    assert record.config.model.hidden_size == 13
    assert command(main).status == 0 and not was_executed()
    for words in (("--check",), ("--replay", "mine")):
        refused = command(main, *words)
        assert refused.status != 0 and "has a layer of its own" in refused.out + refused.err and not was_executed()
        allowed = command(main, *words, "--allow-code")
        assert allowed.status == 0 and was_executed(), allowed


def test_the_code_of_an_unchanged_example_is_no_strangers() -> None:
    path = ROOT / "examples/lem.py"
    example, other = LayerFile(path, path.read_bytes()), LayerFile(path, path.read_bytes() + b"\n")
    former = ROOT / "results/board_lem/seed0/layer.py"  # whose example was changed after its runs
    assert former.read_bytes() != path.read_bytes()
    assert is_example(example) and is_example(LayerFile(path, former.read_bytes()))
    assert not is_example(None) and not is_example(other)
