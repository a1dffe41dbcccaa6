"""Small runs, and clones in which they are published."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.config import NUM_TEST, Config
from seqmnist_tf.data import Examples, sequences
from seqmnist_tf.results import pages
from seqmnist_tf.results.pages import TABLES
from seqmnist_tf.results.publish import add_record
from seqmnist_tf.results.records import REQUIRED_DOCUMENTS
from seqmnist_tf.system import environment
from seqmnist_tf.train import load_run, train
from tests.toy import ROOT, git, toy_mnist

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


class Repository(NamedTuple):
    """A git folder, and its one commit."""

    git_folder: Path
    commit: str

    def at(self, root: Path) -> None:
        """Make ``root`` a clone of it."""
        (root / ".git").write_text(f"gitdir: {self.git_folder}\n")


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    root = tmp_path_factory.mktemp("repository")
    (root / "pyproject.toml").touch()
    git(root, "init", "-q")
    git(root, "add", "-f", ".")
    git(root, "commit", "-q", "-m", "sources")
    return Repository(root / ".git", git(root, "rev-parse", "HEAD"))


def patch_small(patch: pytest.MonkeyPatch, repository: Repository) -> None:
    """Set toy data of MNIST's size, a small preset ``strong``, and a clean commit."""
    patch.setattr(sequences, "load_mnist", many_mnist)
    patch.setattr(environment, "git_state", lambda: {"commit": repository.commit, "dirty": False})
    patch.setitem(cfg.PRESETS, "strong", cfg.Preset(cfg.with_values(Config(), SMALL), "Test accuracy: 12.34 %."))


def empty_clone(root: Path, repository: Repository) -> Path:
    """Make the documents and records of a clone without records of runs; ``docs/more/page.md`` has all tables."""
    repository.at(root)
    for path in REQUIRED_DOCUMENTS:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text((ROOT / path).read_text())
    for name in ("literature.json", "benchmark.json"):
        shutil.copy(ROOT / "results" / name, root / "results")
    page = root / "docs" / "more" / "page.md"
    page.parent.mkdir(parents=True)
    page.write_text("".join(f"## {name}\n<!-- results: {name} -->\n<!-- end -->\n" for name in TABLES))
    return root


def copy_with(published: Path, root: Path, repository: Repository, add: Callable[[Path], Any]) -> Path:
    """Copy a published clone to ``root``, publish one more thing in its results folder, and return ``root``."""
    shutil.copytree(published, root, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch_small(patch, repository)
        add(root / "results")
    return root


@pytest.fixture(scope="session")
def runs(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two finished runs of the small preset, seeds 0 and 1."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch_small(patch, repository)
        for seed in (0, 1):
            config = cfg.with_values(cfg.preset("strong"), {"train.seed": seed})
            command = f"python -m seqmnist_tf.train strong --train.seed {seed}"
            assert train(config, folder / str(seed), preset="strong", command=command)["status"] == "completed"
    return [folder / "0", folder / "1"]


@pytest.fixture(scope="session")
def published_once(runs: list[Path], repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = empty_clone(tmp_path_factory.mktemp("clone"), repository)
    with pytest.MonkeyPatch.context() as patch:
        patch_small(patch, repository)
        for run in runs:
            add_record(load_run(run), "strong", root / "results")
        pages.write_documents(root)
    return root


@pytest.fixture
def clone(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty clone, which is also the working directory."""
    patch_small(monkeypatch, repository)
    monkeypatch.chdir(empty_clone(tmp_path, repository))
    return tmp_path


@pytest.fixture
def published(published_once: Path, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with both runs published and all documents written, which is also the working directory."""
    patch_small(monkeypatch, repository)
    shutil.copytree(published_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
