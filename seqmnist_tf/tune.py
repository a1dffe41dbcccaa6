"""Search for hyperparameters with KerasTuner, in one process or in many; the result is a configuration.

python -m seqmnist_tf.tune [PRESET] --tuner {random,bayesian,hyperband} --max-trials N --dir DIR [--epochs E]
    [--workers N] [--space FILE] [--role {chief,worker} --oracle HOST:PORT] [--SECTION.KEY VALUE ...]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import re
import shlex
import socket
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from . import cli, runtime, search
from . import config as cfg
from . import space as sp
from .config import Config
from .errors import InputError, RunError, first_line
from .run_dir import write_atomically
from .search import Search
from .trials import POLL_SECONDS, Progress, run_trial
from .workers import PARENT, end_with_parent, set_role, supervise, without_workers

if TYPE_CHECKING:
    import keras_tuner

VALIDATION_SIZE = 10_000  # of a search whose configuration holds nothing out
REPEATS = 3  # seeds with which the best trial is repeated
TUNERS = ("random", "bayesian", "hyperband")


def declare(space: Sequence[sp.Dimension]) -> keras_tuner.HyperParameters:
    """Return a search space as KerasTuner's hyperparameters."""
    import keras_tuner

    hp = keras_tuner.HyperParameters()

    def one(row: sp.Dimension) -> None:
        sampling = "log" if row.log else "linear"
        if row.choices:
            hp.Choice(row.name, list(row.choices))
        elif row.integer:
            hp.Int(row.name, int(row.low or 0), int(row.high or 0), sampling=sampling)
        else:
            hp.Float(row.name, row.low, row.high, sampling=sampling)

    for row in space:
        if row.only_with:
            with hp.conditional_scope(row.only_with[0], [row.only_with[1]]):
                one(row)
        else:
            one(row)
    return hp


def make_tuner(what: Search, max_trials: int, threads: int, command: str) -> Any:
    """Return KerasTuner's tuner over a search; what it is in a distributed search, its environment variables say."""
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="keras_tuner")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # each trial's model is traced anew, which it warns of
    import keras
    import keras_tuner
    from keras_tuner.engine.base_tuner import BaseTuner

    shared: dict[str, Any] = {
        "objective": keras_tuner.Objective("val_accuracy", "max"),
        "seed": what.base.train.seed + 1,  # KerasTuner takes a seed of 0 for none
        "hyperparameters": declare(what.space),
    }
    if what.tuner == "hyperband":
        oracle = keras_tuner.oracles.HyperbandOracle(max_epochs=what.base.train.n_epochs, **shared)
        oracle.max_trials = max_trials
    elif what.tuner == "bayesian":
        oracle = keras_tuner.oracles.BayesianOptimizationOracle(max_trials=max_trials, **shared)
    else:
        oracle = keras_tuner.oracles.RandomSearchOracle(max_trials=max_trials, **shared)

    class Tuner(BaseTuner):
        """KerasTuner's loop over trials, each of which is a run of ``train``."""

        def run_trial(self, trial: Any, *_: Any, **__: Any) -> dict[str, float]:
            keras.utils.clear_session()
            try:
                score = run_trial(what, trial.trial_id, dict(trial.hyperparameters.values), threads, command)
            except (RunError, OSError) as error:
                raise keras_tuner.errors.FatalError(str(error)) from error
            return {"val_accuracy": score}

        def save_model(self, *_: Any, **__: Any) -> None:
            """The run directory holds the model."""

        def on_trial_end(self, trial: Any) -> None:
            super().on_trial_end(trial)
            if "KERASTUNER_ORACLE_IP" not in os.environ:
                progress.say()

    progress = Progress(what, max_trials)
    return Tuner(oracle, directory=str(what.path), project_name=search.ORACLE)


def finish(what: Search, command: str) -> None:
    """Repeat the best trial with other seeds; write best.json, trials.json, the report and the picture."""
    rows = search.read_trials(what)
    if not rows:
        raise RunError(f"no trial of {what.path} has ended with a score")
    best = search.best_of(rows)
    write_atomically(what.path / "best.json", (cfg.to_json(search.best_config(what, best)) + "\n").encode())
    write_atomically(what.path / "trials.json", (json.dumps(rows, indent=1) + "\n").encode())
    search.draw(what, rows, what.path / "search.png")
    repeats: list[float] = []
    for n in range(1, REPEATS + 1):
        seed = (what.base.train.seed + n) % 2**32
        again = dataclasses.replace(
            what, path=what.path / "repeats", base=cfg.with_values(what.base, {"train.seed": seed})
        )
        repeats.append(run_trial(again, f"seed{seed}", best["hyperparameters"], 0, command))
    text = search.report(what, rows, repeats)
    write_atomically(what.path / "report.md", text.encode())
    print(text)
    print(f"train it: python -m seqmnist_tf.train --config {what.path / 'best.json'}")


