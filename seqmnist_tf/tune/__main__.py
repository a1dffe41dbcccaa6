"""Search for hyperparameters with KerasTuner, in one process or in many; the result is a configuration.

python -m seqmnist_tf.tune [PRESET] --tuner {random,bayesian,hyperband} --max-trials N --dir DIR [--epochs E]
    [--workers N] [--space FILE] [--role {chief,worker} --oracle HOST:PORT] [--patience MINUTES]
    [--SECTION.KEY VALUE ...]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import config as cfg
from .. import system
from ..config import Config
from ..system import InputError, note, say
from ..train import lock_folder
from .folder import SearchFolder, on_all_images
from .processes import without_options
from .roster import WORKER_NAME
from .space import DEFAULT_SPACE, Dimension, apply_values, parse_space, read_space
from .worker import ChiefJobs

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
    parser.add_argument(
        "--patience",
        type=float,
        default=30.0,
        metavar="MINUTES",
        help="until another worker takes over a missing worker's trial, and workers give up a missing chief (30)",
    )
    rows = "\n".join(f"  {row.name}: {row.allowed}\n      {row.reason}" for row in parse_space(DEFAULT_SPACE))
    parser.epilog = (
        f"search space (--space FILE replaces it):\n{rows}\n\nIn a search, test.enabled is false, and "
        f"task.validation_size is {VALIDATION_SIZE:,} if it is not given.\n\n{parser.epilog}"
    )
    return parser


def check_options(options: argparse.Namespace) -> None:
    """Raise InputError where the command's own options are not allowed."""
    for name, low, high in (("max_trials", 1, 100_000), ("epochs", 1, 100_000), ("workers", 0, 1000)):
        value = getattr(options, name)
        if value is not None and not low <= value <= high:
            raise InputError(f"--{name.replace('_', '-')} must be {low} to {high:,} (got {value})")
    if not 0.05 <= options.patience <= 100_000:
        raise InputError(f"--patience must be 0.05 to 100,000 minutes (got {options.patience:g})")
    if not WORKER_NAME.fullmatch(options.worker_name):
        raise InputError(f"--worker-name must be letters, digits, '.', '_' and '-' (got {options.worker_name!r})")
    if bool(options.role) != bool(options.oracle) or (options.role and options.workers):
        raise InputError(
            "--role and --oracle go together, and without --workers "
            f"(got --role {options.role}, --oracle {options.oracle}, --workers {options.workers})"
        )
    if options.oracle:
        match = re.fullmatch(r"[^:\s]+:([0-9]{1,5})", options.oracle)
        if not match or not 1 <= int(match[1]) <= 65535:
            raise InputError(f"--oracle must be HOST:PORT with a port of 1 to 65535 (got {options.oracle!r})")


def check_space(search: SearchFolder) -> None:
    """Raise InputError now, and not in a trial, where a choice or an end of a range does not suit the configuration.

    Each is tried by itself; values that do not suit each other are found in their trial.
    """
    matched = search.base.model.match_parameters
    for row in search.space:
        if matched is not None and "model.hidden_size" in row.keys:
            raise InputError(
                f"model.hidden_size in the search space has no effect with model.match_parameters {matched} (leave one "
                "of them out)"
            )
        for config in _extremes(row, search.space, search.base):
            on_all_images(config)


def _extremes(row: Dimension, space: tuple[Dimension, ...], base: Config) -> Iterator[Config]:
    """Return the configurations of a row's choices, or of the ends of its range, each by itself."""
    rows = {row.name: row for row in space}
    values, condition = {}, row.only_with
    while condition:
        values[condition[0]] = condition[1]
        condition = rows[condition[0]].only_with
    for value in row.extremes:
        yield apply_values(space, {**values, row.name: value}, base)


