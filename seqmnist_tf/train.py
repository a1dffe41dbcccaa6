"""Train an LSTM: a configuration goes in, a run directory comes out.

python -m seqmnist_tf.train [PRESET] [--config FILE] [--SECTION.KEY VALUE ...] [--run-dir DIR] [--resume]
"""

from __future__ import annotations

import contextlib
import datetime
import shlex
import signal
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import cli, data, runtime
from . import config as cfg
from .config import Config
from .errors import InputError, RunError, first_line
from .run_dir import RunDirectory, replace_atomically

if TYPE_CHECKING:
    import keras

    from .callbacks import Interruption
    from .evaluate import Metrics
    from .model import Kernel
    from .tracking import Tracker

ESCAPED = 0.5  # the accuracy above which a run has left the plateau
EXIT_STATUS = {"completed": cli.EXIT_DONE, "interrupted": cli.EXIT_INTERRUPTED}


GiveUp = Callable[[list[dict[str, Any]]], bool]


def train(
    config: Config, path: Path, *, preset: str | None = None, command: str = "", give_up: GiveUp | None = None
) -> dict[str, Any]:
    """Train a configuration and return the summary of its run.

    Args:
        config: the experiment.
        path: the run directory to make.
        preset: the name of the preset that the configuration started from, for the record.
        command: the command line, for the record.
        give_up: asked after each epoch with the history so far; where it says True the run ends as ``interrupted``.

    Returns:
        The content of ``summary.json``. Its ``status`` is ``completed``, ``diverged`` or ``interrupted``.

    Raises:
        InputError: the configuration is not admissible, or ``path`` exists.
        RunError: no data, a full disk, no memory; status ``failed`` where the run had begun.
    """
    config = cfg.validate(config)
    order = data.pixel_order(config.task.permutation)
    RunDirectory.refuse_existing(path)
    kernel = _start(config)
    from . import environment
    from .model import build_model

    model = build_model(config)
    splits = data.load_splits(config, order)
    record = environment.describe(command, config.train.threads, kernel.name)
    record.update(preset=preset, config_id=cfg.config_id(config), wandb_run_id=uuid.uuid4().hex[:8], resumed=[])
    run = RunDirectory.create(path, config, record, order)
    with run.lock():
        return _fit(run, config, model, splits, kernel, give_up)


def resume(path: Path, *, command: str = "", give_up: GiveUp | None = None) -> dict[str, Any]:
    """Go on with a run that was killed or interrupted and return its summary.

    Weights, optimizer state and history become those of a run that was never stopped, bit for bit on one machine. A run
    that is completed is left as it is.

    Raises:
        InputError: there is no run at ``path``, or another process trains it.
        RunError: as :func:`train`, or the checkpoint cannot be read.
    """
    run = RunDirectory.open(path)
    with run.lock():
        summary = run.summary
        if summary and summary["status"] == "completed":
            return summary
        config, order = run.config, run.pixel_order()
        kernel = _start(config)
        from . import environment
        from .model import build_model

        first = run.environment
        now = environment.describe(command, config.train.threads, kernel.name)
        for key in ("threads", "kernel", "device", "onednn", "versions"):
            if now[key] != first.get(key):
                _warn(f"{key} was {first.get(key)} and is {now[key]}: the last digits may differ from one whole run's")
        run.write_json("environment.json", {**first, "resumed": [*first["resumed"], now]})
        return _fit(run, config, build_model(config), data.load_splits(config, order), kernel, give_up)


def _start(config: Config) -> Kernel:
    """Start TensorFlow for a configuration, say what computes the LSTM, and return it."""
    runtime.import_tensorflow()
    from . import model

    kernel = model.start(config)
    if kernel.isa:
        _say(f"LSTM on the native kernel ({kernel.isa})")
    elif kernel.reason:
        _say(f"LSTM on stock Keras, which takes several times as long: {kernel.reason}")
    return kernel


