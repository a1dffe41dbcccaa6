"""Completed runs without a training: in folders, or in memory alone. Their predictions are chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqmnist_tf import config as cfg
from seqmnist_tf.compare import Comparison, CompletedRun, SeededRuns, pair_runs
from seqmnist_tf.config import Config
from seqmnist_tf.data import pixel_order
from seqmnist_tf.train import Predictions, RunDirectory
from tests.toy import configure, toy_mnist, write_logs

TOTAL = 30  # toy test images
ENVIRONMENT = {"kernel": "keras", "machine": {"processor": "toy"}, "git": {"commit": "c0ffee"}}


def some_right(number: int, first: int = 0) -> np.ndarray:
    """Return bool (30,): ``number`` images from ``first`` on are classified correctly."""
    right = np.zeros(TOTAL, bool)
    right[first : first + number] = True
    return right


def completed_run(path: Path, seed: int, right: Sequence[bool] | np.ndarray, **values: Any) -> RunDirectory:
    """Make a completed run, by default of two epochs, whose final model classifies so many toy test images correctly.

    ``section__key`` in ``values`` sets a key of the configuration.
    """
    config = _config(seed, values)
    run = RunDirectory.create(path, config, ENVIRONMENT, pixel_order(config.task.permutation))
    correct, epochs = int(np.sum(right)), config.train.n_epochs
    write_logs(run, [correct * epoch // epochs / TOTAL for epoch in range(1, epochs + 1)])
    if (run.summary or {})["num_params"] is None:  # of a layer of its own, which only the model knows
        run.write_json("summary.json", {**(run.summary or {}), "num_params": 154})
    (path / "predictions.csv").write_bytes(_predictions(right).to_csv())
    return run


def make_arm(folder: Path, correct: Mapping[int, int], **values: Any) -> None:
    """Make a folder of completed runs, whose names do not follow their seeds."""
    for seed, number in correct.items():
        completed_run(folder / f"run-{(7 * seed) % 23}", seed, some_right(number), **values)


def seeded(
    name: str,
    correct: Mapping[int, int],
    *,
    first: int = 0,
    total: int = TOTAL,
    skipped: Mapping[int, Iterable[int]] = {},
    **values: Any,
) -> SeededRuns:
    """Return the runs of an arm by their seeds, without any file.

    Of each seed, so many test images are ``correct``, from the image ``first`` on, and steps are ``skipped``.
    """
    runs = []
    for seed, number in correct.items():
        final = {"test_correct": number, "test_total": total}
        history = [{"epoch": epoch, "test_accuracy": number * epoch // 2 / total, "seconds": 3.0} for epoch in (1, 2)]
        summary: dict[str, Any] = {"num_params": 146, "final": final}
        config = _config(seed, values)
        runs.append(CompletedRun(RunDirectory(Path(name)), config, ENVIRONMENT, summary, history))
        vars(runs[-1]).update(
            config_id=cfg.config_id(config), skipped_steps=[*skipped.get(seed, ())], gradient_norms=[]
        )
    predictions = [_predictions(some_right(number, first)) for number in correct.values()] if total == TOTAL else ()
    return SeededRuns(name, runs, predictions)


def compared(*arms: SeededRuns) -> Comparison:
    """Return the comparison of arms, without its report."""
    return Comparison(arms, pair_runs(arms), Path("out"))


def _config(seed: int, values: Mapping[str, Any]) -> Config:
    keys = {"train__seed": seed, "task__limit_test": TOTAL, "train__n_epochs": 2, "model__hidden_size": 4}
    return configure(**{**keys, **values})


def _predictions(right: Sequence[bool] | np.ndarray) -> Predictions:
    labels = toy_mnist()["test"].labels[:TOTAL].astype(np.int64)
    return Predictions(labels, np.where(right, labels, (labels + 1) % 10), np.full(TOTAL, 0.5))
