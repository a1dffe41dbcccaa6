"""Small runs, and clones in which they are published."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.config import Config, sections
from seqmnist_tf.data import sequences
from seqmnist_tf.results import pages, plots
from seqmnist_tf.results.contents import CONTENTS_FILE
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


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of git with one commit."""
    root = tmp_path_factory.mktemp("repository")
    git(root, "init", "-q")
    git(root, "commit", "-q", "--allow-empty", "-m", "sources")
    return root


def patch_small(patch: pytest.MonkeyPatch, repository: Path) -> None:
    """Set toy data, whose test images are all that there are, a small preset ``strong``, and a clean commit."""
    commit = git(repository, "rev-parse", "HEAD")
    patch.setattr(environment, "git_state", lambda: {"commit": commit, "dirty": False})
    patch.setattr(sequences, "load_mnist", toy_mnist)
    patch.setattr(sections, "NUM_TEST", len(toy_mnist()["test"].labels))
    patch.setattr(plots, "UNFOLDING_IMAGES", (0, 4))
    patch.setitem(cfg.PRESETS, "strong", cfg.Preset(cfg.with_values(Config(), SMALL), "Test accuracy: 12.34 %."))


def empty_clone(root: Path, repository: Path) -> Path:
    """Make the documents and records of a clone without records of runs; ``docs/more/page.md`` has all tables."""
    (root / ".git").write_text(f"gitdir: {repository / '.git'}\n")
    for path in REQUIRED_DOCUMENTS:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text((ROOT / path).read_text())
    shutil.copytree(ROOT / "results" / "benchmark", root / "results" / "benchmark")
    board = {"task": "sMNIST", "cells": [], "beside": [{"records": "strong"}]}
    contents = {"boards": [board], "searches": [], "elsewhere": [], "learning_curves": ["strong"]}
    contents.update(comparison=["strong"], former_layers={})
    (root / "results" / CONTENTS_FILE).write_text(json.dumps(contents))
    page = root / "docs" / "more" / "page.md"
    page.parent.mkdir(parents=True)
    page.write_text("".join(f"## {name}\n<!-- results: {name} -->\n<!-- end -->\n" for name in TABLES))
    return root


@pytest.fixture(scope="session")
def runs(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
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
def published_once(runs: list[Path], repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = empty_clone(tmp_path_factory.mktemp("clone"), repository)
    with pytest.MonkeyPatch.context() as patch:
        patch_small(patch, repository)
        for run in runs:
            add_record(load_run(run), "strong", root / "results")
        pages.write_documents(root)
    return root


@pytest.fixture
def clone(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty clone, which is also the working directory."""
    patch_small(monkeypatch, repository)
    monkeypatch.chdir(empty_clone(tmp_path, repository))
    return tmp_path


@pytest.fixture
def published(published_once: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with both runs published and all documents written, which is also the working directory."""
    patch_small(monkeypatch, repository)
    shutil.copytree(published_once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
