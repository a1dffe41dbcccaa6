"""The committed models on engines other than the Python that exported them, and their accuracy."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seqmnist_tf import data
from seqmnist_tf.serve import DEFAULT_FOLDER, SavedModel, read_description
from seqmnist_tf.train import MAX_FLIPS
from tests.toy import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.network]

COMMITTED = {number: ROOT / DEFAULT_FOLDER / str(number) for number in (1, 2)}  # beside them may be a user's own
OLDER_TENSORFLOW = "2.20"  # of TF Serving's image in export/docker-compose.yml
NEAR = 1e-3  # what rounding makes in 784 steps
# Replays the warm-up requests of a version with any TensorFlow, without this package.
REPLAY = """
import pickle, sys
import numpy as np
import tensorflow as tf
signatures = tf.saved_model.load(sys.argv[1]).signatures
with open(sys.argv[2], "rb") as file:
    requests = pickle.load(file)
for signature, inputs, expected in requests:
    specs = signatures[signature].structured_input_signature[1]
    tensors = {name: tf.constant(value.tolist(), specs[name].dtype) for name, value in inputs.items()}
    outputs = signatures[signature](**tensors)
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name].numpy(), value, atol=float(sys.argv[3]), err_msg=signature)
print(tf.__version__)
"""


@pytest.fixture(scope="module")
def older_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with the TensorFlow of TF Serving's image."""
    folder = tmp_path_factory.mktemp("older") / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", f"tensorflow=={OLDER_TENSORFLOW}.*"]
    subprocess.run(command, check=True, timeout=500)
    return python


@pytest.mark.timeout(700)
@pytest.mark.parametrize("version", COMMITTED)
def test_the_tensorflow_before_loads_and_agrees(older_tensorflow: Path, version: int, tmp_path: Path) -> None:
    saved, file = SavedModel.load(COMMITTED[version]), tmp_path / "requests"
    requests = [(name, inputs, saved(name, **inputs)) for name, inputs in saved.warm_up_requests()]
    assert {name for name, *_ in requests} == set(saved.signatures)
    file.write_bytes(pickle.dumps(requests))
    words = [str(older_tensorflow), "-c", REPLAY, str(saved.path), str(file), str(NEAR)]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "PATH": ""}
    done = subprocess.run(words, timeout=200, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and done.stdout.startswith(f"{OLDER_TENSORFLOW}."), done.stderr


def test_onnx_runtime_agrees_on_digits(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    saved = SavedModel.load(COMMITTED[max(COMMITTED)])
    command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(saved.path), "--signature_def", "logits"]
    command += ["--tag", "serve", "--opset", "18", "--output", str(tmp_path / "model.onnx")]
    subprocess.run(command, check=True, timeout=200, capture_output=True, cwd=ROOT)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    described, images = read_description(saved.path), data.load_mnist("auto", None, ("test",))["test"].images[:50]
    order = np.array(described["pixel_order"])
    inputs = {"sequence": data.encode(images, described["config"]["task"]["normalization"], order)}
    (logits,) = session.run(["logits"], inputs)
    np.testing.assert_allclose(logits, saved("logits", **inputs)["logits"], atol=NEAR)


@pytest.mark.parametrize("version", COMMITTED)
def test_serving_default_has_the_accuracy_of_its_run(version: int) -> None:
    saved = SavedModel.load(COMMITTED[version])
    test = data.load_mnist("auto", None, ("test",))["test"]
    predictions = np.concatenate([saved(images=test.images[n : n + 500])["class_id"] for n in range(0, 10_000, 500)])
    described = read_description(saved.path)
    assert abs(int((predictions == test.labels).sum()) - described["test_correct"]) <= MAX_FLIPS
    assert described["test_total"] == 10_000
