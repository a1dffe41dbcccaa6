"""The committed models on engines other than the Python that exported them, and their accuracy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from seqmnist_tf.data import load_mnist
from seqmnist_tf.serve import SavedModel, read_description
from seqmnist_tf.serve.parity import Arrays, example_inputs
from seqmnist_tf.train import MAX_FLIPS
from tests.serve.committed import committed_versions
from tests.serve.rounding import assert_near_float64
from tests.toy import ROOT

COMMITTED = committed_versions()
OLDER_TENSORFLOW = "2.20"  # of TF Serving's image in export/docker-compose.yml


def keras_model(version: Path) -> keras.Sequential:
    """Return the Keras model of an exported LSTM(128)."""
    saved = tf.saved_model.load(str(version))
    model = keras.Sequential([keras.Input((784, 1)), keras.layers.LSTM(128), keras.layers.Dense(10)])
    model.set_weights([weights.numpy() for weights in saved.signatures["logits"].variables])
    return model


def warm_up(saved: SavedModel) -> list[dict[str, Arrays]]:
    """Return the inputs of the warm-up requests by signature, batch by batch."""
    requests, n = list(saved.warm_up_requests()), len(saved.signatures)
    return [dict(requests[start : start + n]) for start in range(0, len(requests), n)]


@pytest.fixture(scope="module")
def older_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with the TensorFlow of TF Serving's image."""
    folder = tmp_path_factory.mktemp("older") / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", f"tensorflow=={OLDER_TENSORFLOW}.*"]
    subprocess.run(command, check=True, timeout=500)
    return python


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(700)
@pytest.mark.parametrize("version", COMMITTED)
def test_the_tensorflow_before_loads_and_agrees(older_tensorflow: Path, version: int, tmp_path: Path) -> None:
    saved = SavedModel.load(COMMITTED[version])
    batches = warm_up(saved)
    requests = {
        f"{signature}/{n}/{name}": value
        for n, batch in enumerate(batches)
        for signature, inputs in batch.items()
        for name, value in inputs.items()
    }
    np.savez(tmp_path / "requests.npz", **requests)  # type: ignore[arg-type]
    program, files = ROOT / "tests" / "serve" / "load_version.py", [tmp_path / "requests.npz", tmp_path / "answers.npz"]
    words = [str(word) for word in (older_tensorflow, program, saved.path, *files)]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "PATH": ""}
    done = subprocess.run(words, check=True, timeout=200, capture_output=True, text=True, env=environment)
    assert done.stdout.startswith(f"{OLDER_TENSORFLOW}.")
    got: list[dict[str, Arrays]] = [{name: {} for name in batch} for batch in batches]
    with np.load(tmp_path / "answers.npz") as answers:
        for key, value in answers.items():
            signature, n, name = key.split("/")
            got[int(n)][signature][name] = value
    for outputs, inputs in zip(got, batches, strict=True):
        assert all(outputs.values())
        assert_near_float64(outputs, keras_model(saved.path), inputs)


@pytest.mark.slow
@pytest.mark.network
def test_onnx_runtime_agrees_on_digits(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = COMMITTED[max(COMMITTED)]
    command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(path), "--signature_def", "logits"]
    command += ["--tag", "serve", "--opset", "18", "--output", str(tmp_path / "model.onnx")]
    subprocess.run(command, check=True, timeout=200, capture_output=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    model, described = keras_model(path), read_description(path)
    encoding = described["config"]["task"]["normalization"], np.array(described["pixel_order"])
    inputs = example_inputs(load_mnist("auto", None, ("test",))["test"].images[:50], model, *encoding)
    (logits,) = session.run(["logits"], inputs["logits"])
    assert_near_float64({"logits": {"logits": logits}}, model, inputs)


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("version", COMMITTED)
def test_serving_default_has_the_accuracy_of_its_run(version: int) -> None:
    saved = SavedModel.load(COMMITTED[version])
    test = load_mnist("auto", None, ("test",))["test"]
    predictions = np.concatenate([saved(images=test.images[n : n + 500])["class_id"] for n in range(0, 10_000, 500)])
    described = read_description(saved.path)
    assert abs(int((predictions == test.labels).sum()) - described["test_correct"]) <= MAX_FLIPS
    assert described["test_total"] == 10_000
