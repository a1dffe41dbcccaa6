"""Runs with a custom layer: what they keep, and that an untrusted layer runs only when it is asked for."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.data import sequences
from seqmnist_tf.evaluate import main as evaluate_main
from seqmnist_tf.train import RunDirectory, load_final_model, train
from seqmnist_tf.train.__main__ import main as train_main
from tests.conftest import Command
from tests.model.test_layers import CELL, GOOD
from tests.toy import SMALL, SMALL_VALUES, toy_mnist


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of a layer from a file, at ``run``."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.chdir(folder)
        patch.setattr(sequences, "load_mnist", toy_mnist)
        Path("own.py").write_text(GOOD)
        words = ["--model.layer=own.py:Last", "--model.match-parameters=150", "--train.n-epochs=2", "--run-dir=run"]
        assert train_main([*[word for word in SMALL if "hidden" not in word], *words]) == 0
    assert "13 units of own.py:Last: 153 parameters, +3 against model.match_parameters 150" in out.getvalue()
    return folder


@pytest.fixture
def own(own_run: Path, in_tmp: Path, toy: None) -> RunDirectory:
    """A copy of that run, whose layer's file has changed since."""
    (in_tmp / "own.py").write_text("raise SystemExit('the copy must be used')\n")
    return RunDirectory(Path(shutil.copytree(own_run / "run", in_tmp / "run")))


def test_a_run_keeps_its_layer_and_goes_on_with_the_copy(own: RunDirectory, command: Command) -> None:
    assert (own.path / "layer.py").read_text() == GOOD
    assert own.config.model.hidden_size == 13
    summary = own.summary or {}
    assert (summary["num_params"], summary["config_id"]) == (
        153,
        cfg.config_id(own.config, cfg.LayerFile(own.path, GOOD.encode())),
    )
    for name in ("summary.json", "model.keras"):  # as after a kill in the last evaluation
        (own.path / name).unlink()
    history, resumed = own.history(), command(train_main, "--run-dir=run", "--resume")
    assert resumed.status == 0 and (own.summary, own.history()) == (summary, history)
    assert "look closer:   python -m seqmnist_tf.evaluate run --allow-code\n" in resumed.out


