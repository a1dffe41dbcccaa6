"""Exact metrics of a model on a split: counts, loss, confusion matrix; and the metrics of a finished run."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tqdm

from ..config import NUM_CLASSES, Data
from ..data import Split, in_batches, load_test
from ..model import build_model
from ..system import InputError, note, reading
from .run_directory import RunDirectory
from .terminal import bar_settings


@dataclass(frozen=True)
class Metrics:
    """Metrics over a whole split.

    Attributes:
        loss: mean cross-entropy in nats.
        correct, total: numbers of examples: whose largest logit is their label's, and all.
        predictions: the class of the largest logit, int64 (n,).
        probabilities: the softmax of that logit, float64 (n,), 0 to 1.
        confusion: int64 (10, 10), examples by label (row) and prediction (column).
    """

    loss: float
    correct: int
    total: int
    predictions: np.ndarray
    probabilities: np.ndarray
    confusion: np.ndarray

    @property
    def accuracy(self) -> float:
        """correct / total."""
        return self.correct / self.total

    @property
    def per_class_accuracy(self) -> list[float | None]:
        """The share of each digit's examples that are classified correctly; None for a digit without examples."""
        totals = self.confusion.sum(axis=1)
        return [
            float(hits / total) if total else None
            for hits, total in zip(self.confusion.diagonal(), totals, strict=True)
        ]

    @property
    def summary_values(self) -> dict[str, Any]:
        """Loss, accuracy, correct and total of a test set, as in ``summary.json``."""
        return {
            "test_loss": self.loss,
            "test_accuracy": self.accuracy,
            "test_correct": self.correct,
            "test_total": self.total,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the test metrics, ready for JSON."""
        return self.summary_values | {
            "wilson_95": list(wilson_interval(self.correct, self.total)),
            "per_class_accuracy": self.per_class_accuracy,
            "confusion": self.confusion.tolist(),
        }

    def to_text(self) -> str:
        """Return the test metrics as a table for the terminal."""
        low, high = wilson_interval(self.correct, self.total)
        lines = [
            f"test accuracy  {self.accuracy:.2%} ({self.correct:,} of {self.total:,}; 95 % Wilson interval "
            f"{low:.2%} to {high:.2%})",
            f"test loss      {self.loss:.5f}",
            "",
            "digit  accuracy  predicted " + "".join(f"{digit:6d}" for digit in range(NUM_CLASSES)),
        ]
        for digit, (accuracy, row) in enumerate(zip(self.per_class_accuracy, self.confusion, strict=True)):
            share = "       -" if accuracy is None else f"{accuracy:8.2%}"
            lines.append(f"{digit:5d}  {share}           " + "".join(f"{count:6d}" for count in row))
        return "\n".join(lines)


def evaluate_model(
    model: keras.Model,
    split: Split,
    batch_size: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    description: str | None = None,
) -> Metrics:
    """Return the metrics of a model, sequences float32 (n, 784, 1) to logits float32 (n, 10), over a whole split.

    ``callbacks`` are for ``predict``; ``description`` says on the terminal what is evaluated, above a bar.
    """
    if description:
        note(description)
    with tqdm.tqdm(
        total=math.ceil(len(split) / batch_size),
        disable=not description,
        leave=False,
        **bar_settings(),
        bar_format="{percentage:3.0f}% |{bar}| [{remaining} left]",
    ) as bar:
        step = keras.callbacks.LambdaCallback(on_predict_batch_end=lambda batch, logs: bar.update())
        logits = model.predict(in_batches(split.sequences, batch_size), verbose=0, callbacks=[*callbacks, step])
    return score(logits, split.labels)


def score(logits: np.ndarray, labels: np.ndarray) -> Metrics:
    """Return the metrics of logits z, float (n, 10), for labels y, int (n,), with n at least 1.

    The loss is the mean of log(sum_k exp(z_k)) - z_y, in nats, computed in float64.
    """
    logits = logits.astype(np.float64)
    top = logits.max(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        log_partition = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        losses = log_partition - logits[np.arange(len(labels)), labels]
    predictions = logits.argmax(axis=1)
    confusion = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    probabilities = np.exp(top - log_partition)
    return Metrics(float(losses.mean()), int(confusion.trace()), len(labels), predictions, probabilities, confusion)


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson 1927), both ends 0 to 1; ``total`` is at least 1.

    Example:
        >>> wilson_interval(9_909, 10_000)
        (0.988..., 0.992...)
    """
    from scipy.stats import binomtest  # late: it takes a second, which a training does not need

    interval = binomtest(correct, total).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def evaluate_run(
    run: RunDirectory, data_dir: str | None = None, *, allow_code: bool = False, show_progress: bool = False
) -> tuple[Split, Metrics]:
    """Return the test split of a finished run and the metrics of its ``model.keras``, loaded on stock Keras, on it.

    The run may be from another machine: its ``data.source`` and ``data.dir`` are ignored. Errors as
    :func:`load_final_model`.
    """
    model = load_final_model(run, allow_code=allow_code)
    config = replace(run.config, data=Data(dir=data_dir))
    split = load_test(config, run.pixel_order())
    description = f"evaluating on stock Keras: {len(split):,} test images" if show_progress else None
    return split, evaluate_model(model, split, config.test.batch_size, description=description)


def load_final_model(run: RunDirectory, *, allow_code: bool = False) -> keras.Sequential:
    """Return the model of a run's configuration, with the weights of its ``model.keras``.

    The run may be untrusted: only with ``allow_code`` is the code of its layer run, of ``layer.py`` or of the module
    that ``model.layer`` names. InputError is raised where there is no model, or it cannot be read, is not its
    configuration's, or has a weight that is not a finite number.
    """
    path = run.require_model()
    run.require_code_allowed(allow_code)
    states = random.getstate(), np.random.get_state()  # the caller's, which build_model seeds
    try:
        model = build_model(run.config, run.layer_file)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    with reading(path):
        model.load_weights(path)
    if problem := weight_problem(model):
        raise InputError(f"{path} has no results: {problem} (its run has diverged)")
    return model


def weight_problem(model: keras.Model) -> str | None:
    """Return which trainable weights are not all finite numbers, as a sentence; None where all are."""
    for weight in model.trainable_weights:  # others may be masks with infinite values
        if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
            return f"the weights {weight.path} are not all finite"
    return None
