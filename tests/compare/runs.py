"""Completed runs without a training: their files hold chosen predictions."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqmnist_tf import config as cfg
from seqmnist_tf.data import pixel_order
from seqmnist_tf.train import RunDirectory
from tests.toy import toy_mnist

TOTAL = 30  # toy test images


def completed_run(path: Path, seed: int, right: Sequence[bool] | np.ndarray, **values: Any) -> RunDirectory:
    """Make a completed run, by default of two epochs, whose final model classifies so many toy test images correctly.

    ``section__key`` in ``values`` sets a key of the configuration.
    """
    keys = {"train.seed": seed, "task.limit_test": TOTAL, "train.n_epochs": 2, "model.hidden_size": 4}
    keys |= {key.replace("__", "."): value for key, value in values.items()}
    config = cfg.validate(cfg.with_values(cfg.Config(), keys))
    environment = {"kernel": "keras", "machine": {"processor": "toy"}, "git": {"commit": "c0ffee"}}
    run = RunDirectory.create(path, config, environment, pixel_order(config.task.permutation))
    accuracy = float(np.mean(right))
    for epoch in range(1, config.train.n_epochs + 1):
        share = accuracy * epoch / config.train.n_epochs
        row = {"epoch": epoch, "train_loss": 1.0, "test_loss": 1.0, "test_accuracy": share}
        run.append_history({**row, "seconds": 3.0, "learning_rate": 0.1})
    correct = int(np.sum(right))
    final = {"test_loss": 1.0, "test_accuracy": accuracy, "test_correct": correct, "test_total": TOTAL}
    run.write_json(
        "summary.json",
        {"status": "completed", "config_id": cfg.config_id(config), "num_params": 154, "final": final, "best": None},
    )
    labels = toy_mnist()["test"].labels[:TOTAL].tolist()
    with (path / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", "label", "prediction", "probability"])
        for index, (label, hit) in enumerate(zip(labels, right, strict=True)):
            writer.writerow([index, label, label if hit else (label + 1) % 10, 0.5])
    return run


def some_right(number: int, first: int = 0) -> np.ndarray:
    """Return bool (30,): ``number`` images from ``first`` on are classified correctly."""
    right = np.zeros(TOTAL, bool)
    right[first : first + number] = True
    return right
