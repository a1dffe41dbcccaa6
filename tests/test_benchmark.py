"""The benchmark at small sizes: its processes, its document, its table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmnist_tf import benchmark, contenders
from seqmnist_tf.benchmark import Contestant
from seqmnist_tf.contenders import CONTENDERS, Workload
from seqmnist_tf.errors import RunError
from tests.conftest import Result
from tests.test_kernels import isas
from tests.toy import toy_mnist


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    examples = toy_mnist()
    train, labels = examples["train"].images[:32], examples["train"].labels[:32]
    np.savez(tmp_path / "images.npz", train=train, labels=labels, test=examples["test"].images)
    return Workload(str(tmp_path / "images.npz"), batch=8, steps=56, units=16, threads=1)


@pytest.mark.slow
@pytest.mark.skipif(not isas(), reason="no native kernel")
def test_the_document_and_the_table(
    command: Callable[..., Result], workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "load_mnist", toy_mnist)
    monkeypatch.setattr(benchmark, "Workload", lambda data, threads: workload)
    monkeypatch.setattr(benchmark, "ROUNDS", {"train": 3, "evaluate": 1})
    monkeypatch.setattr(benchmark, "SCALING", {"batch": (4,)})
    monkeypatch.setattr(benchmark, "installed", lambda name: name in ("keras", "native"))
    documents: list[dict[str, Any]] = []
    to_table = benchmark.to_table

    def record(document: dict[str, Any]) -> str:
        documents.append(document)
        return to_table(document)

    monkeypatch.setattr(benchmark, "to_table", record)
    told = command(benchmark.main, "--scaling")
    assert told.status == 0, told.err
    (document,) = documents
    assert json.loads(json.dumps(document)) == document
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
    assert 0 < document["limit"]["limit_ms"] < document["train_step"]["native"]["median_ms"]
    (row,) = document["scaling"]
    assert (row["size"], row["value"]) == ("batch", 4)
    for text in (
        "stock Keras (keras)",
        "Keras on the native kernel (native)",
        "limit of a training step",
        "batch     4",
    ):
        assert text in told.out


def test_contenders_take_turns() -> None:
    turns: list[str] = []

    class Mute:
        def __init__(self, name: str) -> None:
            self.name = name

        def do(self, word: str) -> dict[str, float]:
            turns.append(self.name)
            return {"ms": len(turns), "peak_mb": 1.0}

    answers = benchmark.take_turns([Mute("keras"), Mute("b")], "train", 3, 100)  # type: ignore[list-item]
    assert turns == ["keras", "b"] * 3
    rows = benchmark.summarize(answers)
    assert rows["keras"]["median_ms"] == 3
    assert rows["b"]["range_ms"] == [2, 6]
    assert rows["b"]["ratio"] == 0.75
    turns.clear()
    benchmark.take_turns([Mute("keras")], "train", 3, 0)  # type: ignore[list-item]
    assert turns == ["keras"]


def test_a_contender_that_cannot_start_is_left_out(workload: Workload, capsys: pytest.CaptureFixture[str]) -> None:
    bad = Workload(workload.data, batch=8, steps=56, units=10, threads=1)
    with benchmark.contestants(["native"], bad) as started:
        assert started == []
    err = capsys.readouterr().err
    assert "warning: left out: contender native: InputError: train.kernel must be auto or keras here" in err


def test_a_contender_that_dies_is_named(workload: Workload) -> None:
    contestant = Contestant("kernel", workload)
    contestant.process.kill()
    contestant.process.join()
    with pytest.raises(RunError, match="contender kernel ended without a word"):
        contestant.do("train")
    contestant.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jit_compile", "pytorch_flush", "jax"])
def test_a_rival_trains_and_evaluates(name: str, workload: Workload) -> None:
    if not contenders.installed(name):
        pytest.skip(f"{CONTENDERS[name][1]} is not installed")
    with benchmark.contestants([name], workload) as (rival,):
        assert rival.do("train")["ms"] > 0
        assert rival.do("evaluate")["ms"] > 0
        assert rival.version


@pytest.mark.skipif(not isas(), reason="no native kernel")
def test_the_limit_counts_shared_steps_once(workload: Workload) -> None:
    whole = Workload(workload.data, batch=8, units=16)
    sequences = whole.sequences("train")
    first_ink = (sequences[..., 0] != sequences[0, 0, 0]).argmax(axis=1)
    assert benchmark.limit(whole)["own_steps"] == pytest.approx(1 - first_ink.mean() / 784)
    assert 0.3 < benchmark.limit(whole)["own_steps"] < 0.9