def test_a_module_beside_a_layers_file_is_refused_before_training(
    command: Command, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(in_tmp)
    (in_tmp / "part_of_own.py").touch()
    (in_tmp / "own.py").write_text(f"def f(units):\n    from part_of_own import g\n\nimport part_of_own\n{GOOD}")
    result = command(train_main, *SMALL, "--model.layer=own.py:Last", "--run-dir=run")
    assert result.status == 2 and "part_of_own.py" in result.err and not (in_tmp / "run").exists()


# A layer that reads a weight which its cell sets in the loop; with noise it is another in each part of a batch.
FAILS_WITH_NOISE = CELL.replace("h = states[0]", "h = states[0]; self.w.assign(ops.clip(self.w, -1.0, 1.0))") + (
    "class Outer(keras.layers.Layer):\n"
    "    def __init__(self, units, **kwargs):\n        super().__init__(**kwargs)\n"
    "        self.units, self.rnn = units, keras.layers.RNN(Cell(units))\n"
    "    def build(self, shape):\n        self.rnn.build(shape)\n"
    "    def compute_output_shape(self, shape):\n        return shape[0], self.units\n"
    "    def call(self, x):\n        return self.rnn(x) + 0.0 * ops.sum(self.rnn.cell.w)\n"
    "    def get_config(self):\n        return {**super().get_config(), 'units': self.units}\n"
)


def test_the_page_and_the_predictions_of_a_run(own: RunDirectory, command: Command) -> None:
    with (own.path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(30))
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert right == (own.summary or {})["final"]["test_correct"]
    assert all(0 < float(row["probability"]) <= 1 for row in rows)
    (own.path / "overview.png").unlink()
    (own.path / "predictions.csv").unlink()
    assert command(evaluate_main, "run", "--allow-code").status == 0
    assert (own.path / "overview.png").read_bytes().startswith(b"\x89PNG")
    with (own.path / "predictions.csv").open() as file:
        assert list(csv.DictReader(file)) == rows
    # It belongs to the summary, which another machine's model could contradict.
    (own.path / "predictions.csv").write_text("of another machine")
    assert command(evaluate_main, "run", "--allow-code").status == 0
    assert (own.path / "predictions.csv").read_text() == "of another machine"


def test_evaluate_leaves_a_record_as_it_is(command: Command, in_tmp: Path, finished: Path) -> None:
    shutil.rmtree(in_tmp / "run" / "checkpoints")  # as in a published record
    (in_tmp / "run" / "overview.png").unlink()
    assert command(evaluate_main, "run").status == 0
    assert not (in_tmp / "run" / "overview.png").exists()


HOSTILE = f"open({'HARMED'!r}, 'w').close()\n"


def test_the_code_of_a_strangers_run_is_not_run_unasked(own: RunDirectory, command: Command, in_tmp: Path) -> None:
    (own.path / "layer.py").write_text(HOSTILE + GOOD)
    for main, words in ((evaluate_main, ["run"]), (evaluate_main, ["run", "--json"])):
        result = command(main, *words)
        assert result.status == 2
        assert result.err.startswith("error: run has a custom layer (own.py:Last)") and "--allow-code" in result.err
        assert not (in_tmp / "HARMED").exists()
    document = json.loads((own.path / "config.json").read_text())
    document["model"]["layer"] = "antigravity:fly"  # an import with an effect
    (own.path / "config.json").write_text(json.dumps(document))
    (own.path / "layer.py").unlink()  # it would be read in the module's place
    result = command(evaluate_main, "run")
    assert result.status == 2 and "a custom layer (antigravity:fly)" in result.err
    assert "antigravity" not in sys.modules
    (own.path / "layer.py").write_text(HOSTILE + GOOD)
    # The test would notice: asked for, it runs.
    document["model"]["layer"] = "own.py:Last"
    (own.path / "config.json").write_text(json.dumps(document))
    command(evaluate_main, "run", "--allow-code")
    assert (in_tmp / "HARMED").exists()


def test_the_path_of_a_strangers_layer_is_not_run_in_the_place_of_its_copy(
    own: RunDirectory, command: Command, in_tmp: Path
) -> None:
    (own.path / "layer.py").unlink()
    (in_tmp / "own.py").write_text(HOSTILE + GOOD)
    result = command(evaluate_main, "run", "--allow-code")
    assert (
        result.status == 2 and result.err == "error: run has no layer.py, and its layer is from a file (restore it)\n"
    )
    assert not (in_tmp / "HARMED").exists()


def test_a_hostile_model_file_executes_nothing(command: Command, in_tmp: Path, finished: Path) -> None:
    harm = keras.layers.Lambda(lambda x: (open("HARMED", "w"), x)[1], output_shape=(784, 1))  # noqa: SIM115
    model = keras.Sequential([keras.Input((784, 1)), harm, keras.layers.LSTM(4), keras.layers.Dense(10)])
    (in_tmp / "HARMED").unlink(missing_ok=True)
    model.save(in_tmp / "run" / "model.keras")
    (in_tmp / "HARMED").unlink(missing_ok=True)
    result = command(evaluate_main, "run")
    assert result.status in (0, 2)  # weights are read, no layers
    assert not (in_tmp / "HARMED").exists()


DROPOUT = """
import keras

def Dropped(units):
    return keras.layers.LSTM(units, dropout=0.3, recurrent_dropout=0.3)
"""


@pytest.mark.slow
def test_masks_of_dropout_go_on_after_a_resume(command: Command, in_tmp: Path, toy: None) -> None:
    (in_tmp / "own.py").write_text(DROPOUT)
    words = [*SMALL, "--model.layer=own.py:Dropped", "--train.n-epochs=2"]
    assert command(train_main, *words, "--run-dir=whole").status == 0
    stopped = train(RunDirectory(in_tmp / "whole").config, "parts", stop_rule=lambda history: "enough")
    assert stopped["status"] == "stopped" and stopped["epochs"] == 1
    assert command(train_main, "--run-dir=parts", "--resume").status == 0
    whole, parts = RunDirectory(in_tmp / "whole"), RunDirectory(in_tmp / "parts")
    assert parts.step_losses() == whole.step_losses()
    models = [load_final_model(run, allow_code=True).get_weights() for run in (whole, parts)]
    assert all(np.array_equal(a, b) for a, b in zip(*models, strict=True))


def test_a_layer_that_fails_shows_its_traceback_and_its_run_has_failed(in_tmp: Path, toy: None) -> None:
    (in_tmp / "own.py").write_text(FAILS_WITH_NOISE)
    values = {**SMALL_VALUES, "train.n_epochs": 1, "model.layer": "own.py:Outer", "train.recurrent_noise": 0.1}
    with pytest.raises(Exception, match="out of scope") as raised:
        train(cfg.with_values(cfg.Config(), values), "run")
    assert "own.py" in {Path(str(frame.path)).name for frame in raised.traceback}
    assert (RunDirectory(Path("run")).summary or {})["status"] == "failed"