def _fit(
    run: RunDirectory,
    config: Config,
    model: keras.Sequential,
    splits: data.Splits,
    kernel: Kernel,
    give_up: GiveUp | None,
) -> dict[str, Any]:
    """Train from the last checkpoint on, if there is one, to the end; write the summary and return it."""
    import tensorflow as tf

    from .callbacks import Checkpoint, DivergedError, GivingUp, Interruption, Progress, Recorder
    from .model import MeasuredSequential, compile_model
    from .tracking import Tracker

    trained = MeasuredSequential.of(model, kernel, config.train.threads)
    trained.recurrent_noise, trained.noise_seed = config.train.recurrent_noise, config.train.seed
    compile_model(trained, config)
    steps = _restore(run, trained)
    first_epoch = steps // config.steps_per_epoch
    run.truncate(first_epoch, steps)
    environment = run.environment
    config_id = environment["config_id"]
    tracker = Tracker(config, config_id, run.path, environment["wandb_run_id"], steps)
    interruption = Interruption()
    recorder, progress = Recorder(run, config, splits, interruption), Progress(config, _say)
    status, final = "failed", None
    try:
        with interruption:
            trained.fit(
                data.batches(splits.train, config, first_epoch),
                epochs=config.train.n_epochs,
                initial_epoch=first_epoch,
                steps_per_epoch=config.steps_per_epoch,
                callbacks=[
                    recorder,
                    *tracker.callbacks(splits.train),
                    Checkpoint(run, model),
                    progress,
                    *([GivingUp(run, give_up)] if give_up else []),
                    interruption,
                ],
                shuffle=False,  # the batches come in their order
                verbose=0,
            )
            final = _finish_model(run, config, model, splits, tracker, interruption)
        status = "completed"
    except DivergedError as error:
        status = "diverged"
        _warn(f"{error}: the run has diverged and is stopped; everything up to here is kept")
    except KeyboardInterrupt:
        status = "interrupted"
    except (OSError, MemoryError, tf.errors.ResourceExhaustedError) as error:
        hint = f"the last checkpoint is intact, --run-dir {run.path} --resume goes on from it"
        raise RunError(f"cannot go on with {run.path}: {first_line(error)} ({hint})") from error
    finally:
        recorder.close()
        progress.close()
        summary = summarize(run.history(), config, config_id, model.count_params(), status, final)
        with contextlib.suppress(OSError) if status == "failed" else contextlib.nullcontext():
            run.write_json("summary.json", summary)
        tracker.finish(summary)
    return summary


def _restore(run: RunDirectory, trained: keras.Model) -> int:
    """Load weights and optimizer state of the last checkpoint; return the optimizer steps that it is after, or 0."""
    if not run.resume_file.exists():
        return 0
    trained.optimizer.build(trained.trainable_variables)
    try:
        trained.load_weights(run.resume_file)
    except Exception as error:
        raise RunError(
            f"cannot read checkpoint {run.resume_file}: {first_line(error)} (remove it to start over)"
        ) from error
    return int(trained.optimizer.iterations)


def _finish_model(
    run: RunDirectory,
    config: Config,
    model: keras.Sequential,
    splits: data.Splits,
    tracker: Tracker,
    interruption: Interruption,
) -> Metrics | None:
    """Write ``model.keras`` and return the test metrics of what is read back from it; None without a test set."""
    from .evaluate import evaluate_model

    replace_atomically(run.path / "model.keras", model.save)
    tracker.log_model(run.path / "model.keras")
    if splits.test is None:
        return None
    metrics = evaluate_model(run.load_model(), splits.test, config.test.batch_size, [interruption])
    tracker.log_predictions(splits.test, metrics.predictions)
    return metrics


def summarize(
    history: list[dict[str, Any]], config: Config, config_id: str, num_params: int, status: str, final: Metrics | None
) -> dict[str, Any]:
    """Return the content of ``summary.json``.

    ``final`` is the last epoch of a completed run, else null. ``best`` is the epoch with the highest validation
    accuracy (of equal ones that with the lowest loss), null where nothing is held out. ``escape_epoch`` is the first
    epoch whose accuracy on the test set (without it: on the validation split) exceeds 0.5.
    """
    seconds = [row["seconds"] for row in history]
    watched = "test_accuracy" if config.test.enabled else "val_accuracy"
    results = [_result(row, config) for row in history]
    last = None
    if status == "completed":
        last = dict(results[-1])
        if final is not None:
            last.update(
                test_loss=final.loss,
                test_accuracy=final.accuracy,
                test_correct=final.correct,
                test_total=final.total,
            )
    best = None
    if config.task.validation_size:
        best = max(results, key=lambda result: (result["val_accuracy"], -result["val_loss"]), default=None)
    return {
        "status": status,
        "config_id": config_id,
        "seed": config.train.seed,
        "num_params": num_params,
        "epochs": len(history),
        "seconds_total": round(sum(seconds), 3),
        "seconds_per_epoch": round(sum(seconds) / len(seconds), 3) if seconds else None,
        "escape_epoch": next((row["epoch"] for row in history if row.get(watched, 0) > ESCAPED), None),
        "final": last,
        "best": best,
    }


