"""The cores that a process was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqmnist_tf.system import available_cores, runtime


def test_slurm_and_quotas_limit_the_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(runtime.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(runtime, "_cgroup_quota", lambda: None)
    assert available_cores() == 8
    monkeypatch.setattr(runtime, "_cgroup_quota", lambda: 2.5)
    assert available_cores() == 2
    monkeypatch.setattr(runtime, "_cgroup_quota", lambda: 0.3)
    assert available_cores() == 1
    monkeypatch.setattr(runtime, "_cgroup_quota", lambda: None)
    for value, cores in (("3", 3), ("64", 8), ("0", 8), ("x", 8)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", value)
        assert available_cores() == cores


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "broken"}, None),
        ({}, None),
    ],
)
def test_a_containers_quota_is_read(files: dict[str, str], quota: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert runtime._cgroup_quota(tmp_path) == quota
