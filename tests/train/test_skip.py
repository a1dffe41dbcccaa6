"""A run whose steps with gradients that are not finite are skipped: its files, and that it resumes exactly."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from seqmnist_tf.train import RunDirectory, log_problems
from seqmnist_tf.train.__main__ import main as train_main
from tests.conftest import Command
from tests.toy import SMALL, killed_run
from tests.train.test_resume import assert_same

DARK = """
import keras
from keras import ops

class Dark(keras.layers.Layer):  # the darkest image has a logarithm of 0, {where}

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.recurrent = self.add_weight(shape=(1, self.units), name="recurrent_kernel")

    def call(self, x):
        mean = ops.mean(x, axis=1)
        light = ops.relu(mean + {dark})
        return ops.tanh(ops.matmul(mean, self.recurrent)) + {term}

    def get_config(self):
        return {{**super().get_config(), "units": self.units}}
"""
TERMS = {"loss": "self.recurrent * ops.log(light)", "gradient": "ops.sqrt(light * self.recurrent ** 2)"}


@pytest.mark.parametrize("where", TERMS)
def test_skipped_steps_are_recorded_and_a_resumed_run_is_the_same(
    where: str, tmp_path: Path, command: Command, toy: None
) -> None:
    layer = tmp_path / "dark.py"
    layer.write_text(DARK.format(where=where, term=TERMS[where], dark=0.296))
    words = [*SMALL, f"--model.layer={layer}:Dark", "--train.n-epochs=4", "--train.shuffle=true"]
    words += ["--optimizer.name=Adam", "--optimizer.ema-momentum=0.7", "--train.recurrent-noise-relative=0.1"]
    words += ["--optimizer.grad-clip-norm=1", "--optimizer.grad-clip-value=null", "--optimizer.schedule=cosine"]
    if where == "gradient":  # though the losses are finite
        stopped = command(train_main, *words, f"--run-dir={tmp_path / 'stopped'}")
        assert (RunDirectory(tmp_path / "stopped").summary or {})["status"] == "diverged", stopped.err

    words += ["--optimizer.nonfinite=skip", "--optimizer.warmup-steps=5"]
    whole, run = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "run")
    assert command(train_main, *words, f"--run-dir={whole.path}").status == 0
    with (whole.path / "steps.csv").open() as file:
        rows = [(float(row["loss"]), float(row["gradient_norm"])) for row in csv.DictReader(file)]
    skipped = [loss for loss, norm in rows if math.isnan(norm)]
    assert 0 < len(skipped) < len(rows) == 12
    assert all(math.isfinite(loss) for loss in skipped) == (where == "gradient")
    assert whole.summary is not None and whole.summary["skipped_steps"] == len(skipped)
    assert log_problems(whole) == []

    if where == "loss":  # whose rows are not numbers
        killed_run(run.path, *words, step=8)
        assert command(train_main, "--resume", f"--run-dir={run.path}").status == 0
        assert_same(run, whole)
