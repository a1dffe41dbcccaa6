"""Publishing a run, and what is made of records: every digit that differs is found."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf import data, environment, plots, records, results, tables, train
from seqmnist_tf.config import NUM_TEST, Config
from seqmnist_tf.mnist import Examples
from seqmnist_tf.run_dir import RunDirectory
from seqmnist_tf.saved_model import DEFAULT_FOLDER, SavedModel, versions
from seqmnist_tf.tables import Board, Statistics
from tests.conftest import Result
from tests.toy import ROOT, toy_mnist

SMALL = {
    "model.hidden_size": 16,
    "model.forget_bias": "chrono",
    "optimizer.name": "Adam",
    "optimizer.lr": 0.01,
    "optimizer.schedule": "cosine",
    "task.limit_train": 40,
    "train.batch_size": 16,
    "train.n_epochs": 2,
    "wandb.mode": "disabled",
}


def many_mnist(source: str = "auto", folder: Any = None, splits: Sequence[str] = ("train", "test")) -> Any:
    """Stand in for ``load_mnist``: toy images, as many test images as MNIST has."""
    made = toy_mnist(splits=splits)
    if "test" in made:
        repeated = np.arange(NUM_TEST) % len(made["test"].labels)
        made["test"] = Examples(made["test"].images[repeated], made["test"].labels[repeated])
    return made


@pytest.fixture(scope="module")
def patched() -> Iterator[pytest.MonkeyPatch]:
    """Toy data of MNIST's size, a small preset ``strong``, a clean commit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load_mnist", many_mnist)
        patch.setattr(environment, "git_state", lambda: {"commit": "c0ffee" * 6 + "c0ff", "dirty": False})
        patch.setitem(cfg.PRESETS, "strong", cfg.Preset(cfg.with_values(Config(), SMALL), ""))
        yield patch


