"""Published runs: ``results/<name>/seed<k>/`` has the files of a run directory, and ``SHA256SUMS`` their hashes."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import config as cfg
from . import runtime
from .config import NUM_TEST, Config
from .errors import InputError
from .run_dir import RunDirectory, folder_atomically, write_atomically
from .train import summarize

FOLDER = Path("results")
MANIFEST = "SHA256SUMS"
PAGE = "README.md"  # the one file of the folder that is text; it is compared with what the records give
STEPS = "steps.csv.gz"
COPIED = ("config.json", "environment.json", "history.jsonl", "model.keras", "pixel_order.txt", "summary.json")
LOSS_TOLERANCE = 1e-5  # of a loss: float32 sums on another machine are in another order
LAYERS = ["LSTM", "Dense"]
OF_RECORD = re.compile(r"[^/]+/seed[^/]*/")  # how the path of a record's file begins


@dataclass(frozen=True)
class Record:
    """A published run.

    Attributes:
        name: what it is published as; its preset's name where it is of a preset.
        run: its folder, read as a run directory.
    """

    name: str
    run: RunDirectory
    config: Config
    environment: dict[str, Any]
    summary: dict[str, Any]
    history: list[dict[str, Any]]

    @property
    def seed(self) -> int:
        """``train.seed``."""
        return self.config.train.seed

    @property
    def correct(self) -> int:
        """Test digits that its final model reads right, of 10,000."""
        return self.summary["final"]["test_correct"]

    @property
    def accuracy(self) -> float:
        """``correct`` / 10,000."""
        return self.correct / NUM_TEST

    def epochs_to(self, accuracy: float) -> int | None:
        """Return the first epoch after which test accuracy was at least ``accuracy``, or None."""
        return next((row["epoch"] for row in self.history if row["test_accuracy"] >= accuracy), None)


def read(folder: Path) -> dict[str, list[Record]]:
    """Return the records in a results folder by name, each name's by seed; presets first, in their order.

    Raises:
        InputError: a record cannot be read.
    """
    found: dict[str, list[Record]] = {}
    for path in folder.glob("*/seed*"):
        run = RunDirectory.open(path)
        config = run.config
        record = Record(path.parent.name, run, config, run.environment, run.summary or {}, run.history())
        found.setdefault(record.name, []).append(record)
    presets = list(cfg.PRESETS)
    names = sorted(found, key=lambda name: (presets.index(name) if name in presets else len(presets), name))
    return {name: sorted(found[name], key=lambda record: record.seed) for name in names}


def add(run: RunDirectory, name: str, folder: Path) -> Path:
    """Publish a finished run under a name and return the path of its record.

    Its files are copied as they are, the losses of its batches compressed, once all of them agree and its model,
    loaded anew on stock Keras, reads as many test digits right as its summary says.

    Args:
        run: a run directory.
        name: of a preset, if the run is that preset's; else a new one, or one whose records are of the same experiment.
        folder: the results folder.

    Raises:
        InputError: something does not agree, or the record is there already; nothing is written.
        OSError: the disk is full.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name):
        raise InputError(f"--name must be up to 40 of a-z, 0-9, - and _, a letter or digit first (got {name!r})")
    run.require_model()
    losses = (run.path / "steps.csv").read_bytes() if (run.path / "steps.csv").is_file() else b""
    if problems := disagreements(run, losses):
        raise InputError(f"{run.path} is not published: {problems[0]}")
    _require_same_experiment(run, name, folder)
    path = folder / name / f"seed{run.config.train.seed}"
    if path.exists():
        raise InputError(f"{path} is published already (give another run, or another --name)")
    if problem := model_disagreement(run):
        raise InputError(f"{run.path} is not published: {problem}")
    with folder_atomically(path) as new:
        for file in COPIED:
            (new / file).write_bytes((run.path / file).read_bytes())
        (new / STEPS).write_bytes(gzip.compress(losses, mtime=0))
        hashes = {f"{name}/{path.name}/{file.name}": _hash(file) for file in new.iterdir()}
        write_manifest(folder, {**read_manifest(folder), **hashes})
    return path


def _require_same_experiment(run: RunDirectory, name: str, folder: Path) -> None:
    """Raise InputError where ``name`` stands for another experiment than the run's."""
    ours = cfg.config_id(run.config)
    others = {cfg.config_id(record.config) for record in read(folder).get(name, [])}
    if name in cfg.PRESETS:
        others.add(cfg.config_id(cfg.preset(name)))
    if others - {ours}:
        raise InputError(
            f"--name {name} stands for configuration {', '.join(sorted(others))}, and that of {run.path} is {ours} "
            "(give another name)"
        )


