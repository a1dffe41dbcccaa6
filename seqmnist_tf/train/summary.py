"""The content of ``summary.json``."""

from __future__ import annotations

import functools
import operator
from typing import Any

from ..config import Config, config_id, num_params

ESCAPED = 0.5  # the accuracy above which a run has left the plateau


def summarize(
    history: list[dict[str, Any]],
    config: Config,
    status: str,
    *,
    parameters: int | None = None,
    final: dict[str, Any] | None = None,
    reason: str | None = None,
    experiment: str | None = None,
) -> dict[str, Any]:
    """Return the content of ``summary.json``.

    ``final`` of the result is the last epoch of a completed run, else null. ``best`` is the epoch with the highest
    validation accuracy (the lowest loss among equal ones), null where nothing is held out. ``escape_epoch`` is the
    first epoch whose accuracy on the test set (without it: on the validation split) exceeds 0.5.

    Args:
        history: the rows of ``history.jsonl``.
        config: the run's configuration.
        status: completed, diverged, interrupted, stopped or failed.
        parameters: number of parameters of the model; None computes it, for a stock layer.
        final: test results of the reloaded model, in place of the last row's.
        reason: why the run was stopped.
        experiment: the ``config_id``, where it was computed before.
    """
    # Not sum(), which from Python 3.12 on rounds otherwise: a record's summary is compared with this one to the digit.
    seconds = functools.reduce(operator.add, (row["seconds"] for row in history), 0)
    watched = "test_accuracy" if config.test.enabled else "val_accuracy"
    results = [_result(row, config) for row in history]
    best = None
    if config.task.validation_size:
        best = max(results, key=lambda result: (result["val_accuracy"], -result["val_loss"]), default=None)
    return {
        "status": status,
        **({"reason": reason} if reason else {}),
        "config_id": experiment or config_id(config),
        "seed": config.train.seed,
        "num_params": num_params(config) if parameters is None else parameters,
        "epochs": len(history),
        "seconds_total": round(seconds, 3),
        "seconds_per_epoch": round(seconds / len(history), 3) if history else None,
        "escape_epoch": next((row["epoch"] for row in history if row.get(watched, 0) > ESCAPED), None),
        "final": {**results[-1], **(final or {})} if status == "completed" else None,
        "best": best,
    }


def _result(row: dict[str, Any], config: Config) -> dict[str, Any]:
    """Return an epoch's result in the form of ``final`` and ``best``."""
    total = config.num_test if config.test.enabled else None
    result = {
        "epoch": row["epoch"],
        "test_loss": row["test_loss"],
        "test_accuracy": row["test_accuracy"],
        "test_correct": None if total is None else round(row["test_accuracy"] * total),
        "test_total": total,
    }
    return result | {key: row[key] for key in ("val_loss", "val_accuracy") if key in row}
