"""Exact metrics of a model on a split: counts, loss, confusion.

python -m seqmnist_tf.evaluate RUN_DIR [--json]
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from . import cli, data, runtime
from .config import NUM_CLASSES
from .run_dir import RunDirectory

if TYPE_CHECKING:
    import keras

AT_CHANCE = 0.2  # accuracy below it: ten digits are guessed right with 0.1, and the plateau wanders a little above


@dataclass(frozen=True)
class Metrics:
    """Metrics over a whole split.

    Attributes:
        loss: mean cross-entropy in nats.
        correct: number of examples whose largest logit is their label's.
        total: number of examples.
        predictions: the class of the largest logit, int64 (n,).
        confusion: int64 (10, 10), examples by label (row) and prediction (column).
    """

    loss: float
    correct: int
    total: int
    predictions: np.ndarray
    confusion: np.ndarray

    @property
    def accuracy(self) -> float:
        """correct / total."""
        return self.correct / self.total

    @property
    def per_class_accuracy(self) -> list[float | None]:
        """The share of each digit's examples that are right; None for a digit without examples."""
        totals = self.confusion.sum(axis=1)
        return [
            float(hits / total) if total else None
            for hits, total in zip(self.confusion.diagonal(), totals, strict=True)
        ]


def evaluate_model(
    model: keras.Model, split: data.Split, batch_size: int, callbacks: Sequence[keras.callbacks.Callback] = ()
) -> Metrics:
    """Return the metrics of a model that gives logits, over every example of a split.

    The callbacks are those of ``predict``. The logits are the model's float32; the mean of their cross-entropy is taken
    in float64.
    """
    logits = model.predict(data.in_batches(split.sequences, batch_size), verbose=0, callbacks=list(callbacks))
    return score(logits, split.labels)


def score(logits: np.ndarray, labels: np.ndarray) -> Metrics:
    """Return the metrics of logits float (n, 10) against labels int (n,)."""
    logits = logits.astype(np.float64)
    top = logits.max(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        log_partition = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        losses = log_partition - logits[np.arange(len(labels)), labels]
    predictions = logits.argmax(axis=1)
    confusion = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    return Metrics(float(losses.mean()), int(confusion.trace()), len(labels), predictions, confusion)


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion (Wilson 1927).

    Args:
        correct: 0 to ``total``.
        total: at least 1.
        confidence: probability that the interval covers the proportion, between 0 and 1.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = correct / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)


def evaluate_run(run: RunDirectory) -> Metrics:
    """Return the test metrics of a finished run: its ``model.keras`` on stock Keras.

    Raises:
        InputError: the run has no model, or one that cannot be read.
    """
    config = run.config
    model = run.load_model()
    return evaluate_model(model, data.load_test(config, run.pixel_order()), config.test.batch_size)


def to_json(metrics: Metrics) -> dict[str, Any]:
    """Return test metrics as the contract names them, ready for JSON."""
    return {
        "test_correct": metrics.correct,
        "test_total": metrics.total,
        "test_accuracy": metrics.accuracy,
        "test_loss": metrics.loss,
        "wilson_95": list(wilson_interval(metrics.correct, metrics.total)),
        "per_class_accuracy": metrics.per_class_accuracy,
        "confusion": metrics.confusion.tolist(),
    }


def to_table(metrics: Metrics) -> str:
    """Return test metrics as text for people."""
    low, high = wilson_interval(metrics.correct, metrics.total)
    lines = [
        f"test accuracy  {metrics.accuracy:.2%} ({metrics.correct:,} of {metrics.total:,}; 95 % Wilson interval "
        f"{low:.2%} to {high:.2%})",
        f"test loss      {metrics.loss:.5f}",
        "",
        "digit  accuracy   read as " + "".join(f"{digit:6d}" for digit in range(NUM_CLASSES)),
    ]
    for digit, (accuracy, row) in enumerate(zip(metrics.per_class_accuracy, metrics.confusion, strict=True)):
        share = "       -" if accuracy is None else f"{accuracy:8.2%}"
        lines.append(f"{digit:5d}  {share}           " + "".join(f"{count:6d}" for count in row))
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = cli.Parser(prog="python -m seqmnist_tf.evaluate", description="Test metrics of a finished run.")
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a run directory of seqmnist_tf.train")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args(argv)
    run = RunDirectory.open(args.run_dir)
    run.require_model()
    runtime.start_tensorflow(run.config.train.threads)
    metrics = evaluate_run(run)
    print(json.dumps(to_json(metrics)) if args.json else to_table(metrics))
    return cli.EXIT_DONE


if __name__ == "__main__":
    cli.run(main)
