"""What no change of the code may move: ids, bits, resumed runs, statistics, and the answers of an exported model.

Everything is asked of commands and public names. ``python -m pytest -n 0 -m "" tests/golden`` runs all of it; after a
new search is published, ``python -m tests.golden.test_golden`` writes ``ids.json`` anew.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import seqmnist_tf
from seqmnist_tf.config import config_id
from seqmnist_tf.results.records import Search
from seqmnist_tf.results.replay import replay_run
from tests.model import numpy_lstm
from tests.toy import LONG_SECONDS, ROOT

RESULTS, IDS = ROOT / "results", Path(__file__).with_name("ids.json")
TINY = ("--model.hidden-size=4", "--task.limit-train=100", "--task.limit-test=30", "--train.batch-size=10")
HERE = ("--train.threads=1", "--wandb.mode=disabled")


def searched_ids() -> dict[str, str]:
    """Return the ``config_id`` of every row of a published search."""
    ids = {}
    for path in sorted(RESULTS.glob("searches/*.json")):
        search = Search.read(path)
        for row in search.rows_with_score:
            config = search.config(row)
            ids[f"searches/{path.stem}/{row['trial']}/seed{row['seed']}"] = config_id(config, search.layer(config))
    return ids


def test_ids_of_everything_published() -> None:
    runs = [seqmnist_tf.load_run(path.parent) for path in RESULTS.glob("**/config.json")]
    assert [run.config_id for run in runs] == [(run.summary or {})["config_id"] for run in runs]
    assert searched_ids() == json.loads(IDS.read_text())


@pytest.mark.network  # MNIST itself, where it is not prepared
@pytest.mark.parametrize("name", ["quickstart", "board_gru", "board_lem", "strong_permuted"])
def test_first_batches_of_a_record_trained_anew(name: str) -> None:
    run = seqmnist_tf.load_run(RESULTS / name / "seed0")
    losses = run.step_losses()
    replay = replay_run(run, losses, allow_code=True)  # bit for bit where the processor is that of the record
    assert (replay.batches, replay.parted) == (20, None)
    if name == "quickstart":
        assert replay_run(run, [losses[0], losses[1] * 1.001], allow_code=True).parted == 2


def start(*words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", *words, *TINY, *HERE]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(*words: str) -> bytes:
    process = start(*words)
    out, err = process.communicate(timeout=LONG_SECONDS)
    assert process.returncode == 0, err.decode()
    return out


def kill(folder: Path, batches: int, *words: str) -> None:
    """Start a command and kill it when the runs in a folder have so many batches, all together."""
    process, until = start(*words), time.monotonic() + LONG_SECONDS
    while sum(max(0, file.read_bytes().count(b"\n") - 1) for file in folder.glob("**/steps.csv")) < batches:
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def timeless(document: Any) -> Any:
    """Return a JSON document without times and paths."""
    if isinstance(document, dict):
        apart = ("seconds", "ms", "command", "started", "time", "path", "dir")
        return {k: timeless(v) for k, v in document.items() if not set(k.split("_")) & set(apart)}
    return [timeless(part) for part in document] if isinstance(document, list) else document


def what_a_run_came_to(path: Path) -> list[Any]:
    run = seqmnist_tf.load_run(path)
    weights = [w.tobytes() for w in keras.saving.load_model(path / "model.keras").get_weights()]
    texts = [(path / name).read_text() for name in ("steps.csv", "predictions.csv", "pixel_order.txt", "config.json")]
    return [weights, texts, timeless(run.history()), timeless(run.summary)]


@pytest.mark.network
@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    words = ["seqmnist_tf.train", "strong_permuted", "--train.n-epochs=6", "--optimizer.ema-momentum=0.9"]
    finish(*words, f"--run-dir={tmp_path / 'whole'}")
    killed = tmp_path / "killed"
    kill(killed, 2, *words, f"--run-dir={killed}")
    assert not (killed / "model.keras").exists()
    again = ["seqmnist_tf.train", f"--run-dir={killed}", "--resume"]
    kill(killed, 35, *again)  # in the fourth of its six epochs of 10 batches
    assert not (killed / "model.keras").exists()
    finish(*again)
    assert what_a_run_came_to(killed) == what_a_run_came_to(tmp_path / "whole")
    assert len(seqmnist_tf.load_run(killed).step_losses()) == 60


@pytest.mark.network
@pytest.mark.slow
def test_a_search_that_was_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    space = {"optimizer.lr": {"low": 1e-3, "high": 1e-1, "scale": "log"}}
    (tmp_path / "space.json").write_text(json.dumps(space))
    words = ["seqmnist_tf.tune", "quickstart", "--tuner=random", "--max-trials=2", "--epochs=2"]
    words += [f"--space={tmp_path / 'space.json'}", "--task.validation-size=30"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    finish(*words, f"--dir={whole}")
    kill(killed, 16, *words, f"--dir={killed}")  # in the second of its trials of 14 batches
    assert not (killed / "best.json").exists()
    finish(*words, f"--dir={killed}")
    rows = [timeless(json.loads((folder / "trials.json").read_text())) for folder in (killed, whole)]
    assert rows[0] == rows[1] and len(rows[0]) >= 2
    assert (killed / "best.json").read_bytes() == (whole / "best.json").read_bytes()


@pytest.mark.network
@pytest.mark.slow
def test_a_comparison_that_was_killed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    words = ["seqmnist_tf.compare", "adam", "sgd", "--seeds=0", "--train.n-epochs=2", "--json"]
    expected = json.loads(finish(*words, f"--dir={whole}"))
    kill(killed, 22, *words, f"--dir={killed}")  # in the second of its runs of 20 batches
    answer = json.loads(finish(*words, f"--dir={killed}"))
    assert timeless(answer) == timeless(expected)
    assert [arm["seeds"] for arm in answer["arms"]] == [[0], [0]]


def test_numbers_of_a_comparison_of_published_runs(tmp_path: Path) -> None:
    names = ["board_lstm", "board_gru", "board_lem"]
    comparison = seqmnist_tf.compare([RESULTS / name for name in names], directory=tmp_path / "all", allow_code=True)
    answer = json.loads(json.dumps(comparison.to_json()))
    assert [arm["name"] for arm in answer["arms"]] == names
    for arm in answer["arms"]:
        runs = {path: json.loads((path / "summary.json").read_text()) for path in (RESULTS / arm["name"]).glob("seed*")}
        finals = {run["seed"]: run["final"] for run in runs.values() if run["status"] == "completed"}
        accuracies = [finals[seed]["test_correct"] / finals[seed]["test_total"] for seed in sorted(finals)]
        assert len(accuracies) == len(list((RESULTS / arm["name"]).glob("seed*/predictions.csv"))) > 1
        by_seed = {n: a for n, a in zip(arm["seeds"], arm["test_accuracy"], strict=True) if a is not None}
        assert by_seed == dict(zip(sorted(finals), accuracies, strict=True)) and arm["failed"] == len(runs) - len(
            finals
        )
        assert arm["mean"] == pytest.approx(statistics.fmean(accuracies), abs=1e-15)
        assert arm["std"] == pytest.approx(statistics.stdev(accuracies), rel=1e-12)
        assert arm["config_id"] == next(iter(runs.values()))["config_id"]


def near(weights: list[np.ndarray], function: Callable[[list[np.ndarray]], Any], answer: Any) -> bool:
    """Return whether a float32 answer of a function of weights is near that in float64.

    A float32 product over n terms is the exact one of weights that are off by at most n roundings (Higham 2002, 3.5);
    two more are the gates' and the state's. So an answer may be as far off as that of such weights, of one random sign.
    """
    random = np.random.default_rng(0)
    off = (len(weights[1]) + 2) * 2.0**-24
    exact = function(weights)
    others = [
        function([w.astype(float) * (1 + off * random.choice([-1, 1], w.shape)) for w in weights]) for _ in range(2)
    ]
    return all(
        np.abs(np.asarray(a) - e).max() <= max(np.abs(o[i] - e).max() for o in others) + 2.0**-24
        for i, (a, e) in enumerate(zip(answer, exact, strict=True))
    )


def probabilities(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.network
@pytest.mark.slow
def test_answers_of_every_signature(tmp_path: Path, name: str = "strong_permuted") -> None:
    command = [sys.executable, "-m", "seqmnist_tf.export", str(RESULTS / name / "seed0"), f"--export-dir={tmp_path}"]
    path = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    signatures = tf.saved_model.load(path).signatures
    assert set(signatures) == {"serving_default", "encoded_images", "logits", "trace", "step"}
    config = seqmnist_tf.load_run(RESULTS / name / "seed0").config
    _, (x, _) = seqmnist_tf.load_sequences(permutation=config.task.permutation, limit_test=3)
    _, (unit, _) = seqmnist_tf.load_sequences(normalization="unit", limit_test=3)
    images = tf.constant(np.round(unit * 255).astype(np.uint8).reshape(3, 28, 28))
    weights = keras.saving.load_model(RESULTS / name / "seed0" / "model.keras").get_weights()
    n_units = len(weights[1])

    def last(weights: list[np.ndarray]) -> list[np.ndarray]:
        return [numpy_lstm.forward(weights, x)[0]]

    def each(weights: list[np.ndarray]) -> list[np.ndarray]:
        _, steps = numpy_lstm.forward(weights, x)
        states = np.stack([step[-1] for step in steps[1:]], 1)  # after each pixel
        return [probabilities(states @ weights[3] + weights[4]), steps[-1][0], steps[-2][5]]

    def shares(weights: list[np.ndarray]) -> list[np.ndarray]:
        return [probabilities(last(weights)[0])]

    files = tf.stack([tf.io.encode_png(image[..., None]) for image in images])
    answers = [signatures["serving_default"](images=images), signatures["encoded_images"](image_bytes=files)]
    for answer in answers:
        assert near(weights, shares, [answer["probabilities"].numpy()])
        assert (answer["class_id"].numpy() == last(weights)[0].argmax(1)).all()
    assert near(weights, last, [signatures["logits"](sequence=tf.constant(x))["logits"].numpy()])
    zeros = tf.zeros((3, n_units))
    half = signatures["step"](pixels=tf.constant(x[:, :300]), h=zeros, c=zeros)
    rest = signatures["step"](pixels=tf.constant(x[:, 300:]), h=half["h_next"], c=half["c_next"])
    seen = np.concatenate([half["probabilities"], rest["probabilities"]], 1)
    assert near(weights, each, [seen, rest["h_next"].numpy(), rest["c_next"].numpy()])
    assert near(weights, lambda w: each(w)[:1], [signatures["trace"](images=images)["probabilities"].numpy()])


def test_kernel_is_an_lstm(n: int = 33, steps: int = 60) -> None:
    random = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    layer = seqmnist_tf.LSTM(128)
    x = random.normal(size=(n, steps, 1)).astype(np.float32)
    upstream = random.normal(size=(n, 128)).astype(np.float32)
    with tf.GradientTape() as tape:
        sequences = tf.constant(x)
        tape.watch(sequences)
        h = layer(sequences)
        loss = tf.reduce_sum(h * upstream)
    gradients = tape.gradient(loss, [sequences, *layer.trainable_variables])

    def reference(weights: list[np.ndarray]) -> list[np.ndarray]:
        states, parts = numpy_lstm.forward([*weights, np.eye(128), np.zeros(128)], x)
        return [states, *numpy_lstm.backward(weights, x, parts[:-1], upstream.astype(float))]

    assert near(layer.get_weights(), reference, [h.numpy(), *(g.numpy() for g in gradients)])


if __name__ == "__main__":
    IDS.write_text(json.dumps(searched_ids(), indent=0) + "\n")