def protocol(config: Config, given: dict[str, Any], epochs: int | None) -> Config:
    """Return the configuration that trials change: a split held out, the test set not read.

    Raises:
        InputError: the test set was asked for.
    """
    if given.get("test.enabled"):
        raise InputError("test.enabled must be false in a search (got true): the test set never chooses")
    values: dict[str, Any] = {"test.enabled": False}
    if not config.task.validation_size:
        values["task.validation_size"] = VALIDATION_SIZE
    if epochs is not None:
        values["train.n_epochs"] = epochs
    return cfg.validate(cfg.with_values(config, values))


def make_parser() -> cli.Parser:
    """Return the command's parser."""
    parser = cli.Parser(prog="python -m seqmnist_tf.tune", description="Search for hyperparameters with KerasTuner.")
    cli.add_config_arguments(parser)
    parser.usage = f"{parser.prog} [PRESET] --tuner NAME --max-trials N --dir DIR [--SECTION.KEY VALUE ...] [options]"
    parser.add_argument("--tuner", choices=TUNERS, required=True, help="KerasTuner's oracle")
    parser.add_argument(
        "--max-trials", type=int, required=True, metavar="N", help="at most so many trials; may be raised"
    )
    parser.add_argument("--dir", type=Path, required=True, help="the search's folder; one that exists is gone on with")
    parser.add_argument("--epochs", type=int, metavar="E", help="epochs of a trial, for hyperband at most")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="a chief and N workers on this machine")
    parser.add_argument("--space", type=Path, metavar="FILE", help="JSON file that replaces the search space")
    parser.add_argument("--role", choices=("chief", "worker"), help="one part of a search on several machines")
    parser.add_argument("--oracle", metavar="HOST:PORT", help="where the chief listens (with --role)")
    parser.add_argument(
        "--worker-name",
        default=socket.gethostname(),
        metavar="NAME",
        help="unlike other workers' (default: the host's)",
    )
    rows = "\n".join(f"  {row.name}: {row.allowed}\n      {row.reason}" for row in sp.parse(sp.DEFAULT))
    parser.epilog = f"search space (--space FILE replaces it):\n{rows}\n\n{parser.epilog}"
    return parser


def check(options: argparse.Namespace) -> None:
    """Raise InputError where the command's own options cannot be."""
    for name, low, high in (("max_trials", 1, 100_000), ("epochs", 1, 100_000), ("workers", 0, 1000)):
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise InputError(f"--{name.replace('_', '-')} must be {low} to {high:,} (got {value})")
    if bool(options.role) != bool(options.oracle) or (options.role and options.workers):
        raise InputError("--role and --oracle go together, and without --workers")
    if options.oracle and not re.fullmatch(r"[^:]+:\d{1,5}", options.oracle):
        raise InputError(f"--oracle must be HOST:PORT (got {options.oracle!r})")


def lead(what: Search, options: argparse.Namespace, argv: list[str], command: str) -> None:
    """Run a search to its end: in this process, with workers of its own, or as the chief of workers elsewhere."""
    threads = what.base.train.threads
    if options.workers:
        share = threads or max(1, runtime.available_cores() // options.workers)
        supervise(what, [*without_workers(argv), f"--train.threads={share}"], options.workers, options.max_trials)
        return
    import grpc
    import keras_tuner

    tuner = make_tuner(what, options.max_trials, threads, command)
    if options.role == "chief" and PARENT not in os.environ:
        progress = Progress(what, options.max_trials)
        threading.Thread(target=progress.keep_saying, daemon=True).start()
    try:
        tuner.search(verbose=0)
    except grpc.RpcError:
        raise RunError(f"the chief at {options.oracle} is gone (the same commands go on with the search)") from None
    except (keras_tuner.errors.FatalError, RuntimeError) as error:
        raise RunError(f"the search cannot go on: {first_line(error)} (the same command resumes it)") from None


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parsed = cli.parse(make_parser(), argv)
    options = parsed.options
    check(options)
    base = protocol(parsed.config, parsed.given, options.epochs)
    if options.print_config:
        print(cfg.to_json(base))
        return cli.EXIT_DONE
    document = sp.read(options.space) if options.space else sp.DEFAULT
    what = Search(options.dir, options.tuner, base, sp.parse(document), document, parsed.preset)
    for row in what.space:
        for choice in row.choices:
            sp.apply((row,), {row.name: choice, **dict([row.only_with] if row.only_with else [])}, base)
    if options.role == "worker" and not what.file.exists():
        print("waiting for the chief", file=sys.stderr, flush=True)
        while not what.file.exists():
            time.sleep(POLL_SECONDS)
    what.claim()
    command = shlex.join(["python", "-m", "seqmnist_tf.tune", *argv])
    os.environ.setdefault("WANDB_RUN_GROUP", f"search-{options.dir.resolve().name}")
    runtime.import_tensorflow()
    if options.role:
        end_with_parent()
        set_role(options.role, options.worker_name, options.oracle)
    if options.role == "worker" or PARENT in os.environ:
        lead(what, options, argv, command)
        return cli.EXIT_DONE
    try:
        lock = filelock.FileLock(options.dir / ".lock").acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(f"{options.dir} is in use by another process (wait for it to end)") from None
    with lock:
        lead(what, options, argv, command)
        finish(what, command)
    return cli.EXIT_DONE


if __name__ == "__main__":
    cli.run(main)
