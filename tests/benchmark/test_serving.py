"""The serving benchmark on toy versions: latency of signatures, load on the local server, the command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmnist_tf.benchmark import serving, serving_report
from seqmnist_tf.benchmark.__main__ import main as benchmark_main
from seqmnist_tf.benchmark.serving import Situation
from seqmnist_tf.serve import SavedModel
from seqmnist_tf.system import InputError, RunError
from tests.conftest import Command
from tests.toy import ROOT, toy_mnist

IMAGES = toy_mnist()["test"].images


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SITUATIONS", (Situation(1, 0), Situation(8, 5)))
    monkeypatch.setattr(serving, "LATENCY_ROUNDS", 2)
    monkeypatch.setattr(serving, "load_mnist", toy_mnist)
    monkeypatch.setattr(serving, "CLIENTS", (2,))


def test_stock_export_computes_the_same_logits(toy_versions: Path, tmp_path: Path) -> None:
    saved = SavedModel.load(toy_versions / "2")
    stock = serving.export_stock(saved, tmp_path / "stock")
    (name,) = stock.inputs("serving_default")
    sequences = np.random.RandomState(0).standard_normal((3, 784, 1)).astype(np.float32)
    (logits,) = stock("serving_default", **{name: sequences}).values()
    assert logits.shape == (3, 10) and logits.std() > 0.1
    # 784 steps in float32, by two graphs of the same operations
    np.testing.assert_allclose(logits, saved("logits", sequence=sequences)["logits"], atol=1e-5)


def test_the_latency_of_each_situation(toy_versions: Path, small: None) -> None:
    rows = serving.measure_latency(SavedModel.load(toy_versions / "2"), IMAGES)
    assert [(row["batch"], row["rest_ms"]) for row in rows] == [(1, 0), (8, 5)]
    for row in rows:
        assert all(0 < row[f"{name}_ms"] < 60_000 for name in ("stock", "serving_default", "trace"))
        assert row["ratio"] == row["stock_ms"] / row["serving_default_ms"]
    published = json.loads((ROOT / "results" / "serving.json").read_text())
    assert set(rows[0]) == set(published["latency"][0])


def test_a_version_of_another_layer_is_refused(toy_versions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = SavedModel.load(toy_versions / "2")
    signatures = {name: saved.signatures[name] for name in ("serving_default", "encoded_images", "logits")}
    monkeypatch.setattr(serving.SavedModel, "load", lambda path: SavedModel(path, signatures))
    with pytest.raises(
        InputError, match=r"is not of a stock LSTM with the signature trace, which alone can be measured"
    ):
        serving.measure_serving(toy_versions, 1)


def test_the_load_of_two_clients(server: str) -> None:
    row = serving.measure_load(server, IMAGES, 2, 0.5)
    assert (row["clients"], row["seconds"], row["errors"]) == (2, 0.5, 0)
    assert row["answers"] > 2
    assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    assert row["per_second"] <= row["answers"] / 0.5
    published = json.loads((ROOT / "results" / "serving.json").read_text())
    assert set(row) == set(published["server"][0])


def test_a_proxy_of_the_environment_is_not_asked(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert serving.measure_load(server, IMAGES, 1, 0.5)["errors"] == 0


def test_a_server_without_answers_is_a_failure(server: str) -> None:
    with pytest.raises(RunError, match=r"/nowhere gave no answer in 1 s: 405 Client Error"):
        serving.measure_load(f"{server}/nowhere", IMAGES, 1, 1.0)
    with pytest.raises(RunError, match="gave no answer in 1e-09 s: no request was completed"):
        serving.measure_load(server, IMAGES, 1, 1e-9)


def test_a_server_that_does_not_start_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.sys, "executable", "false")
    with pytest.raises(RunError, match="the local server did not start"):
        serving.measure_server(tmp_path, IMAGES, 1)


@pytest.mark.slow
def test_the_document_and_its_report(command: Command, toy_versions: Path, server: str, small: None) -> None:
    options = ["--model-dir", str(toy_versions), "--seconds", "0.5"]
    result = command(benchmark_main, "serving", *options, "--json", "--server", server)
    assert result.status == 0, result.err
    document = json.loads(result.out)
    published = json.loads((ROOT / "results" / "serving.json").read_text())
    assert set(document) == {*published, "other"}
    assert document["other"]["url"] == server
    assert set(document["other"]["load"][0]) == set(document["server"][0])
    assert f"The server at {server}:" in serving_report(document)
    assert document["version"] == 2 and document["bytes"] > 10_000
    (row,) = document["server"]
    assert (row["clients"], row["errors"]) == (2, 0) and row["answers"] > 2
    result = command(benchmark_main, "serving", *options)
    assert "Version 2 has 0." in result.out
    assert "| clients of the local server |" in result.out


def test_bad_input_is_one_line_and_waits_for_nothing(command: Command, in_tmp: Path, monkeypatch: Any) -> None:
    (in_tmp / "empty").mkdir()
    monkeypatch.setitem(sys.modules, serving.__name__, None)  # which imports TensorFlow: whoever reads it fails
    hint = "(give --model-dir a folder that seqmnist_tf.export has written to)"
    for argv, message in (
        (["--scaling"], "--scaling is an option of the subject training (got serving)"),
        (
            ["--server", "localhost"],
            "--server must be http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT (got 'localhost')",
        ),
        (["--server", ""], "--server must be http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT (got '')"),
        (
            ["--server", "http://a..b:80"],
            "--server must be http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT (got 'http://a..b:80')",
        ),
        (
            ["--server", "grpc://localhost"],
            "--server must be http://HOST:PORT or https://HOST:PORT (got 'grpc://localhost')",
        ),
        (["--seconds", "0"], "--seconds must be above 0 and at most 3600 (got 0)"),
        (["--model-dir", "nowhere"], f"cannot read nowhere: No such file or directory {hint}"),
        (["--model-dir", "empty"], f"no version in empty {hint}"),
    ):
        assert command(benchmark_main, "serving", *argv) == (2, "", f"error: {message}\n")
