"""Documents and pictures are made from the records, and every digit that differs is found."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf.results import pages, plots, verify
from seqmnist_tf.results.__main__ import main
from seqmnist_tf.results.board import Board
from seqmnist_tf.results.pages import find_documents, relative_links
from seqmnist_tf.results.records import Record
from seqmnist_tf.results.store import manifest_problems, read_manifest, update_manifest, write_manifest
from seqmnist_tf.system import InputError
from tests.changes import change_json, content
from tests.conftest import Command
from tests.results.files import flip_byte, flip_digit, list_record, read_records
from tests.results.forgeries import UNKNOWN_COMMIT

RECORD = "results/strong/seed1"


def section_pattern(name: str) -> str:
    """Return a pattern that matches one section of a document."""
    return rf"(?s)<!-- results: {name} -->.*?<!-- end -->"


def test_everything_agrees_after_writing(command: Command, published: Path) -> None:
    answer = command(main, "--check")
    assert (answer.status, answer.out) == (0, "records, manifest, documents, pictures and models agree\n")
    before = content(published)
    assert command(main).out == "all pictures and documents are up to date\n"
    assert content(published) == before


CHANGES: list[tuple[str, Callable[[Path], Any]]] = [
    (f"{RECORD}/summary.json", flip_digit),
    (f"{RECORD}/steps.csv.gz", flip_byte),
    (f"{RECORD}/predictions.csv", Path.unlink),
    (f"{RECORD}/more.txt", lambda path: path.write_text("1")),
    ("results/strong/README.md", flip_digit),
    ("results/SHA256SUMS", flip_digit),
    ("results/SHA256SUMS", lambda path: path.write_text("nonsense\n")),
    ("results/benchmark.json", flip_digit),
    ("results/plots/confusion.png", flip_byte),
    ("results/plots/unfolding.png", Path.unlink),
    ("README.md", lambda path: flip_digit(path, section_pattern("main"))),
    ("results/README.md", lambda path: flip_digit(path, section_pattern("runs"))),
    ("docs/more/page.md", lambda path: flip_digit(path, section_pattern("configuration"))),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_one_changed_digit_is_found(
    name: str, change: Callable[[Path], Any], command: Command, published: Path
) -> None:
    change(published / name)
    before = content(published)
    answer = command(main, "--check")
    assert answer.status in (1, 2) and answer.status == (2 if name == "results/SHA256SUMS" and not answer.out else 1)
    assert answer.err.startswith("error: ") and answer.err.count("\n") == 1
    assert content(published) == before


def test_the_commit_of_a_benchmark_is_checked(published: Path) -> None:
    path = Path("results/benchmark.json")
    change_json(path, lambda d: d["cells"][-1]["git"].update(commit=UNKNOWN_COMMIT))
    update_manifest(Path("results"))
    assert f"{path}: its commit c0ffeec is not a commit of this clone" in pages.clone_problems(models=False)


def test_a_changed_section_is_named(published: Path) -> None:
    flip_digit(published / "docs" / "more" / "page.md", section_pattern("configuration"))
    assert pages.clone_problems(models=False) == [f"docs/more/page.md: section configuration {pages.OUTDATED}"]


def test_a_changed_record_is_found_though_its_hash_was_changed_too(command: Command, published: Path) -> None:
    path = published / RECORD / "summary.json"
    change_json(path, lambda d: d.update(seconds_total=1.0))
    list_record(Path(RECORD))
    assert read_manifest(Path("results"))["strong/seed1/summary.json"] == hashlib.sha256(path.read_bytes()).hexdigest()
    answer = command(main, "--check")
    assert answer.status == 1 and "seconds_total in summary.json does not match" in answer.out
    assert command(main).status == 1  # nor is anything written from it


def test_broken_losses_are_found_though_their_hash_was_changed_too(command: Command, published: Path) -> None:
    path = published / RECORD / "steps.csv.gz"
    path.write_bytes(path.read_bytes()[:40])
    list_record(Path(RECORD))
    answer = command(main, "--check")
    assert answer.status == 1 and answer.out.startswith(f"{RECORD}: cannot read {RECORD}/steps.csv.gz: ")


def test_the_records_of_a_name_have_their_seeds_and_one_configuration(published: Path) -> None:
    first, second = read_records(Path("results"))["strong"]
    assert verify.record_problems(second.run.path, published) == []
    assert verify.name_problems(second, [first]) == []
    (problem,) = verify.name_problems(dataclasses.replace(second, name="full"), [])
    assert problem.startswith("--name must be 1 to 40 of a-z, 0-9, - and _")
    second.run.path.rename(second.run.path.with_name("seed7"))
    listed = {name.replace("seed1", "seed7"): h for name, h in read_manifest(Path("results")).items()}
    write_manifest(Path("results"), listed)
    assert verify.folder_problems(Path("results")) == [
        "results/strong/seed7: its folder must be seed1, the seed in config.json"
    ]
    (first, moved) = read_records(Path("results"))["strong"]
    change_json(moved.run.path / "config.json", lambda d: d["optimizer"].update(lr=0.5))
    moved = Record.read(moved.run.path)
    (problem,) = verify.name_problems(moved, [first])
    assert problem.startswith(f"the name strong is of configuration {first.run.config_id}, but this run has ")


def test_a_preset_s_name_and_an_experiment_s_name_are_its_own(command: Command, published: Path) -> None:
    results = published / "results"
    kept = dict(read_manifest(results))
    for name, message in (
        ("baseline", "the name baseline is of configuration 44136fa355b3"),
        ("best", "is that of strong (give --name strong, and no setting that differs)"),
    ):
        (results / "strong").rename(results / name)
        write_manifest(results, {path.replace("strong/", f"{name}/"): digest for path, digest in kept.items()})
        answer = command(main, "--check")
        assert answer.status == 1 and message in answer.out
        (results / name).rename(results / "strong")


def test_writing_refuses_a_changed_record(command: Command, published: Path) -> None:
    flip_digit(published / RECORD / "history.jsonl")
    before = content(published)
    answer = command(main)
    assert answer.status == 1 and "history.jsonl does not match its SHA-256" in answer.err
    assert content(published) == before


def test_pictures_follow_their_records_and_what_draws_them(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("results")
    drawn = {picture.file: (folder / "plots" / picture.file).stat().st_mtime_ns for picture in plots.PICTURES}
    shutil.rmtree(folder / "strong" / "seed1")
    manifest = {name: h for name, h in read_manifest(folder).items() if "seed1" not in name}
    write_manifest(folder, manifest)
    # The learning curves show every seed, the others seed 0.
    (problem,) = plots.picture_problems(Board.read(folder), folder)
    assert problem.startswith("results/plots/learning_curves.png does not show the current records")
    assert folder / "plots" / "learning_curves.png" in pages.write_documents()
    assert plots.picture_problems(Board.read(folder), folder) == []
    fresh = {name for name in drawn if (folder / "plots" / name).stat().st_mtime_ns != drawn[name]}
    assert fresh == {"learning_curves.png"}
    monkeypatch.setattr(plots, "draw_counts", plots.draw_learning_curves)  # stands for a change of its code
    assert plots.outdated_pictures(Board.read(folder), folder) == list(plots.PICTURES)


def test_pictures_follow_the_lowest_seed(published: Path) -> None:
    folder = Path("results")
    board = Board.read(folder)
    assert plots.picture_problems(board, folder) == []
    del board.records["strong"][0]
    problems = plots.picture_problems(board, folder)
    assert [Path(problem.split()[0]).stem for problem in problems] == ["confusion", "hardest", "unfolding"]


@pytest.mark.parametrize(
    ("document", "link"),
    [
        ("README.md", "results/strong/seed0"),
        ("results/README.md", "strong/seed0"),
        ("export/README.md", "../results/strong/seed0"),
        ("docs/more/page.md", "../../results/strong/seed0"),
    ],
)
def test_links_are_relative_to_their_document(document: str, link: str) -> None:
    text = "[a](results/strong/seed0), [b](https://example.org/x), [c](#part)"
    assert relative_links(text, Path(document)) == f"[a]({link}), [b](https://example.org/x), [c](#part)"


@pytest.mark.parametrize("fence", ["```", "`````"])
def test_code_has_no_links(fence: str) -> None:
    code = f"{fence}python\nself.cells[0](x)\n{fence[:-1]}\nself.cells[1](x)\n{fence}`\n"
    text = relative_links(f"[a](x)\n\n{code}\n[b](x)\n\n{code}", Path("docs/page.md"))
    assert text == f"[a](../x)\n\n{code}\n[b](../x)\n\n{code}"


def test_sections_link_to_the_record_from_every_document(published: Path) -> None:
    page = (published / "docs" / "more" / "page.md").read_text()
    assert "| [`strong`](../../results/strong/seed1) | 1 |" in page
    assert "([record](../../results/strong/seed0))" in page
    assert "| [`strong`](strong/seed1) | 1 |" in (published / "results" / "README.md").read_text()
    assert "([record](../results/strong/seed0))" in (published / "export" / "README.md").read_text()
    assert (published / "docs" / "more" / "../../results/strong/seed1").is_dir()


def test_documents_are_the_readmes_and_every_page_of_docs(tmp_path: Path) -> None:
    (tmp_path / "docs" / "more").mkdir(parents=True)
    for name in ("index.md", "more/page.md", "hooks.py"):
        (tmp_path / "docs" / name).write_text("")
    readmes = ["README.md", "results/README.md", "export/README.md"]
    assert [path.as_posix() for path in find_documents(tmp_path)] == [*readmes, "docs/index.md", "docs/more/page.md"]


def test_files_of_any_name_are_listed(published: Path) -> None:
    (Path("results") / "my notes, Zürich.txt").write_text("x")
    update_manifest(Path("results"))
    assert manifest_problems(Path("results")) == []
    (Path("results") / "my notes, Zürich.txt").write_text("y")
    assert [p for p in manifest_problems(Path("results")) if "my notes, Zürich.txt does not match" in p]


def test_an_unknown_section_is_refused() -> None:
    board = Board({}, {}, {})
    with pytest.raises(InputError, match=r"unknown section 'headlines' \(allowed: headline, quick_start, "):
        pages.render_document("<!-- results: headlines -->\n<!-- end -->\n", board, Path("README.md"))
    with pytest.raises(InputError, match="no record of strong"):
        pages.render_section("headline", board)


def test_it_runs_in_a_clone_only(command: Command, in_tmp: Path) -> None:
    for words in ([], ["--check"], ["add", "run", "--name", "mine"]):
        answer = command(main, *words)
        assert answer.status == 2 and "run this in the root of a clone" in answer.err
    assert list(in_tmp.iterdir()) == []
