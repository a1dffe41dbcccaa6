"""What a run records about its code: the commit, whether what is run differs from it, and a hash of the sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from seqmnist_tf.system import environment, git_state, hash_sources, is_source, package_sources, sources
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
    monkeypatch.setattr(sources, "PACKAGE", tmp_path / "seqmnist_tf")
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


def test_in_a_hook_of_another_repository_the_clone_is_asked(
    clone: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    commit = git(clone, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert git_state()["commit"] == commit


def test_without_a_clone_of_its_own_the_commit_is_unknown(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = clone / "unpacked"
    inside.mkdir()
    (inside / "pyproject.toml").write_text("")
    for folder in (inside, clone / "nowhere"):
        monkeypatch.setattr(environment, "CLONE", folder)
        assert git_state() == {"commit": None, "dirty": None}


def test_an_edit_that_git_is_told_to_ignore_changes_the_hash(clone: Path) -> None:
    before = hash_sources(package_sources())
    git(clone, "update-index", "--assume-unchanged", "seqmnist_tf/a.py")
    (clone / "seqmnist_tf" / "a.py").write_text("other")
    assert git_state()["dirty"] is False
    assert hash_sources(package_sources()) != before


def test_line_endings_and_other_files_do_not_count(clone: Path) -> None:
    before = hash_sources(package_sources())
    assert set(package_sources()) == {"seqmnist_tf/a.py", "seqmnist_tf/cpp/b.h", "pyproject.toml", "setup.py"}
    (clone / "seqmnist_tf" / "a.py").write_bytes(b"first\r\nsecond\r\n")
    (clone / "seqmnist_tf" / "picture.png").write_bytes(b"x")
    assert hash_sources(package_sources()) == before


def test_names_and_contents_count() -> None:
    one = hash_sources({"a": b"1\n", "b": b""})
    assert one == hash_sources({"b": b"", "a": b"1\n"})
    assert len({one, hash_sources({"a": b"1\n"}), hash_sources({"a": b"", "b": b"1\n"}), hash_sources({})}) == 4


def test_which_files_count() -> None:
    assert is_source("setup.py") and is_source("seqmnist_tf/kernel/cpp/lstm.cpp") and is_source("seqmnist_tf/x.pyi")
    assert not is_source("tests/x.py") and not is_source("seqmnist_tf/serve/web/index.html")


def test_a_run_records_the_hash() -> None:
    described = environment.describe_environment("command", 1, "keras")
    assert described["sources"] == environment.IMPORTED == hash_sources(package_sources())


def test_a_run_records_the_code_that_was_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "git_state", lambda: {"commit": "c0ffee", "dirty": False})
    monkeypatch.setattr(environment, "package_sources", lambda: {"seqmnist_tf/a.py": b"edited"})
    described = environment.describe_environment("command", 1, "keras")
    assert (described["sources"], described["git"]) == (environment.IMPORTED, {"commit": "c0ffee", "dirty": True})
    assert "warning: the code has changed since this process imported it" in capsys.readouterr().err
