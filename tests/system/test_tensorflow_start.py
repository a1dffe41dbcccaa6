"""The cores that a process was given, and the start of TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from seqmnist_tf.system import InputError, available_cores, environment, start_tensorflow
from tests.toy import LONG_SECONDS, ROOT


def test_slurm_and_quotas_limit_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(environment, "_cgroup_quota", lambda: None)
    assert available_cores() == 8
    monkeypatch.setattr(environment, "_cgroup_quota", lambda: 2.5)
    assert available_cores() == 2
    monkeypatch.setattr(environment, "_cgroup_quota", lambda: 0.3)
    assert available_cores() == 1
    monkeypatch.setattr(environment, "_cgroup_quota", lambda: None)
    for value, cores in (("3", 3), ("64", 8), ("0", 8), ("x", 8)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", value)
        assert available_cores() == cores


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


def test_a_containers_quota_is_read(tmp_path: Path) -> None:
    assert environment._cgroup_quota(tmp_path / "cpu.max") is None
    for text, quota in (("150000 100000\n", 1.5), ("max 100000\n", None)):
        (tmp_path / "cpu.max").write_text(text)
        assert environment._cgroup_quota(tmp_path / "cpu.max") == quota


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