def disagreements(run: RunDirectory, losses: bytes) -> list[str]:
    """Return in what the files of a run, its model left out, do not agree or do not suffice to be published.

    Args:
        run: a run directory or a record.
        losses: the content of its ``steps.csv``.
    """
    try:
        config, environment, summary, history = run.config, run.environment, run.summary or {}, run.history()
        if config.task.permutation.startswith("file:"):
            return ["its pixel order must be one that anyone can make (task.permutation seed:N, not file:PATH)"]
        return [
            *_not_publishable(config, environment, summary),
            *_history_problems(config, history, losses),
            *_summary_problems(config, environment, summary, history),
        ]
    except InputError as error:
        return [str(error)]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        return [f"its files are not those of a run directory ({type(error).__name__}: {error})"]


def _not_publishable(config: Config, environment: dict[str, Any], summary: dict[str, Any]) -> list[str]:
    problems = []
    if summary.get("status") != "completed":
        problems.append(f"its status must be completed (got {summary.get('status')})")
    if not config.test.enabled or config.num_test != NUM_TEST:
        problems.append(f"it must be tested on all {NUM_TEST:,} images (test.enabled true, task.limit_test 0)")
    for part in (environment, *environment["resumed"]):
        git = part["git"]
        if not git["commit"] or git["dirty"] is not False:
            problems.append(
                f"it must be of a commit, without changes in the working tree (got commit {git['commit']}, "
                f"dirty {git['dirty']})"
            )
    return problems


def _history_problems(config: Config, history: list[dict[str, Any]], losses: bytes) -> list[str]:
    epochs, per_epoch = config.train.n_epochs, config.steps_per_epoch
    if [row["epoch"] for row in history] != list(range(1, epochs + 1)):
        return [f"history.jsonl must have epochs 1 to {epochs} (got {len(history)} rows)"]
    steps = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(io.StringIO(losses.decode("ascii")))]
    if [step for step, _ in steps] != list(range(1, epochs * per_epoch + 1)):
        return [f"steps.csv must have steps 1 to {epochs * per_epoch} (got {len(steps)} rows)"]
    problems = []
    for row in history:
        epoch = row["epoch"]
        of_epoch = [loss for _, loss in steps[(epoch - 1) * per_epoch : epoch * per_epoch]]
        if row["train_loss"] != math.fsum(of_epoch) / per_epoch:
            problems.append(f"train_loss of epoch {epoch} is not the mean of its rows in steps.csv")
        for split, total in (("train", config.num_train), ("test", NUM_TEST)):
            correct = row[f"{split}_accuracy"] * total
            if abs(correct - round(correct)) > 1e-6 or not 0 <= correct <= total:
                problems.append(f"{split}_accuracy of epoch {epoch} is no count out of {total:,}")
        fraction = (epoch - 1) / epochs if config.optimizer.schedule == "cosine" else 0.0
        rate = config.optimizer.lr * (1 + math.cos(math.pi * fraction)) / 2
        if not math.isclose(row["learning_rate"], rate, rel_tol=1e-4):
            problems.append(f"learning_rate of epoch {epoch} must be {rate:.4g} (got {row['learning_rate']:.4g})")
    return problems


def _summary_problems(
    config: Config, environment: dict[str, Any], summary: dict[str, Any], history: list[dict[str, Any]]
) -> list[str]:
    config_id, final = cfg.config_id(config), summary["final"]
    expected = summarize(history, config, config_id, num_params(config), "completed", None)
    own = ("test_loss", "test_accuracy", "test_correct", "test_total")  # of model.keras on stock Keras
    expected["final"] = {**expected["final"], **{key: final[key] for key in own}}
    wrong = [f"summary.json has another {key} than the history" for key in expected if summary[key] != expected[key]]
    if environment["config_id"] != config_id:
        wrong.append("environment.json has another config_id than config.json")
    if final["test_total"] != NUM_TEST or final["test_correct"] / NUM_TEST != final["test_accuracy"]:
        wrong.append(f"test_accuracy of summary.json is not test_correct / {NUM_TEST:,}")
    last = history[-1]
    if not math.isclose(last["test_loss"], final["test_loss"], rel_tol=0.01, abs_tol=1e-4):
        wrong.append("test_loss of summary.json is not that of the last epoch")
    return wrong


