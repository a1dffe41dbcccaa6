"""The committed model on engines other than the Python that exported it, and its accuracy."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import special

from seqmnist_tf.data import encode, load_mnist
from seqmnist_tf.serve import SavedModel
from seqmnist_tf.serve.exporter import write_warm_up
from seqmnist_tf.serve.parity import largest_difference
from tests.serve.committed import committed_versions
from tests.toy import ROOT

COMMITTED = committed_versions()
NEWEST = COMMITTED[max(COMMITTED)]
TOLERANCE = 1e-5
OLDER_TENSORFLOW = "2.20"  # of TF Serving's image in export/docker-compose.yml


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the C++ program that loads a model as TF Serving does, compiled against TensorFlow's own library."""
    program = tmp_path_factory.mktemp("loader") / "saved_model_loader"
    library = Path(tf.sysconfig.get_lib())
    command = ["g++", "-std=c++17", "-w", str(ROOT / "tests" / "serve" / "saved_model_loader.cpp"), "-o", str(program)]
    command += [f"-I{tf.sysconfig.get_include()}", f"-L{library}", f"-Wl,-rpath,{library}", "-Wl,--no-as-needed"]
    command += ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    subprocess.run(command, check=True, timeout=280)
    return program


def replay(loader: Path, version: Path, requests: Path) -> Iterator[np.ndarray]:
    """Yield the outputs that the C++ program computes, request by request, in the order of the outputs' names."""
    answers = requests.with_name(f"{requests.name}-answers")
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [str(loader), str(version), str(requests), str(answers)]
    subprocess.run(command, check=True, timeout=120, env=environment, stdout=subprocess.DEVNULL)
    for record in tf.data.TFRecordDataset(str(answers)).as_numpy_iterator():
        proto = tf.make_tensor_proto(0)
        proto.ParseFromString(record)
        yield tf.make_ndarray(proto)


def check_answers(answers: Iterator[np.ndarray], saved: SavedModel, requests: list[tuple[str, dict]]) -> None:
    for signature, inputs in requests:
        expected = saved(signature, **inputs)
        for name in sorted(expected):
            np.testing.assert_allclose(next(answers), expected[name], atol=TOLERANCE, err_msg=f"{signature} {name}")
    assert next(answers, None) is None


def real_digits(saved: SavedModel) -> tuple[np.ndarray, np.ndarray]:
    """Return the first 1,000 test images, and their sequences as a version reads them."""
    images = load_mnist("auto", None, ("test",))["test"].images[:1000]
    described = saved.description
    order = np.array(described["pixel_order"])
    return images, encode(images, described["config"]["task"]["normalization"], order)


@pytest.mark.slow
@pytest.mark.parametrize("version", COMMITTED)
def test_tensorflows_cpp_loader_replays_the_warm_up(loader: Path, version: int, tmp_path: Path) -> None:
    saved = SavedModel.load(COMMITTED[version])
    requests = tmp_path / "requests"
    requests.write_bytes((saved.path / "assets.extra" / "tf_serving_warmup_requests").read_bytes())
    check_answers(replay(loader, saved.path, requests), saved, list(saved.warm_up_requests()))


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
    requests: dict[str, np.ndarray] = {}
    expected: dict[str, np.ndarray] = {}
    for n, (signature, inputs) in enumerate(saved.warm_up_requests()):
        requests |= {f"{signature}/{n}/{name}": value for name, value in inputs.items()}
        expected |= {f"{signature}/{n}/{name}": value for name, value in saved(signature, **inputs).items()}
    np.savez(tmp_path / "requests.npz", **requests)  # type: ignore[arg-type]
    program = ROOT / "tests" / "serve" / "load_version.py"
    words = [
        str(older_tensorflow),
        str(program),
        str(saved.path),
        *(f"{tmp_path}/{n}.npz" for n in ("requests", "answers")),
    ]
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "PATH": ""}
    done = subprocess.run(words, check=True, timeout=200, capture_output=True, text=True, env=environment)
    assert done.stdout.startswith(f"{OLDER_TENSORFLOW}.")
    with np.load(tmp_path / "answers.npz") as answers:
        assert set(answers) == set(expected) and len(expected) > 10
        for name, value in expected.items():
            np.testing.assert_allclose(answers[name], value, atol=TOLERANCE, err_msg=name)


@pytest.mark.slow
@pytest.mark.network
def test_tensorflows_cpp_loader_reads_real_digits(loader: Path, tmp_path: Path) -> None:
    saved = SavedModel.load(NEWEST)
    images, sequences = real_digits(saved)
    asked = {"serving_default": {"images": images}, "logits": {"sequence": sequences}, "trace": {"images": images[:20]}}
    write_warm_up(tmp_path / "requests", [asked])
    check_answers(replay(loader, saved.path, tmp_path / "requests"), saved, list(asked.items()))


@pytest.mark.slow
@pytest.mark.network
def test_onnx_runtime_agrees_on_1000_digits(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    saved = SavedModel.load(NEWEST)
    _, sequences = real_digits(saved)
    command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(saved.path), "--signature_def", "logits"]
    command += ["--tag", "serve", "--opset", "18", "--output", str(tmp_path / "model.onnx")]
    subprocess.run(command, check=True, timeout=200, capture_output=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"sequence": sequences})
    expected = saved("logits", sequence=sequences)["logits"]
    assert largest_difference({"logits": logits}, {"logits": expected}) < TOLERANCE  # in units of the largest
    np.testing.assert_allclose(special.softmax(logits, axis=1), special.softmax(expected, axis=1), atol=TOLERANCE)
    assert len(np.unique(logits.argmax(axis=1))) == 10


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("version", COMMITTED)
def test_serving_default_has_the_accuracy_of_its_run(version: int) -> None:
    saved = SavedModel.load(COMMITTED[version])
    test = load_mnist("auto", None, ("test",))["test"]
    predictions = np.concatenate([saved(images=test.images[n : n + 500])["class_id"] for n in range(0, 10_000, 500)])
    described = saved.description
    assert int((predictions == test.labels).sum()) == described["test_correct"]
    assert described["test_total"] == 10_000


def test_the_newest_refuses_ink_in_transparency() -> None:
    """A 7 that is drawn in the alpha channel alone was read as a 1."""
    file = io.BytesIO()
    Image.new("RGBA", (28, 28), (0, 0, 0, 99)).save(file, "png")
    with pytest.raises(tf.errors.InvalidArgumentError, match="image_bytes must have no transparent pixels"):
        SavedModel.load(NEWEST)("encoded_images", image_bytes=[file.getvalue()])
