"""The manifest and the writing of records."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from seqmnist_tf.results import store
from seqmnist_tf.results.store import read_manifest, record_problems, set_files, updated_manifest, write_manifest
from seqmnist_tf.system import InputError


def test_files_are_listed_with_their_hashes(tmp_path: Path) -> None:
    (tmp_path / "my notes, Zürich.txt").write_text("x")
    (tmp_path / "README.md").write_text("compared with the records instead")
    set_files(tmp_path, tmp_path / "strong" / "seed0", {"summary.json": b"{}", "more/a.txt": b"a"})
    write_manifest(tmp_path, updated_manifest(tmp_path))
    assert read_manifest(tmp_path) == {
        "my notes, Zürich.txt": hashlib.sha256(b"x").hexdigest(),
        "strong/seed0/more/a.txt": hashlib.sha256(b"a").hexdigest(),
        "strong/seed0/summary.json": hashlib.sha256(b"{}").hexdigest(),
    }
    assert record_problems(tmp_path, read_manifest(tmp_path)) == []
    (tmp_path / "my notes, Zürich.txt").write_text("y")
    (tmp_path / "strong" / "seed0" / "summary.json").unlink()
    (tmp_path / "strong" / "seed0" / "stray").touch()
    assert len(record_problems(tmp_path, read_manifest(tmp_path))) == 3
    assert len(record_problems(tmp_path, updated_manifest(tmp_path))) == 2


def test_what_a_killed_command_left_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "strong" / "seed0"
    path.mkdir(parents=True)
    (path / "summary.json").write_text("half of it")
    (path / ".new-config.json").write_text("unfinished")
    store.require_new(tmp_path, path)
    set_files(tmp_path, path, {"summary.json": b"{}"})
    assert record_problems(tmp_path, read_manifest(tmp_path)) == []
    with pytest.raises(InputError, match="already published"):
        store.require_new(tmp_path, path)
    store.require_new(tmp_path, tmp_path / "strong" / "seed01")
