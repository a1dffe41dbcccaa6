"""The doors of the package: what a user's Python sees of them, and when Keras learns of the drop-ins."""

from __future__ import annotations

import inspect
import subprocess
import sys

import seqmnist_tf
from tests.toy import LONG_SECONDS, ROOT


def run_python(code: str) -> str:
    """Return what the code prints in a new process."""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=LONG_SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_looking_for_keras_does_not_keep_the_drop_ins_from_keras() -> None:
    """Anyone may look for Keras before it is imported: ``importlib.util.find_spec`` imports nothing."""
    code = """
import importlib.util
import sys
import seqmnist_tf
assert importlib.util.find_spec("keras") is not None
assert "tensorflow" not in sys.modules
import keras
print(sorted(name for name in keras.saving.get_custom_objects() if name.startswith("seqmnist_tf")))
"""
    assert "'seqmnist_tf>LSTM'" in run_python(code)


def test_functions_of_the_package_show_their_own_signature() -> None:
    for function, first in (
        (seqmnist_tf.train, "config"),
        (seqmnist_tf.compare, "arms"),
        (seqmnist_tf.evaluate, "path"),
    ):
        assert inspect.isfunction(function)
        assert next(iter(inspect.signature(function).parameters)) == first
        assert inspect.getdoc(function)


def test_a_function_keeps_its_name_when_its_room_is_imported() -> None:
    code = """
import seqmnist_tf
import seqmnist_tf.train.training, seqmnist_tf.compare.comparing, seqmnist_tf.evaluate
from seqmnist_tf.train import RunDirectory
print(*(type(getattr(seqmnist_tf, name)).__name__ for name in ("train", "compare", "evaluate")))
"""
    assert run_python(code) == "function function function\n"
