"""The benchmark on toy data: turns, medians, the JSON document; its Markdown."""

from __future__ import annotations

import json
import warnings

import keras
import numpy as np
import pytest

from seqmnist_tf import kernel
from seqmnist_tf.benchmark import benchmark_report, training
from seqmnist_tf.benchmark.__main__ import main
from seqmnist_tf.benchmark.models import MODELS
from seqmnist_tf.model import Timed
from tests.conftest import Command
from tests.kernel.test_native import isas
from tests.toy import ROOT

ROUNDS, KERNELS = ("train", "evaluate"), ("keras", "native")


def test_a_row_has_medians_and_the_ratio_to_stock_keras() -> None:
    answers = {
        "keras": [Timed(seconds, 1.0) for seconds in (1.0, 3.0, 5.0)],
        "native": [Timed(seconds, mb) for seconds, mb in ((2.0, 1.0), (4.0, 2.0), (6.0, 3.0))],
    }
    rows = training.summarize_times(answers)
    assert rows["keras"]["median_ms"] == 3000 and rows["keras"]["ratio"] == 1
    assert rows["native"] == {
        "median_ms": 4000,
        "quartiles_ms": [3000, 5000],
        "range_ms": [2000, 6000],
        "turns": 3,
        "ratio": 0.75,
        "peak_mb": 3,
    }


@pytest.mark.slow
@pytest.mark.skipif(not isas(), reason="no native kernel")
def test_the_document(command: Command, toy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "MAX_ROUNDS", {"train": 3, "evaluate": 1})
    monkeypatch.setattr(training, "CELL_ROUNDS", {"train": 1})
    result = command(main, "--json")
    assert result.status == 0, result.err
    document = json.loads(result.out)
    published = json.loads((ROOT / "results" / "benchmark" / "baseline.json").read_text())
    assert set(document) == set(published)
    assert document["isa"] == isas()[-1]
    for action, turns in (("train_step", 3), ("evaluate", 1)):
        keras, native = document[action]["keras"], document[action]["native"]
        assert set(native) == set(published[action]["native"]) and native["turns"] == turns
        assert native["ratio"] == pytest.approx(keras["median_ms"] / native["median_ms"])
        assert native["peak_mb"] is None or 100 < native["peak_mb"] < 5000
    result = command(main, "--cells", "SimpleRNN", "--json")
    (row,) = json.loads(result.out)["cells"]
    assert row["layer"] == "SimpleRNN" and row["keras"]["median_ms"] > 0 and row["native"]["median_ms"] > 0
    monkeypatch.setattr(training, "MODELS", {name: MODELS[name] for name in ("small", "tagger")})
    result = command(main, "--models", "--json")
    rows = json.loads(result.out)["models"]
    assert [row["model"] for row in rows] == ["small", "tagger"]
    assert all(row[action][kernel]["median_ms"] > 0 for row in rows for action in ROUNDS for kernel in KERNELS)


@pytest.mark.parametrize("name", MODELS)
def test_everyday_models_are_the_same_on_both(name: str) -> None:
    """Trained for three batches of few and short sequences, from the same weights."""
    everyday = MODELS[name]._replace(batch=2)
    everyday = everyday._replace(shape=(5, *everyday.shape[1:]))
    models = [everyday.model(layers) for layers in (keras.layers, kernel)]
    models[1].set_weights(models[0].get_weights())
    x, y = everyday.data(models[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in models:
            model.fit(np.concatenate([x] * 3), np.concatenate([y] * 3), 2, shuffle=False, verbose=0)
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("layer", ["GRUs", "nowhere.py"])
def test_a_layer_that_cannot_be_is_bad_input(layer: str, command: Command) -> None:
    result = command(main, "--cells", "LSTM", layer)
    assert (result.status, result.out) == (2, "") and "model.layer" in result.err


def test_what_was_not_measured_is_a_dash() -> None:
    """The numbers of the published reports are compared with docs/speed.md."""
    document = json.loads((ROOT / "results" / "benchmark" / "cells_avx512.json").read_text())
    document["cells"] = [{"layer": "examples/mine.py:Mine", "keras": {"median_ms": 500, "peak_mb": None}}]
    assert benchmark_report(document).endswith("\n| Mine | 500.0 | - | - | - | - |")
