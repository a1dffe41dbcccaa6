"""Search for hyperparameters with KerasTuner, in one process or in many; the result is a configuration.

python -m seqmnist_tf.tune [PRESET] --tuner {random,bayesian,hyperband} --max-trials N --dir DIR [--epochs E]
    [--workers N] [--space FILE] [--role {chief,worker} --oracle HOST:PORT] [--SECTION.KEY VALUE ...]
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import socket
import threading
import time
from pathlib import Path
from typing import Any

import filelock

from .. import config as cfg
from .. import system
from ..config import Config
from ..system import InputError, note
from .folder import SearchFolder
from .progress import POLL_SECONDS, TrialReporter
from .space import DEFAULT_SPACE, apply_values, parse_space, read_space
from .workers import PARENT, end_with_parent, set_role, supervise, without_workers

VALIDATION_SIZE = 10_000  # images held out where the configuration holds out none
TUNERS = ("random", "bayesian", "hyperband")


def protocol(config: Config, given: dict[str, Any], epochs: int | None) -> Config:
    """Return the configuration that trials change: it holds out a split and leaves the test set unread.

    Raises:
        InputError: ``test.enabled`` is true.
    """
    if given.get("test.enabled"):
        raise InputError("test.enabled must be false in a search (got true): the test set is never used for selection")
    values: dict[str, Any] = {"test.enabled": False}
    if not config.task.validation_size:
        values["task.validation_size"] = VALIDATION_SIZE
    if epochs is not None:
        values["train.n_epochs"] = epochs
    return cfg.validate(cfg.with_values(config, values))


def make_parser() -> system.Parser:
    """Return the command's parser."""
    parser = system.Parser(prog="python -m seqmnist_tf.tune", description="Search for hyperparameters with KerasTuner.")
    cfg.add_config_arguments(parser)
    parser.usage = f"{parser.prog} [PRESET] --tuner NAME --max-trials N --dir DIR [--SECTION.KEY VALUE ...] [options]"
    parser.add_argument("--tuner", choices=TUNERS, required=True, help="KerasTuner's oracle")
    parser.add_argument(
        "--max-trials", type=int, required=True, metavar="N", help="maximum number of trials; may be raised later"
    )
    parser.add_argument("--dir", type=Path, required=True, help="folder of the search; an existing search is resumed")
    parser.add_argument("--epochs", type=int, metavar="E", help="epochs of a trial (hyperband: at most)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="a chief and N workers on this machine")
    parser.add_argument("--space", type=Path, metavar="FILE", help="JSON file that replaces the search space")
    parser.add_argument("--role", choices=("chief", "worker"), help="one part of a search on several machines")
    parser.add_argument("--oracle", metavar="HOST:PORT", help="address of the chief (with --role)")
    parser.add_argument(
        "--worker-name",
        default=socket.gethostname(),
        metavar="NAME",
        help="unique name of a worker (default: the host's name)",
    )
    rows = "\n".join(f"  {row.name}: {row.allowed}\n      {row.reason}" for row in parse_space(DEFAULT_SPACE))
    parser.epilog = f"search space (--space FILE replaces it):\n{rows}\n\n{parser.epilog}"
    return parser


def check_options(options: argparse.Namespace) -> None:
    """Raise InputError where the command's own options are not allowed."""
    for name, low, high in (("max_trials", 1, 100_000), ("epochs", 1, 100_000), ("workers", 0, 1000)):
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise InputError(f"--{name.replace('_', '-')} must be {low} to {high:,} (got {value})")
    if bool(options.role) != bool(options.oracle) or (options.role and options.workers):
        raise InputError("--role and --oracle go together, and without --workers")
    if options.oracle and not re.fullmatch(r"[^:]+:\d{1,5}", options.oracle):
        raise InputError(f"--oracle must be HOST:PORT (got {options.oracle!r})")


def check_choices(search: SearchFolder) -> None:
    """Raise InputError now, and not in a trial, where a choice of the space does not go with the configuration."""
    for row in search.space:
        for choice in row.choices:
            apply_values((row,), {row.name: choice, **dict([row.only_with] if row.only_with else [])}, search.base)


def wait_for_chief(search: SearchFolder) -> None:
    """Wait until the chief has written the search's settings."""
    if not search.file.exists():
        note("waiting for the chief")
    while not search.file.exists():
        time.sleep(POLL_SECONDS)


def lead(search: SearchFolder, options: argparse.Namespace, argv: list[str], command: str) -> None:
    """Run a search to its end: in this process, with workers on this machine, or as the chief of workers elsewhere."""
    threads = search.base.train.threads
    if options.workers:
        share = threads or max(1, system.available_cores() // options.workers)
        supervise(search, [*without_workers(argv), f"--train.threads={share}"], options.workers, options.max_trials)
        return
    from .tuner import make_tuner, run_tuner  # late: supervisors and bad input do not wait for it

    tuner = make_tuner(search, options.max_trials, threads, command)
    if options.role == "chief" and PARENT not in os.environ:
        reporter = TrialReporter(search, options.max_trials)
        threading.Thread(target=reporter.report_forever, daemon=True).start()
    run_tuner(tuner, options.oracle)


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parsed = cfg.parse_arguments(make_parser(), argv)
    options = parsed.options
    check_options(options)
    base = protocol(parsed.config, parsed.given, options.epochs)
    if options.print_config:
        print(cfg.config_to_json(base))
        return system.EXIT_DONE
    document = read_space(options.space) if options.space else DEFAULT_SPACE
    search = SearchFolder(options.dir, options.tuner, base, parse_space(document), document, parsed.preset)
    check_choices(search)
    if options.role == "worker":
        wait_for_chief(search)
    search.claim()
    command = shlex.join(["python", "-m", "seqmnist_tf.tune", *argv])
    os.environ.setdefault("WANDB_RUN_GROUP", f"search-{options.dir.resolve().name}")
    system.start_tensorflow()
    if options.role:
        end_with_parent()
        set_role(options.role, options.worker_name, options.oracle)
    if options.role == "worker" or PARENT in os.environ:
        lead(search, options, argv, command)
        return system.EXIT_DONE
    try:
        lock = filelock.FileLock(options.dir / ".lock").acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(f"{options.dir} is in use by another process (wait for it to end)") from None
    with lock:
        lead(search, options, argv, command)
        from .result import finish_search  # late: bad input does not wait for it

        finish_search(search, command)
    return system.EXIT_DONE


if __name__ == "__main__":
    system.run_command(main)