def default_space(base: Config) -> dict[str, Any]:
    """Return the default search space without the rows that a configuration does not allow, which a note names."""
    space = parse_space(DEFAULT_SPACE)
    kept: dict[str, Any] = {}
    for row in space:
        if row.only_with is None or row.only_with[0] in kept:
            with contextlib.suppress(InputError):
                for config in _extremes(row, space, base):
                    on_all_images(config)
                kept[row.name] = DEFAULT_SPACE[row.name]
    if left := [name for name in DEFAULT_SPACE if name not in kept]:
        note(f"the search space is without {', '.join(left)}, which this configuration does not allow (--space FILE)")
    return kept


def require_free(oracle: str) -> None:
    """Raise InputError, before anything is written, where a chief cannot listen at ``HOST:PORT``."""
    host, _, port = oracle.rpartition(":")
    try:
        socket.create_server((host, int(port))).close()
    except (OSError, TypeError) as error:  # TypeError: a host that no encoding of names takes
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise InputError(
            f"--oracle must be a free address of this machine (got {oracle}: {reason}; is there another chief?)"
        ) from None


def join_search(search: SearchFolder, options: argparse.Namespace, command: str) -> None:
    """Work for the chief of a search until it ends."""
    jobs = ChiefJobs(search, options.oracle, options.worker_name, 60 * options.patience)
    jobs.join()
    search.claim()
    note(f"worker {options.worker_name} has joined the search {search.path}, and starts TensorFlow")
    with jobs:  # shows the chief from now on that this worker is alive
        system.start_tensorflow()
        from .lead import search_as_worker  # late: a worker waits for its chief without it

        search_as_worker(search, jobs, search.base.train.threads, command)


def lead_search(search: SearchFolder, options: argparse.Namespace, argv: list[str], command: str) -> None:
    """Run a search to its result: in this process, or as the chief of workers here or elsewhere.

    What is wrong with the arguments is said before TensorFlow starts, what is wrong with a layer, or with the data of
    a new search, before anything is written.
    """
    search.require_own()
    system.start_tensorflow()
    from . import lead  # late: see above

    apart = {"train.kernel": "keras", "train.precision": "float32"} if options.role else {}  # its workers train
    layers = [row for row in search.space if "model.layer" in row.keys]
    for config in (search.base, *(one for row in layers for one in _extremes(row, search.space, search.base))):
        is_new = config is search.base and not options.role and not search.file.exists()
        lead.require_trainable(cfg.with_values(config, apart), data=is_new)
    size = f"at most {options.max_trials} trials of {search.base.train.n_epochs} epochs"
    note(f"search {search.path}: {search.tuner}, {size}")
    search.make_folder()
    with lock_folder(search.path, f"search {search.path}"):
        search.claim()
        own, patience = search.base.train.threads, 60 * options.patience
        if options.workers:
            share = own or max(1, system.available_cores() // options.workers)
            words = [*without_options(argv, ("workers", "train.threads")), f"--train.threads={share}"]
            lead.search_with_workers(search, options.max_trials, patience, words, options.workers)
        elif options.role:
            words = [*without_options(argv, ("role", "worker-name")), "--role", "worker"]
            worker_command = shlex.join(["python", "-m", "seqmnist_tf.tune", *words])
            lead.search_as_chief(search, options.max_trials, patience, options.oracle, worker_command)
        else:
            lead.search_alone(search, options.max_trials, own, command)


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parsed = cfg.parse_arguments(make_parser(), argv)
    options = parsed.options
    check_options(options)
    base = protocol(parsed.config, parsed.given, options.epochs)
    if options.print_config:
        say(cfg.config_to_json(base))
        return system.EXIT_DONE
    on_all_images(base)
    document = read_space(options.space) if options.space else default_space(base)
    search = SearchFolder(options.dir, options.tuner, base, parse_space(document), document, parsed.preset)
    check_space(search)
    command = shlex.join(["python", "-m", "seqmnist_tf.tune", *argv])
    os.environ.setdefault("WANDB_RUN_GROUP", f"search-{options.dir.resolve().name}")
    if options.role == "worker":
        join_search(search, options, command)
        return system.EXIT_DONE
    if options.role:
        require_free(options.oracle)
    lead_search(search, options, argv, command)
    return system.EXIT_DONE


if __name__ == "__main__":
    system.run_command(main)