def num_params(config: Config) -> int:
    """Return the parameters of a configuration's model: an LSTM over one feature with one bias, and a dense layer."""
    units, classes = config.model.hidden_size, config.model.output_size
    return 4 * units * (config.model.input_size + units + 1) + units * classes + classes


def model_disagreement(run: RunDirectory) -> str | None:
    """Return in what a run's ``model.keras``, evaluated anew on stock Keras, is not what its summary says, or None."""
    runtime.start_tensorflow()
    from .evaluate import evaluate_run

    layers = [type(layer).__name__ for layer in run.load_model().layers]
    if layers != LAYERS:
        return f"model.keras must have the layers {', '.join(LAYERS)} (got {', '.join(layers)})"
    metrics, final = evaluate_run(run), (run.summary or {})["final"]
    if metrics.correct != final["test_correct"]:
        return f"model.keras reads {metrics.correct:,} test digits right (summary.json says {final['test_correct']:,})"
    if not math.isclose(metrics.loss, final["test_loss"], rel_tol=LOSS_TOLERANCE):
        return f"model.keras has test loss {metrics.loss:.6f} (summary.json says {final['test_loss']:.6f})"
    return None


def differences(folder: Path, *, records_only: bool = False) -> list[str]:
    """Return in what the files of a results folder differ from its manifest, or a record's from each other.

    ``records_only`` leaves out what :func:`update_manifest` writes.
    """
    wanted = OF_RECORD if records_only else re.compile("")
    listed = {name: digest for name, digest in read_manifest(folder).items() if wanted.match(name)}
    there = {name: path for name, path in _files(folder).items() if wanted.match(name)}
    found = [f"{folder / name} is not there" for name in sorted(listed.keys() - there.keys())]
    found += [f"{folder / name} is not in {MANIFEST}" for name in sorted(there.keys() - listed.keys())]
    for name in sorted(there.keys() & listed.keys()):
        if _hash(there[name]) != listed[name]:
            found.append(f"{folder / name} has another SHA-256 than in {MANIFEST}")
    if found:
        return found
    for records in read(folder).values():
        for record in records:
            path = record.run.path
            losses = gzip.decompress((path / STEPS).read_bytes())
            found += [f"{path}: {problem}" for problem in disagreements(record.run, losses)]
            if path.name != f"seed{record.seed}":
                found.append(f"{path}: its seed is {record.seed}")
        if len({cfg.config_id(record.config) for record in records}) > 1:
            found.append(f"{folder / records[0].name}: its seeds have different configurations")
    return found


def read_manifest(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a results folder, by its path in it.

    Raises:
        InputError: the manifest cannot be read.
    """
    try:
        lines = (folder / MANIFEST).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {folder / MANIFEST}: {error}") from None
    pairs = [re.fullmatch(r"([0-9a-f]{64})  (\S+)", line) for line in lines]
    if not all(pairs):
        raise InputError(f"{folder / MANIFEST} must have lines of a SHA-256, two spaces and a path")
    return {pair[2]: pair[1] for pair in pairs if pair}


def write_manifest(folder: Path, hashes: dict[str, str]) -> None:
    """Write a manifest, which ``sha256sum -c`` reads too."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    write_atomically(folder / MANIFEST, text.encode("ascii"))


def update_manifest(folder: Path) -> None:
    """Write anew the hashes of what is no record: measurements of speed, the literature, pictures."""
    kept = {name: digest for name, digest in read_manifest(folder).items() if OF_RECORD.match(name)}
    fresh = {name: _hash(path) for name, path in _files(folder).items() if not OF_RECORD.match(name)}
    write_manifest(folder, {**kept, **fresh})


def _files(folder: Path) -> dict[str, Path]:
    """Return the files that the manifest lists, by their path in the folder."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in files.items() if name not in (MANIFEST, PAGE) and path.name[0] != "."}


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest(folder: Path, prefixes: tuple[str, ...]) -> str:
    """Return 16 hexadecimal digits of the manifest's lines on files whose path begins with one of ``prefixes``."""
    lines = [f"{h} {name}" for name, h in sorted(read_manifest(folder).items()) if name.startswith(prefixes)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def read_json(path: Path) -> Any:
    """Return the content of a JSON file of the results folder, or raise InputError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