@pytest.fixture(scope="module")
def runs(patched: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two finished runs of the small preset, seeds 0 and 1."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        config = cfg.with_values(cfg.preset("strong"), {"train.seed": seed})
        summary = train.train(config, folder / str(seed), preset="strong", command="python -m seqmnist_tf.train strong")
        assert summary["status"] == "completed"
    return [folder / "0", folder / "1"]


def empty_clone(root: Path) -> Path:
    """Make what a clone has of documents and records, without the records of runs."""
    for path in results.DOCUMENTS:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text((ROOT / path).read_text())
    for name in ("literature", "benchmark", "serving"):
        shutil.copy(ROOT / "results" / f"{name}.json", root / "results")
    return root


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty clone, which is also the working directory."""
    monkeypatch.chdir(empty_clone(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def published_once(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = empty_clone(tmp_path_factory.mktemp("clone"))
    for run in runs:
        records.add(RunDirectory.open(run), "strong", root / "results")
    results.write(root)
    return root


@pytest.fixture
def published(published_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with both runs published and all documents written, which is also the working directory."""
    shutil.copytree(published_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_published_as_it_is(command: Callable[..., Result], runs: list[Path], clone: Path) -> None:
    assert command(results.main, "add", str(runs[0]), "--name", "strong").out == "results/strong/seed0\n"
    record = clone / "results" / "strong" / "seed0"
    names = {"config.json", "environment.json", "history.jsonl", "model.keras", "pixel_order.txt", "summary.json"}
    assert {path.name for path in record.iterdir()} == {*names, "steps.csv.gz"}
    for name in names:
        assert (record / name).read_bytes() == (runs[0] / name).read_bytes()
    assert gzip.decompress((record / "steps.csv.gz").read_bytes()) == (runs[0] / "steps.csv").read_bytes()
    manifest = (clone / "results" / "SHA256SUMS").read_text().splitlines()
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(record.iterdir())]
    assert manifest == [f"{h}  strong/seed0/{p.name}" for h, p in zip(hashes, sorted(record.iterdir()), strict=True)]

    before = content(clone)
    again = command(results.main, "add", str(runs[0]), "--name", "strong")
    assert (again.status, again.err.count("published already")) == (2, 1)
    assert content(clone) == before
    assert command(results.main, "add", str(runs[1]), "--name", "strong").status == 0
    assert [record.seed for record in records.read(Path("results"))["strong"]] == [0, 1]


def change_json(path: Path, change: Callable[[Any], Any]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def change_row(path: Path, number: int, **values: Any) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[number].update(values)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def other_weights(path: Path) -> None:
    model = keras.saving.load_model(path, compile=False)
    model.set_weights([-weights for weights in model.get_weights()])
    model.save(path)


def other_layers(path: Path) -> None:
    lstm, dense = keras.layers.LSTM(16), keras.layers.Dense(10)
    keras.Sequential([keras.Input((784, 1)), lstm, keras.layers.ReLU(), dense]).save(path)


def drop_last_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


TAMPERING: list[tuple[str, Callable[[Path], Any], str]] = [
    ("summary.json", lambda p: change_json(p, lambda d: d.update(status="diverged")), "status must be completed"),
    ("summary.json", lambda p: change_json(p, lambda d: d.update(seed=7)), "another seed"),
    ("summary.json", lambda p: change_json(p, lambda d: d.update(escape_epoch=9)), "another escape_epoch"),
    ("summary.json", lambda p: change_json(p, lambda d: d.update(num_params=1)), "another num_params"),
    ("summary.json", lambda p: change_json(p, lambda d: d["final"].update(test_correct=1)), "is not test_correct"),
    ("summary.json", lambda p: change_json(p, lambda d: d["final"].update(test_loss=9.0)), "last epoch"),
    ("summary.json", lambda p: change_json(p, lambda d: d.pop("final")), "not those of a run directory"),
    (
        "summary.json",
        lambda p: change_json(p, lambda d: d["final"].update(test_correct=5, test_accuracy=0.0005)),
        "summary.json says 5",
    ),
    ("history.jsonl", drop_last_line, "must have epochs 1 to 2"),
    ("history.jsonl", lambda p: change_row(p, 0, train_loss=1.0), "train_loss of epoch 1 is not the mean"),
    ("history.jsonl", lambda p: change_row(p, 0, test_accuracy=0.12345), "is no count out of 10,000"),
    ("history.jsonl", lambda p: change_row(p, 1, learning_rate=0.01), "learning_rate of epoch 2 must be 0.005"),
    ("history.jsonl", lambda p: change_row(p, 1, seconds=1e4), "another seconds_total"),
    ("steps.csv", drop_last_line, "must have steps 1 to 6"),
    ("steps.csv", lambda p: p.write_text(re.sub(r"\n3,.*\n", "\n3,2.5\n", p.read_text())), "is not the mean"),
    ("config.json", lambda p: change_json(p, lambda d: d["train"].update(n_epochs=3)), "must have epochs 1 to 3"),
    ("config.json", lambda p: change_json(p, lambda d: d["optimizer"].update(beta_1=0.8)), "another config_id"),
    ("config.json", lambda p: change_json(p, lambda d: d["test"].update(enabled=False)), "tested on all 10,000"),
    (
        "config.json",
        lambda p: change_json(p, lambda d: d["task"].update(permutation="file:/nowhere")),
        "pixel order must be one that anyone can make",
    ),
    ("environment.json", lambda p: change_json(p, lambda d: d["git"].update(dirty=True)), "must be of a commit"),
    ("environment.json", lambda p: change_json(p, lambda d: d["git"].update(commit=None)), "must be of a commit"),
    (
        "environment.json",
        lambda p: change_json(p, lambda d: d["resumed"].append({"git": {"commit": "ab", "dirty": True}})),
        "must be of a commit",
    ),
    ("model.keras", other_weights, "test digits right (summary.json says"),
    ("model.keras", other_layers, "must have the layers LSTM, Dense"),
    ("model.keras", lambda p: p.write_bytes(p.read_bytes()[:1000]), "give a whole Keras model"),
    ("model.keras", lambda p: p.unlink(), "has no model.keras"),
    ("steps.csv", lambda p: p.unlink(), "must have steps 1 to 6"),
]


@pytest.mark.parametrize(("name", "tamper", "message"), TAMPERING)
def test_a_run_that_does_not_agree_is_refused(
    name: str,
    tamper: Callable[[Path], Any],
    message: str,
    command: Callable[..., Result],
    runs: list[Path],
    clone: Path,
) -> None:
    run = clone / "run"
    shutil.copytree(runs[0], run)
    tamper(run / name)
    before = content(clone)
    refused = command(results.main, "add", "run", "--name", "mine")
    assert (refused.status, refused.err.count("\n"), refused.err[:7]) == (2, 1, "error: ")
    assert message in refused.err
    assert content(clone) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [("No Name", "up to 40"), ("../up", "up to 40"), ("baseline", "stands for configuration 44136fa355b3")],
)
def test_a_name_that_is_not_the_runs_is_refused(
    name: str, message: str, command: Callable[..., Result], runs: list[Path], clone: Path
) -> None:
    before = content(clone)
    refused = command(results.main, "add", str(runs[0]), "--name", name)
    assert refused.status == 2 and message in refused.err
    assert content(clone) == before


def test_a_name_stands_for_one_experiment(
    command: Callable[..., Result], runs: list[Path], published: Path, patched: pytest.MonkeyPatch
) -> None:
    shutil.copytree(published / "results" / "strong", published / "results" / "mine")
    config = published / "results" / "mine" / "seed0" / "config.json"
    change_json(config, lambda d: d["optimizer"].update(lr=0.5))
    refused = command(results.main, "add", str(runs[1]), "--name", "mine")
    assert refused.status == 2 and "--name mine stands for configuration" in refused.err


def test_all_agrees_once_it_is_written(command: Callable[..., Result], published: Path) -> None:
    answer = command(results.main, "--check")
    assert (answer.status, answer.out) == (0, "records, manifest, documents and pictures agree\n")
    before = content(published)
    assert command(results.main).out == "all documents were up to date\n"
    assert content(published) == before


def flip_digit(path: Path, pattern: str = r"\d") -> None:
    """Change one digit, the last that ``pattern`` finds."""
    text = path.read_text()
    found = list(re.finditer(pattern, text))[-1]
    at = next(i for i in range(found.end() - 1, found.start() - 1, -1) if text[i].isdigit())
    path.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])


