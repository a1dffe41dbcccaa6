"""Evaluate a finished run: exact test metrics, Wilson interval, confusion matrix.

python -m seqmnist_tf.evaluate RUN_DIR [--json]

In Python, ``seqmnist_tf.evaluate("runs/mine")`` returns the metrics.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import system
from .train import PREDICTIONS_FILE, load_run

if TYPE_CHECKING:
    from .train import Metrics


def evaluate(path: str | os.PathLike[str], data_dir: str | None = None, *, allow_code: bool = False) -> Metrics:
    """Return the test metrics of a finished run: ``model.keras``, loaded on stock Keras, on the test images.

    In a run directory, ``overview.png`` is drawn anew, and ``predictions.csv`` is written if it is missing,
    unless a training has the run or the folder cannot be written.

    Args:
        path: a run directory, or a published record such as ``results/strong/seed0``.
        data_dir: folder of the data; None is tensorflow-datasets' own. The run's ``data.dir`` is ignored.
        allow_code: run the code of the run's custom layer, if it has one. Read it first.

    Raises:
        InputError: there is no run, it has no model, or the model cannot be read or is not its configuration's.
        RunError: no source of MNIST could be reached.

    Example::

        print(evaluate("results/strong/seed0").accuracy)
    """
    run = load_run(path)
    run.require_model()
    system.start_tensorflow(run.config.train.threads)
    from .train import evaluate_run, write_overview, write_predictions  # late: a missing run is reported at once

    split, metrics = evaluate_run(run, data_dir, allow_code=allow_code, show_progress=True)
    if (run.path / "checkpoints").is_dir():  # a published record has none, and is left unchanged
        try:
            with run.lock():
                if not (run.path / PREDICTIONS_FILE).exists():  # else it belongs to the counts in summary.json
                    write_predictions(run, split, metrics)
                write_overview(run, split, metrics)
        except (OSError, system.InputError) as error:  # nobody can write there, or a training has the run
            system.warn(f"overview.png of {run.path} is not written: {system.first_line(error)}")
    return metrics


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = system.Parser(prog="python -m seqmnist_tf.evaluate", description="Test metrics of a finished run.")
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a run directory of seqmnist_tf.train")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder of the data (default: tensorflow-datasets' own; the run's is ignored)"
    )
    parser.add_argument("--allow-code", action="store_true", help="run the code of the run's custom layer (layer.py)")
    args = parser.parse_args(argv)
    with contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext():  # the layer may print
        metrics = evaluate(args.run_dir, args.data_dir, allow_code=args.allow_code)
    if args.json:
        system.say_json(metrics.to_json())
    else:
        system.say(metrics.to_text())
    return system.EXIT_DONE


if __name__ == "__main__":
    system.run_command(main)
