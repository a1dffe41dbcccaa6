"""The manifest and the writing of records."""

from __future__ import annotations

import hashlib
from pathlib import Path

import filelock
import pytest

from seqmnist_tf.results import store
from seqmnist_tf.results.store import manifest_problems, read_manifest, set_files, update_manifest
from seqmnist_tf.system import InputError


def test_files_are_listed_with_their_hashes(tmp_path: Path) -> None:
    (tmp_path / "my notes, Zürich.txt").write_text("x")
    (tmp_path / "README.md").write_text("compared with the records instead")
    set_files(tmp_path, tmp_path / "strong" / "seed0", {"summary.json": b"{}", "more/a.txt": b"a"})
    update_manifest(tmp_path)
    assert read_manifest(tmp_path) == {
        "my notes, Zürich.txt": hashlib.sha256(b"x").hexdigest(),
        "strong/seed0/more/a.txt": hashlib.sha256(b"a").hexdigest(),
        "strong/seed0/summary.json": hashlib.sha256(b"{}").hexdigest(),
    }
    assert manifest_problems(tmp_path) == []
    (tmp_path / "my notes, Zürich.txt").write_text("y")
    (tmp_path / "strong" / "seed0" / "summary.json").unlink()
    (tmp_path / "strong" / "seed0" / "stray").touch()
    problems = manifest_problems(tmp_path)
    assert len(problems) == 3 and len(manifest_problems(tmp_path, records_only=True)) == 2


def test_what_a_killed_command_left_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "strong" / "seed0"
    path.mkdir(parents=True)
    (path / "summary.json").write_text("half of it")
    (path / ".new-config.json").write_text("unfinished")
    assert len(manifest_problems(tmp_path)) == 1
    store.require_new(tmp_path, path)
    set_files(tmp_path, path, {"summary.json": b"{}"})
    assert manifest_problems(tmp_path) == []
    with pytest.raises(InputError, match="already published"):
        store.require_new(tmp_path, path)
    store.require_new(tmp_path, tmp_path / "strong" / "seed01")


def test_one_process_writes_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WRITER_SECONDS", 0.1)
    with filelock.FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="in use"), store.locked(tmp_path):
        pass
