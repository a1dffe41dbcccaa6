"""The results folder is whole after a kill at any moment, and after many commands at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from seqmnist_tf.results import store
from seqmnist_tf.results.__main__ import main
from seqmnist_tf.results.store import manifest_problems, read_manifest, write_manifest
from seqmnist_tf.system import InputError
from tests.changes import content
from tests.conftest import Command
from tests.results.files import read_records
from tests.toy import LONG_SECONDS, ROOT


def run(*words: str) -> str:
    command = [sys.executable, "-m", "tests.results.killed_store", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONG_SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_killed_at_every_operation_the_same_command_ends_well(tmp_path: Path) -> None:
    assert int(run("kill", str(tmp_path / "results"))) > 70


def test_twenty_at_once_are_all_published(tmp_path: Path) -> None:
    assert run("together", str(tmp_path / "results")) == "20"


def test_another_writer_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WRITER_SECONDS", 0.1)
    with (
        filelock.FileLock(tmp_path / ".lock"),
        pytest.raises(InputError, match="is in use by another process"),
        store.locked(tmp_path),
    ):
        pass


def test_what_was_left_unfinished_is_ignored_and_removed(published: Path) -> None:
    before = content(published)
    for name in ("strong/.new-seed3-abcd1234.part", "trials/b/.new-seed0-abcd1234.part"):
        (published / "results" / name).mkdir(parents=True)
        (published / "results" / name / "config.json").write_text("{}")
    for name in ("strong/seed0/.new-record.json", ".new-SHA256SUMS"):
        (published / "results" / name).write_text("x")
    assert manifest_problems(Path("results")) == []
    assert [record.seed for record in read_records(Path("results"))["strong"]] == [0, 1]
    with store.locked(Path("results")):
        pass
    assert content(published) == before | {"results/.lock": b""}
    assert not [path for path in published.rglob(".new-*") if path.exists()]


def test_what_only_looks_unfinished_stays(tmp_path: Path) -> None:
    names = (".new-ideas/a.txt", "strong/.new-ideas/a.txt", "strong/.new-notes.md", "plots/seeds.png")
    mine = [tmp_path / name for name in names]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    with store.locked(tmp_path):
        pass
    assert all(path.read_text() == "mine" for path in mine)


@pytest.mark.slow
def test_a_record_that_was_renamed_and_not_listed_is_published_by_the_same_command(
    command: Command, runs: list[Path], published: Path
) -> None:
    whole = read_manifest(Path("results"))
    write_manifest(Path("results"), {name: h for name, h in whole.items() if "seed1" not in name})
    assert command(main, "add", str(runs[1]), "--name", "strong").out == "results/strong/seed1\n"
    assert read_manifest(Path("results")) == whole
    assert command(main, "--check").status == 0


def test_other_files_in_the_place_of_a_record_stay(tmp_path: Path) -> None:
    place = tmp_path / "strong" / "seed0"
    place.mkdir(parents=True)
    (place / "mine.txt").write_text("mine")
    with store.locked(tmp_path), pytest.raises(InputError, match=r"does not list it \(remove it\)"):
        store.add_files(tmp_path, place, {"config.json": b"{}"})
    assert (place / "mine.txt").read_text() == "mine"
    (place / "mine.txt").rename(place / "config.json")
    with store.locked(tmp_path), pytest.raises(InputError, match=r"does not list it \(remove it\)"):
        store.add_files(tmp_path, place, {"config.json": b"{}"})
    assert (place / "config.json").read_text() == "mine" and not store.is_listed(tmp_path, place)
