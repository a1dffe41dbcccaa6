"""The environment of a run: its commit, whether its code differs from it, its cores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seqmnist_tf.system import available_cores, environment, git_state
from tests.toy import ROOT, git


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with one commit, which the package seems to be imported from."""
    for name in ("seqmnist_tf/a.py", "seqmnist_tf/cpp/b.h", "pyproject.toml", "setup.py", "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("first\nsecond\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    monkeypatch.setattr(environment, "CLONE", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "dirty"),
    [
        (lambda root: None, False),
        (lambda root: (root / "notes.txt").write_text("x"), False),
        (lambda root: (root / "README.md").write_text("x"), False),
        (lambda root: (root / "results").mkdir() or (root / "results" / "x.json").write_text("1"), False),
        (lambda root: (root / "seqmnist_tf" / "a.py").write_text("x"), True),
        (lambda root: (root / "seqmnist_tf" / "new.py").write_text("x"), True),
        (lambda root: (root / "seqmnist_tf" / "cpp" / "b.h").unlink(), True),
        (lambda root: (root / "setup.py").write_text("x"), True),
        (lambda root: (root / "pyproject.toml").write_text("x"), True),
    ],
)
def test_dirty_is_what_is_run(change: Callable[[Path], object], dirty: bool, clone: Path) -> None:
    change(clone)
    assert git_state() == {"commit": git(clone, "rev-parse", "HEAD"), "dirty": dirty}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a clone has a commit")
def test_the_commit_of_this_clone_is_known() -> None:
    assert git_state()["commit"] == git(ROOT, "rev-parse", "HEAD")


def test_without_a_clone_of_its_own_the_commit_is_unknown(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = clone / "unpacked"
    inside.mkdir()
    (inside / "pyproject.toml").write_text("")
    for folder in (inside, clone / "nowhere"):
        monkeypatch.setattr(environment, "CLONE", folder)
        assert git_state() == {"commit": None, "dirty": None}


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


def test_a_containers_quota_is_read(tmp_path: Path) -> None:
    assert environment._cgroup_quota(tmp_path / "cpu.max") is None
    for text, quota in (("150000 100000\n", 1.5), ("max 100000\n", None)):
        (tmp_path / "cpu.max").write_text(text)
        assert environment._cgroup_quota(tmp_path / "cpu.max") == quota
