"""The benchmark on toy data: turns, medians, the JSON document; its Markdown."""

from __future__ import annotations

import json

import pytest

from seqmnist_tf.benchmark import cells_report, training
from seqmnist_tf.benchmark.__main__ import main
from seqmnist_tf.model import Timed
from tests.conftest import Command
from tests.kernel.test_native import isas
from tests.toy import ROOT


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


def test_what_was_not_measured_is_a_dash() -> None:
    """The numbers of the published reports are compared with docs/speed.md."""
    (document, *_) = json.loads((ROOT / "results" / "benchmark.json").read_text())["cells"]
    document["cells"] = [{"layer": "examples/mine.py:Mine", "keras": {"median_ms": 500, "peak_mb": None}}]
    assert cells_report(document).endswith("\n| Mine | 500.0 | - | - | - | - |")
