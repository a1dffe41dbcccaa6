"""The training benchmark at small sizes: its data, its processes, its document."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seqmnist_tf import data
from seqmnist_tf.benchmark import __main__ as benchmark_command
from seqmnist_tf.benchmark import training, training_report
from seqmnist_tf.benchmark.contenders import CONTENDERS, Workload
from seqmnist_tf.benchmark.process import ContenderProcess, contender_processes
from seqmnist_tf.benchmark.training import training_step_limit
from seqmnist_tf.system import RunError
from tests.conftest import Command
from tests.kernel.test_native import isas
from tests.toy import LONG_SECONDS, ROOT, toy_mnist


@pytest.fixture(autouse=True)
def toy_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "load_mnist", toy_mnist)


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    benchmark_command.save_sequences(tmp_path / "sequences.npz")
    return Workload(str(tmp_path / "sequences.npz"), batch=8, steps=56, units=16, threads=1)


def test_a_workload_has_the_sequences_that_the_baseline_reads(workload: Workload) -> None:
    examples = toy_mnist()
    whole = Workload(workload.data)
    for split in ("train", "test"):
        pixels = examples[split].images.reshape(-1, 784, 1)
        sequences = whole.sequences(split)
        assert sequences.dtype == np.float32
        np.testing.assert_allclose(sequences, (pixels / 255 - 0.1307) / 0.3081, rtol=1e-5)
        kept = workload.sequences(split)
        assert kept.shape == (len(pixels), 56, 1)
        np.testing.assert_array_equal(kept[:, [0, -1]], sequences[:, [0, -1]])
    wide = Workload(workload.data, steps=28, features=28).sequences("test")
    np.testing.assert_array_equal(wide, whole.sequences("test").reshape(-1, 28, 28))
    assert whole.labels().dtype == np.int32
    np.testing.assert_array_equal(whole.labels(), examples["train"].labels)


def test_reports_and_other_contenders_do_without_tensorflow() -> None:
    code = (
        "import sys, seqmnist_tf.benchmark.__main__, seqmnist_tf.benchmark.process\n"
        "from seqmnist_tf.benchmark import serving_report, training_report\n"
        "from seqmnist_tf.benchmark.contenders import CONTENDERS, Workload\nCONTENDERS['kernel'].make(Workload(''))\n"
        "sys.exit(bool({'tensorflow', 'keras', 'torch', 'jax'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=LONG_SECONDS).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not isas(), reason="no native kernel")
def test_the_document_and_its_text(command: Command, workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_command, "Workload", lambda data, threads: workload)
    monkeypatch.setattr(training, "MAX_ROUNDS", {"train": 3, "evaluate": 1})
    monkeypatch.setattr(training, "SCALING", ({"batch": 4}, {"steps": 20, "features": 3}, {"layers": 2}))
    monkeypatch.setattr(training, "CONTENDERS", {name: CONTENDERS[name] for name in ("keras", "native")})
    result = command(benchmark_command.main, "--scaling", "--json")
    assert result.status == 0, result.err
    document = json.loads(result.out)
    assert document["isa"] == isas()[-1]
    assert set(document["train_step"]) == set(document["evaluate"]) == {"keras", "native"}
    for rows in (document["train_step"], document["evaluate"]):
        keras, native = rows["keras"], rows["native"]
        assert keras["ratio"] == 1
        assert native["ratio"] == pytest.approx(keras["median_ms"] / native["median_ms"])
        assert 0 < native["range_ms"][0] <= native["median_ms"] <= native["range_ms"][1]
        assert native["peak_mb"] is None or 100 < native["peak_mb"] < 5000
    assert document["train_step"]["keras"]["turns"] == 3
    assert document["ratio_native"] == document["train_step"]["native"]["ratio"]
    assert 0 < document["limit"]["products_ms"] < document["train_step"]["native"]["median_ms"]
    row = document["scaling"][0]
    sizes = [(row["size"], row["value"]) for row in document["scaling"]]
    assert sizes == [("batch", 4), ("steps 20, features", 3), ("layers", 2)]
    assert all(row["keras"] > 0 and row["native"] > 0 for row in document["scaling"])
    published = json.loads((ROOT / "results" / "benchmark.json").read_text())
    assert {*document, "cells"} == set(published)  # measured by --cells
    assert set(document["train_step"]["native"]) == set(published["train_step"]["native"])
    assert set(document["limit"]) <= set(published["limit"]) and set(row) == set(published["scaling"][0])
    text = training_report(document)
    for part in (
        "stock Keras",
        "Keras on the native kernel",
        "peak of these cores",
        "batch 4 ",
        "steps 20, features 3 ",
    ):
        assert part in text
    monkeypatch.setattr(benchmark_command, "measure_training", lambda _: document)
    assert command(benchmark_command.main).out == text + "\n"


@pytest.mark.slow
@pytest.mark.skipif(not isas(), reason="no native kernel")
def test_cells_are_measured_on_both_and_matched(
    command: Command, workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_command, "Workload", lambda data, **values: replace(workload, steps=784, **values))
    monkeypatch.setattr(training, "CELL_ROUNDS", 1)
    result = command(benchmark_command.main, "--cells", "LSTM", "GRU", "--json")
    assert result.status == 0, result.err
    document = json.loads(result.out)
    assert [row["layer"] for row in document["cells"]] == ["LSTM", "GRU"]
    assert all(row["keras"]["median_ms"] > 0 and row["native"]["median_ms"] > 0 for row in document["cells"])
    refused = command(benchmark_command.main, "--cells", "GRUs")
    assert (refused.status, refused.out) == (2, "") and "error: model.layer must be LSTM, GRU" in refused.err
    refused = command(benchmark_command.main, "--cells", "nosuch.py:Cell")
    assert refused.status == 2 and "error: model.layer must name a file that can be read" in refused.err
    failed = command(benchmark_command.main, "--cells", "keras.layers:NoSuchCell")
    assert failed.status == 1 and failed.err.splitlines()[-1].startswith(
        "error: keras.layers:NoSuchCell trains neither"
    )
    refused = command(benchmark_command.main, "serving", "--cells")
    assert refused.err == "error: --cells is an option of the subject training (got serving)\n"


def test_contenders_take_turns() -> None:
    turns: list[str] = []

    class Recorded:
        def __init__(self, name: str) -> None:
            self.name = name

        def do(self, action: str) -> dict[str, float]:
            turns.append(self.name)
            return {"ms": len(turns), "peak_mb": 1.0}

    answers = training.take_turns([Recorded("keras"), Recorded("b")], "train", 3, 100)  # type: ignore[list-item]
    assert turns == ["keras", "b"] * 3
    rows = training.summarize_times(answers)
    assert rows["keras"]["median_ms"] == 3
    assert rows["b"]["range_ms"] == [2, 6]
    assert rows["b"]["ratio"] == 0.75
    turns.clear()
    training.take_turns([Recorded("keras")], "train", 3, 0)  # type: ignore[list-item]
    assert turns == ["keras"]


def test_a_contender_that_cannot_start_is_left_out(
    workload: Workload, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQMNIST_ISA", "sse")
    with contender_processes(["kernel"], workload) as started:
        assert started == []
    assert "warning: left out: contender kernel: InputError: SEQMNIST_ISA must be avx2" in capsys.readouterr().err


@pytest.mark.skipif(not isas(), reason="no native kernel")
def test_a_contender_that_dies_is_named(workload: Workload) -> None:
    contender = ContenderProcess("kernel", workload)
    contender.process.kill()
    contender.process.join()
    with pytest.raises(RunError, match="contender kernel ended without an answer"):
        contender.do("train")
    contender.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jit_compile", "pytorch_flush", "jax"])
def test_a_rival_trains_and_evaluates(name: str, workload: Workload) -> None:
    if not CONTENDERS[name].installed:
        pytest.skip(f"{CONTENDERS[name].package} is not installed")
    with contender_processes([name], workload) as (rival,):
        assert rival.do("train")["ms"] > 0
        assert rival.do("evaluate")["ms"] > 0
        assert rival.version


@pytest.mark.skipif(not isas(), reason="no native kernel")
def test_the_limit_counts_shared_steps_once(workload: Workload) -> None:
    whole = Workload(workload.data, batch=8, units=16)
    sequences = whole.sequences("train")
    first_ink = (sequences[..., 0] != sequences[0, 0, 0]).argmax(axis=1)
    limit = training_step_limit(whole)
    assert limit["own_steps"] == pytest.approx(1 - first_ink.mean() / 784)
    assert 0.3 < limit["own_steps"] < 0.9
