"""The start of TensorFlow, and what follows the import of Keras."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from seqmnist_tf.system import InputError, start_tensorflow
from tests.toy import LONG_SECONDS, ROOT


def test_the_threads_of_a_run_reach_tensorflow() -> None:
    code = """
from seqmnist_tf.system import describe_environment, start_tensorflow
start_tensorflow(3, operations=1)
import tensorflow as tf
threading = tf.config.threading
print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())
start_tensorflow(5)
print(*(describe_environment("", 5, kernel)["threads"] for kernel in ("keras", "native-avx2")))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=LONG_SECONDS)
    assert done.stdout == "3 1\n3 5\n", done.stderr
    assert "TensorFlow is running already: train.threads 5 has no effect on it" in done.stderr


def test_keras_runs_on_tensorflow_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(config=SimpleNamespace(backend=lambda: "torch"))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "keras", other)  # imported by a notebook
        with pytest.raises(InputError, match=r"on tensorflow \(got torch: set KERAS_BACKEND=tensorflow\)"):
            start_tensorflow()
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(InputError, match="got jax"):
        start_tensorflow()
    monkeypatch.delenv("KERAS_BACKEND")  # the user's keras.json would decide
    start_tensorflow()
    assert os.environ["KERAS_BACKEND"] == "tensorflow"


def test_looking_for_keras_does_not_switch_off_the_call_at_its_import(tmp_path: Path) -> None:
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text("name = 'a package in the place of Keras'")
    code = """
import importlib.util
from seqmnist_tf.system import when_keras_is_imported
imported = []
when_keras_is_imported(lambda keras: imported.append(keras.name))
assert importlib.util.find_spec("keras").name == "keras" and not imported
import keras
import keras
assert imported == [keras.name]
"""
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], env=paths, capture_output=True, text=True, timeout=LONG_SECONDS)
    assert done.returncode == 0, done.stderr