def flip_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


RECORD = "results/strong/seed1"
CHANGES: list[tuple[str, Callable[[Path], Any]]] = [
    (f"{RECORD}/summary.json", flip_digit),
    (f"{RECORD}/history.jsonl", flip_digit),
    (f"{RECORD}/config.json", flip_digit),
    (f"{RECORD}/environment.json", flip_digit),
    (f"{RECORD}/pixel_order.txt", flip_digit),
    (f"{RECORD}/steps.csv.gz", flip_byte),
    (f"{RECORD}/model.keras", flip_byte),
    (f"{RECORD}/model.keras", Path.unlink),
    (f"{RECORD}/more.txt", lambda path: path.write_text("1")),
    ("results/SHA256SUMS", flip_digit),
    ("results/SHA256SUMS", lambda path: path.write_text("nonsense\n")),
    ("results/benchmark.json", flip_digit),
    ("results/serving.json", flip_digit),
    ("results/literature.json", flip_digit),
    ("results/plots/confusion.png", flip_byte),
    ("results/plots/unfolding.png", Path.unlink),
    ("README.md", lambda path: flip_digit(path, r"(?s)<!-- results: speed -->.*?<!-- end -->")),
    ("results/README.md", lambda path: flip_digit(path, r"(?s)<!-- results: runs -->.*?<!-- end -->")),
    ("results/README.md", lambda path: flip_digit(path, r"(?s)<!-- results: original -->.*?<!-- end -->")),
    ("export/README.md", lambda path: flip_digit(path, r"(?s)<!-- results: serving -->.*?<!-- end -->")),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_one_digit_is_found(
    name: str, change: Callable[[Path], Any], command: Callable[..., Result], published: Path
) -> None:
    change(published / name)
    before = content(published)
    answer = command(results.main, "--check")
    assert answer.status in (1, 2) and answer.status == (2 if name == "results/SHA256SUMS" and not answer.out else 1)
    assert answer.err.startswith("error: ") and answer.err.count("\n") == 1
    assert content(published) == before


def test_a_changed_record_is_found_though_its_hash_was_changed_too(
    command: Callable[..., Result], published: Path
) -> None:
    path = published / RECORD / "summary.json"
    change_json(path, lambda d: d.update(seconds_total=1.0))
    manifest = records.read_manifest(Path("results"))
    manifest["strong/seed1/summary.json"] = hashlib.sha256(path.read_bytes()).hexdigest()
    records.write_manifest(Path("results"), manifest)
    answer = command(results.main, "--check")
    assert answer.status == 1 and "another seconds_total than the history" in answer.out
    assert command(results.main).status == 1  # nor is anything written from it


def test_writing_refuses_a_changed_record(command: Callable[..., Result], published: Path) -> None:
    flip_digit(published / RECORD / "history.jsonl")
    before = content(published)
    answer = command(results.main)
    assert answer.status == 1 and "another SHA-256" in answer.err
    assert content(published) == before


def test_pictures_follow_their_records(published: Path, runs: list[Path]) -> None:
    folder = Path("results")
    drawn = {name: (folder / "plots" / name).stat().st_mtime_ns for name in plots.PICTURES}
    shutil.rmtree(folder / "strong" / "seed1")
    manifest = {name: h for name, h in records.read_manifest(folder).items() if "seed1" not in name}
    records.write_manifest(folder, manifest)
    assert len(plots.differences(folder)) == 1  # the learning curves show every seed, the others seed 0
    results.write()
    assert plots.differences(folder) == []
    fresh = {name for name in drawn if (folder / "plots" / name).stat().st_mtime_ns != drawn[name]}
    assert fresh == {"learning_curves.png"}


def test_statistics_over_seeds() -> None:
    found = Statistics.of([0.98, 0.99, 0.985])
    assert (found.n, found.least, found.most) == (3, 0.98, 0.99)
    assert found.mean == pytest.approx(0.985)
    assert found.deviation == pytest.approx(0.005)
    half = 4.302653 * 0.005 / 3**0.5  # Student's t, two degrees of freedom, 97.5 %: any table
    assert (found.low, found.high) == (pytest.approx(0.985 - half), pytest.approx(0.985 + half))
    assert found.percent() == "98.50 ± 0.50"


def test_a_single_run_has_a_wilson_interval() -> None:
    found = Statistics.of([0.9838])
    assert found.deviation is None and found.percent() == "98.38"
    # Wilson's score by hand: p = 0.9838, n = 10,000, z = 1.959964.
    assert (round(found.low, 5), round(found.high, 5)) == (0.98113, 0.9861)


def test_the_originals_arithmetic() -> None:
    literature = json.loads((ROOT / "results" / "literature.json").read_text())
    assert tables.upstream_accuracy(literature) == (9838, 10240, 0.9838)
    text = tables.original(Board({}, literature, {}, {}))
    assert "| 9,838 | 96.07 |" in text and "**98.38**" in text


def test_tables_say_what_records_say(published: Path) -> None:
    board = Board.read(Path("results"))
    first, second = board.records["strong"]
    mean = 100 * (first.correct + second.correct) / 2 / NUM_TEST
    assert f"**{mean:.2f} ± " in tables.headline(board)
    assert f"| `strong` | 2 | **{mean:.2f} ± " in tables.summary(board)
    for record in (first, second):
        assert f"| {record.seed} | {record.correct:,} | {record.correct / 100:.2f} (" in tables.runs(board)
    assert rf"\texttt{{strong}}) & sMNIST & 1,322 & Adam, 2 epochs & ${mean:.2f} \pm " in tables.rows_to_paste(board)


def test_the_quick_start_says_what_its_record_says(published: Path) -> None:
    board = Board.read(Path("results"))
    assert "%" not in tables.quick_start(board)
    record = board.records["strong"][0]
    board.records[tables.QUICK_START] = [record]
    text = " ".join(tables.quick_start(board).split())
    minutes = sum(row["seconds"] for row in record.history) / 60
    assert f" for 2 epochs. Seed 0 reads **{record.correct / 100:.2f} %** of " in text
    assert f" after {minutes:.1f} minutes of training ([its record](results/quickstart/seed0/summary.json)" in text


def test_cost_has_a_row_for_each_machine(published: Path) -> None:
    board = Board.read(Path("results"))
    assert "| `strong` | 0, 1 |" in tables.cost(board)
    second = board.records["strong"][1]
    second.environment["threads"] = 7
    rows = tables.cost(board).splitlines()[2:]
    assert rows[0].startswith("| `strong` | 0 | ") and rows[1].startswith("| `strong` | 1 | ")
    assert "7 threads" not in rows[0] and "7 threads" in rows[1]
    assert f" {statistics.median(row['seconds'] for row in second.history):.0f} (" in rows[1]


def test_spans_of_epochs() -> None:
    assert tables._span([3, 5, None]) == "3 to 5; never 1"
    assert tables._span([4, 4]) == "4"
    assert tables._span([None]) == "never"


def test_parameters_are_counted() -> None:
    assert records.num_params(Config()) == 67_850


def test_every_section_is_shown() -> None:
    text = "\n".join((ROOT / path).read_text() for path in results.DOCUMENTS)
    assert {match[2] for match in results.SECTION.finditer(text)} == set(tables.SECTIONS)
    assert text.count("<!-- results:") == len(list(results.SECTION.finditer(text)))


def test_it_runs_in_a_clone_only(command: Callable[..., Result], in_tmp: Path) -> None:
    for words in ([], ["--check"], ["add", "run", "--name", "mine"]):
        answer = command(results.main, *words)
        assert answer.status == 2 and "run this in the root of a clone" in answer.err
    assert list(in_tmp.iterdir()) == []


PUBLISHED = [record for of_name in records.read(ROOT / "results").values() for record in of_name]


def test_what_is_published_agrees() -> None:
    assert results.check(ROOT) == []


@pytest.mark.network
@pytest.mark.parametrize("record", PUBLISHED, ids=lambda record: f"{record.name}-{record.seed}")
def test_a_published_model_scores_what_its_record_says(record: records.Record) -> None:
    assert records.model_disagreement(record.run) is None


def test_the_newest_exported_version_is_the_headlines() -> None:
    exported = versions(ROOT / DEFAULT_FOLDER)
    described = SavedModel(exported[max(exported)], {}).description
    record = records.read(ROOT / "results")[tables.HEADLINE][0]
    assert described["seed"] == record.seed == 0
    assert described["config_id"] == record.summary["config_id"]
    assert described["commit"] == record.environment["git"]["commit"]
    for key in ("epoch", "test_accuracy", "test_correct", "test_total", "test_loss"):
        assert described[key] == record.summary["final"][key]
