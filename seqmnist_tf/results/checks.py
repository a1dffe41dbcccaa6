"""Checks of records: ``model.keras`` gives their results, and the seed of a search its values."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..config import Config, LayerFile, Task, is_trial, with_values
from ..data import Split, Splits, load_splits, load_test, pixel_order
from ..model import choose_kernel, make_trainable
from ..train import (
    MAX_FLIPS,
    PREDICTIONS_FILE,
    Metrics,
    Predictions,
    RunDirectory,
    evaluate_model,
    evaluate_run,
    load_final_model,
    losses_agree,
)
from ..tune import drawn_values
from .contents import CONTENTS_FILE, Contents
from .records import RESULTS_FOLDER, Record, Search

LOSS_TOLERANCE = 1e-5  # relative: another machine adds the float32 losses in another order
PROBABILITY_TOLERANCE = 1e-4  # absolute: rounding of 784 steps, which another machine does in another order
MAX_OTHER_CLASSES = 0.01  # share of images whose two highest logits are so near that another machine swaps them
CLONE = Path(__file__).parents[2]  # a wheel has none, and neither examples/ nor results/
FIRST_IMAGES = 100  # these alone tell a model from any other: each has a probability of six digits


def is_example(layer: LayerFile | None) -> bool:
    """Return whether a layer's code is, or was, a file of this project's ``examples/``, which may run."""
    if layer is None or not (CLONE / RESULTS_FOLDER / CONTENTS_FILE).is_file():
        return False
    former = Contents.read(CLONE / RESULTS_FOLDER).former_layers
    examples = [path.read_bytes() for path in (CLONE / "examples").glob("*.py")]
    return layer.content in examples or hashlib.sha256(layer.content).hexdigest() in former


def recount_first(records: Iterable[Record], *, allow_code: bool = False) -> list[str]:
    """Run the model of each record on its first test images; return where it contradicts ``predictions.csv``."""
    problems: list[str] = []
    # Models of one architecture share a graph, into which weights are read: building it takes longer than the images.
    models: dict[tuple[str, int, str, bytes], keras.Model] = {}
    for record in records:
        run, config = record.directory, record.config
        layer = run.layer_file.content if run.layer_file else b""
        key = config.model.layer, config.model.hidden_size, str(config.model.layer_options), layer
        if key in models:
            models[key].load_weights(run.require_model())
        else:
            models[key] = load_final_model(run, allow_code=allow_code or is_example(run.layer_file))
        split, part = _test_split(config.task), slice(FIRST_IMAGES)
        first = Split(split.images[part], split.sequences[part], split.labels[part])
        metrics = evaluate_model(models[key], first, FIRST_IMAGES)
        problems += [f"{run.path}: {problem}" for problem in _table_problems(run, split.labels, metrics)]
    return problems


def recount(run: RunDirectory, *, allow_code: bool = False, flips: int = 0) -> list[str]:
    """Run ``model.keras`` of a run or record on all test images, of a trial on all held-out ones.

    Return where it contradicts ``summary.json`` and ``predictions.csv``; the number of correct digits may be off by
    ``flips``.
    """
    final = (run.summary or {})["final"]
    if is_trial(run.config):
        model = load_final_model(run, allow_code=allow_code)
        return score_problems(run, model, final["val_accuracy"], final["val_loss"])
    split, metrics = evaluate_run(run, allow_code=allow_code, show_progress=True)
    problems = _table_problems(run, split.labels, metrics)
    same_loss = math.isclose(metrics.loss, final["test_loss"], rel_tol=LOSS_TOLERANCE)
    if abs(metrics.correct - final["test_correct"]) > flips or not same_loss:
        problems.insert(
            0,
            f"model.keras classifies {metrics.correct:,} (loss {metrics.loss:.6f}) correctly "
            f"(summary.json: {final['test_correct']:,}, {final['test_loss']})",
        )
    return problems


def score_problems(run: RunDirectory, model: keras.Model, score: float, loss: float | None = None) -> list[str]:
    """Problems of a model whose accuracy (0 to 1) or loss on a run's held-out images is not the recorded one.

    The kernel of this machine computes it; images between two classes may differ.
    """
    # Where there is no native kernel, a run on it is scored on stock Keras.
    config = with_values(run.config, {"train.kernel": "keras" if run.config.train.kernel == "keras" else "auto"})
    trained = make_trainable(model, config, choose_kernel(config, model))
    split = training_splits(config.task).validation
    metrics = evaluate_model(trained, split, config.test.batch_size)  # type: ignore[arg-type]  # of a trial, not None
    correct = round(score * metrics.total)
    same_loss = loss is None or losses_agree(metrics.loss, loss)
    if abs(metrics.correct - correct) <= MAX_FLIPS and same_loss:
        return []
    return [
        f"its model classifies {metrics.correct:,} of {metrics.total:,} held-out digits correctly, with loss "
        f"{metrics.loss:.6f} (recorded: {correct:,}{'' if loss is None else f' and {loss:.6f}'})"
    ]


def drawn_problems(search: Search) -> list[str]:
    """Problems of a random search whose trials do not have the values that its seed gives."""
    drawn = drawn_values(search.settings, len(search.trials))
    recorded = [_rounded(row["values"]) for row in search.trials]
    if drawn is None or [_rounded(values) for values in drawn] == recorded:
        return []
    return [f"{search.path}: its trials do not have the values that its seed gives"]


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with nine digits: another machine may round a logarithm otherwise."""
    return {key: f"{value:.9g}" if isinstance(value, float) else value for key, value in values.items()}


@functools.lru_cache(maxsize=1)
def _test_split(task: Task) -> Split:
    """Return the test split of a task; records of one task follow each other."""
    return load_test(Config(task=task), pixel_order(task.permutation))


@functools.lru_cache(maxsize=1)
def training_splits(task: Task) -> Splits:
    """Return the training and the held-out images of a task; the test set is not read, and ``test`` is None."""
    return load_splits(with_values(Config(task=task), {"test.enabled": False}), pixel_order(task.permutation))


def _table_problems(run: RunDirectory, labels: np.ndarray, metrics: Metrics) -> list[str]:
    """Problems of a ``predictions.csv`` with other labels, or in its first rows other predictions than the model."""
    table, n = Predictions.from_csv(run.path / PREDICTIONS_FILE, run.config.num_test), metrics.total
    differs = np.abs(table.probabilities[:n] - metrics.probabilities) > PROBABILITY_TOLERANCE
    other_class = table.classes[:n] != metrics.predictions
    if other_class.sum() > MAX_OTHER_CLASSES * n:
        differs |= other_class
    if differs.any() or not np.array_equal(table.labels, labels):
        return [f"{PREDICTIONS_FILE} is not what model.keras gives for {differs.sum():,} of {n:,} test images"]
    return []