def _result(row: dict[str, Any], config: Config) -> dict[str, Any]:
    """Return an epoch's result as ``final`` and ``best`` give it."""
    total = config.num_test if config.test.enabled else None
    result = {
        "epoch": row["epoch"],
        "test_loss": row["test_loss"],
        "test_accuracy": row["test_accuracy"],
        "test_correct": None if total is None else round(row["test_accuracy"] * total),
        "test_total": total,
    }
    return result | {key: row[key] for key in ("val_loss", "val_accuracy") if key in row}


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = cli.Parser(prog="python -m seqmnist_tf.train", description="Train an LSTM on sequential MNIST.")
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="the run directory (default: runs/<preset>-<seed>-<timestamp>)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --run-dir")
    cli.add_config_arguments(parser)
    args = cli.parse(parser, argv)
    path = args.options.run_dir
    if args.options.resume:
        run = RunDirectory.open(_require_run_dir(path))
        _require_same(run, args)
        config = run.config
    else:
        config = args.config
    if args.options.print_config:
        data.pixel_order(config.task.permutation)
        print(cfg.to_json(config))
        return cli.EXIT_DONE
    _interrupt_on_terminate()
    command = shlex.join(["python", "-m", "seqmnist_tf.train", *argv])
    if args.options.resume:
        summary = resume(path, command=command)
    else:
        preset = args.preset or "baseline"
        path = path or _default_run_dir(preset, config.train.seed)
        summary = train(config, path, preset=preset, command=command)
    _report(summary, path)
    return EXIT_STATUS.get(summary["status"], cli.EXIT_FAILED)


def _require_run_dir(path: Path | None) -> Path:
    if path is None:
        raise InputError("--resume needs --run-dir with the directory of the run to go on with (got none)")
    return path


def _require_same(run: RunDirectory, args: cli.Arguments) -> None:
    """Raise InputError where the command line asks for another run than that of the directory."""
    was = cfg.flatten(run.config)
    for key, value in args.given.items():
        if value != was[key]:
            raise InputError(f"{key} is {was[key]} in the run at {run.path} and cannot be changed (got {value})")
    preset = run.environment.get("preset")
    if args.preset and args.preset != preset:
        raise InputError(f"the run at {run.path} is of preset {preset} (got {args.preset!r})")


def _default_run_dir(preset: str, seed: int) -> Path:
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path = Path("runs") / f"{preset}-{seed}-{stamp}"
    number = 2
    while path.exists():
        path = path.with_name(f"{preset}-{seed}-{stamp}-{number}")
        number += 1
    return path


def _interrupt_on_terminate() -> None:
    """Let SIGTERM end a run as Ctrl-C does."""

    def interrupt(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _report(summary: dict[str, Any], path: Path) -> None:
    final = summary["final"]
    _say(f"run {path} ({summary['status']}, {summary['epochs']} epochs, {summary['seconds_total']:.0f} s)")
    if summary["status"] == "interrupted":
        _say(f"go on with it: python -m seqmnist_tf.train --run-dir {shlex.quote(str(path))} --resume")
        return
    if final and final["test_total"]:
        _say(
            f"test accuracy {final['test_accuracy']:.2%} ({final['test_correct']:,} of {final['test_total']:,}), "
            f"test loss {final['test_loss']:.4f}"
        )
        _say(f"look closer:   python -m seqmnist_tf.evaluate {shlex.quote(str(path))}")
    _say("all options:   python -m seqmnist_tf.train --help")


def _say(text: str) -> None:
    print(text, flush=True)


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.run(main)
