"""The benchmark on toy data: turns, medians, the JSON document; its Markdown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from seqmnist_tf.benchmark import cells_report, training, training_report
from seqmnist_tf.benchmark.__main__ import main
from tests.conftest import Command
from tests.kernel.test_native import isas
from tests.toy import ROOT


def test_a_row_has_medians_and_the_ratio_to_stock_keras() -> None:
    answers = {
        "keras": [{"ms": ms, "peak_mb": 1.0} for ms in (1.0, 3.0, 5.0)],
        "native": [{"ms": ms, "peak_mb": mb} for ms, mb in ((2.0, 1.0), (4.0, 2.0), (6.0, 3.0))],
    }
    rows = training.summarize_times(answers)
    assert rows["keras"]["median_ms"] == 3 and rows["keras"]["ratio"] == 1
    assert rows["native"] == {
        "median_ms": 4,
        "quartiles_ms": [3, 5],
        "range_ms": [2, 6],
        "turns": 3,
        "ratio": 0.75,
        "peak_mb": 3,
    }


def test_layers_have_as_many_parameters_as_the_baseline() -> None:
    for layer in ("LSTM", "GRU"):
        config = training.match_units(training.configure(layer, "keras"))
        parameters = training.build_model(config).count_params()
        assert abs(parameters - training.BASELINE_PARAMETERS) < 500


@pytest.mark.slow
@pytest.mark.skipif(not isas(), reason="no native kernel")
def test_the_document(command: Command, toy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "MAX_ROUNDS", {"train": 3, "evaluate": 1})
    monkeypatch.setattr(training, "CELL_ROUNDS", {"train": 1})
    result = command(main, "--json")
    assert result.status == 0, result.err
    document = json.loads(result.out)
    published = json.loads((ROOT / "results" / "benchmark.json").read_text())
    assert set(document) <= set(published)
    assert document["isa"] == isas()[-1]
    for action, turns in (("train_step", 3), ("evaluate", 1)):
        keras, native = document[action]["keras"], document[action]["native"]
        assert set(native) == set(published[action]["native"]) and native["turns"] == turns
        assert native["ratio"] == pytest.approx(keras["median_ms"] / native["median_ms"])
        assert native["peak_mb"] is None or 100 < native["peak_mb"] < 5000
    result = command(main, "--cells", "SimpleRNN", "--json")
    (row,) = json.loads(result.out)["cells"]
    assert row["layer"] == "SimpleRNN" and row["keras"]["median_ms"] > 0 and row["native"]["median_ms"] > 0


@pytest.mark.parametrize("layer", ["GRUs", "nowhere.py"])
def test_a_layer_that_cannot_be_is_bad_input(layer: str, command: Command) -> None:
    result = command(main, "--cells", "LSTM", layer)
    assert (result.status, result.out) == (2, "") and "model.layer" in result.err


def times(median: float, ratio: float, peak: float | None) -> dict[str, Any]:
    return {"median_ms": median, "ratio": ratio, "peak_mb": peak}


DOCUMENT: dict[str, Any] = {
    "isa": "avx512",
    "threads": 2,
    "versions": {"keras": "3.15.1", "tensorflow": "2.21.0"},
    "machine": {"processor": "EPYC"},
    "git": {"commit": "c0ffee0123456", "dirty": False},
    "measured": "2026-11-24T21:36:24+00:00",
}
ORIGIN = "EPYC, 2 threads, instruction set avx512; Keras 3.15.1; 2026-11-24, commit c0ffee0.\n\n"


def test_the_baseline() -> None:
    train = {"native": times(50, 4, None), "keras": times(200, 1, 1200)}
    evaluate = {"native": times(2250, 4, None), "keras": times(9000, 1, 1300.4)}
    assert training_report({"train_step": train, "evaluate": evaluate, **DOCUMENT}) == ORIGIN + (
        "| implementation | training step, ms | speed-up over stock Keras | evaluation, s | speed-up over stock Keras "
        "| peak memory, MB |\n"
        "|---|---:|---:|---:|---:|---:|\n"
        "| stock Keras | 200.0 | 1.00 | 9.00 | 1.00 | 1,300 |\n"
        "| Keras on the native kernel | 50.0 | 4.00 | 2.25 | 4.00 | - |"
    )


def test_cells() -> None:
    rows = [
        {"layer": "GRU", "keras": times(700, 1, 1200), "native": times(200, 3.5, None)},
        {"layer": "examples/mine.py:Mine", "keras": times(500, 1, 1100)},  # the kernel does not compute it
    ]
    assert cells_report({"cells": rows, **DOCUMENT}) == ORIGIN + (
        "| layer | stock Keras, ms | native kernel, ms | speed-up | memory, stock Keras, MB | native, MB |\n"
        "|---|---:|---:|---:|---:|---:|\n"
        "| GRU | 700.0 | 200.0 | 3.50 | 1,200 | - |\n"
        "| Mine | 500.0 | - | - | 1,100 | - |"
    )
