"""Search for hyperparameters with KerasTuner; the result is a configuration.

python -m seqmnist_tf.tune [PRESET] --tuner {random,bayesian,hyperband} --max-trials N --dir DIR [--epochs E]
    [--no-stop] [--workers N | --address HOST:PORT] [--space FILE] [--SECTION.KEY VALUE ...]
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import config as cfg
from .. import system
from ..config import Config
from ..engine import add_engine_options, require_answer, require_engine_options
from ..system import InputError, is_there, note, say
from ..train import lock_folder
from .folder import TUNERS, SearchFolder, on_all_images
from .space import DEFAULT_SPACE, Dimension, apply_values, parse_space

VALIDATION_SIZE = 10_000  # images held out where the configuration holds out none
MOST_BAYESIAN = 1000  # trials; KerasTuner's choice of the next one then takes a minute
FORMER_OPTIONS = ("--role", "--oracle", "--worker-name", "--patience")


class _Former(argparse.Action):
    """An option of earlier versions, which is refused before others are asked for."""

    def __call__(self, parser: object, namespace: object, values: object, option: str | None = None) -> None:
        raise InputError(
            f"{option} is of earlier versions (give --workers N for several trials at a time on this machine, or "
            "--address HOST:PORT for a Ray cluster)"
        )


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
    parser.add_argument("--space", type=Path, metavar="FILE", help="JSON file that replaces the search space")
    parser.add_argument("--no-stop", action="store_true", help="train trials at chance to their end, too")
    add_engine_options(parser)
    parser.add_argument(*FORMER_OPTIONS, nargs="*", action=_Former, help=argparse.SUPPRESS)
    rows = "\n".join(f"  {row.name}: {row.allowed}\n      {row.reason}" for row in parse_space(DEFAULT_SPACE))
    parser.epilog = (
        f"search space (--space FILE replaces it):\n{rows}\n\nIn a search, test.enabled is false, and "
        f"task.validation_size is {VALIDATION_SIZE:,} if it is not given.\n\n{parser.epilog}"
    )
    return parser


def check_options(options: argparse.Namespace) -> None:
    """Raise InputError where the command's own options are not allowed."""
    for name in ("max_trials", "epochs"):
        value = getattr(options, name)
        if value is not None and not 1 <= value <= 100_000:
            raise InputError(f"--{name.replace('_', '-')} must be 1 to 100,000 (got {value})")
    if options.tuner == "bayesian" and options.max_trials > MOST_BAYESIAN:
        raise InputError(
            f"--max-trials must be at most {MOST_BAYESIAN:,} with --tuner bayesian (got {options.max_trials}): the "
            "time to choose a trial grows with the cube of the trials before it (random has no such limit)"
        )
    require_engine_options(options.workers, options.address)


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
    for value in tuple(row.choices) or (row.low, row.high):
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


def require_usable(search: SearchFolder, on_a_cluster: bool) -> None:
    """Raise InputError where a layer cannot be used or, in a new search, the data cannot be read.

    Nodes of a cluster have the data, and kernels of their own.
    """
    from ..train import require_trainable  # late: TensorFlow has started by now

    for config in _layers(search):
        is_new = config is search.base and not on_a_cluster and not search.file.exists()
        require_trainable(config, data=is_new, elsewhere=on_a_cluster)


def _layers(search: SearchFolder) -> list[Config]:
    """Return the base, and a configuration for each layer and for each constant that the space names."""
    rows = [row for row in search.space if any(key.startswith("model.layer") for key in row.keys)]
    return [search.base, *(config for row in rows for config in _extremes(row, search.space, search.base))]


def _began_with(folder: Path) -> dict[str, Any] | None:
    """Return the space of the search in a folder, which may be the default of an earlier version; None without one."""
    with contextlib.suppress(InputError):
        return SearchFolder.read(folder).space_document
    return None


def without_noise(search: SearchFolder) -> SearchFolder:
    """Return a search without its rows of recurrent noise; as it is where it would have none, or others need them."""
    needed = {row.only_with[0] for row in search.space if row.only_with}
    noise = {"train.recurrent_noise", "train.recurrent_noise_relative"}
    kept = tuple(row for row in search.space if not row.keys <= noise or row.name in needed)
    document = {row.name: search.space_document[row.name] for row in kept}
    return replace(search, space=kept, space_document=document) if kept else search


def as_it_began(search: SearchFolder) -> SearchFolder:
    """Return a search without recurrent noise where its folder has it so, else as it is."""
    without = without_noise(search)
    if is_there(without.file):
        with contextlib.suppress(InputError):
            without.require_own()
            return without
    return search


def without_idle_rows(search: SearchFolder, noise_acts: Callable[[Config], bool]) -> SearchFolder:
    """Return a new search without rows of recurrent noise, which a note names, where it acts on no layer."""
    without = without_noise(search)
    if without.space == search.space or search.file.exists():
        return search
    if any(map(noise_acts, _layers(search))):
        return search
    left = ", ".join(row.name for row in search.space if row not in without.space)
    note(
        f"the search space is without {left}, which has no effect: the layer names no recurrent weights "
        "(docs/compare.md)"
    )
    return without


def main(argv: list[str]) -> int:
    """Run the command; return its exit status.

    What is wrong with the arguments is said before TensorFlow starts, what is wrong with a layer, or with the data of
    a new search, before anything is written.
    """
    parsed = cfg.parse_arguments(make_parser(), argv)
    options = parsed.options
    check_options(options)
    base = protocol(parsed.config, parsed.given, options.epochs)
    if options.print_config:
        say(cfg.config_to_json(base))
        return system.EXIT_DONE
    on_all_images(base)
    document = system.read_json(options.space) if options.space else _began_with(options.dir) or default_space(base)
    space = parse_space(document)
    search = SearchFolder(options.dir, options.tuner, base, space, document, parsed.preset, not options.no_stop)
    search = as_it_began(search)
    search.require_own()
    check_space(search)
    if options.address is not None:
        require_answer(options.address)
    system.start_tensorflow()
    require_usable(search, on_a_cluster=options.address is not None)
    from .search import noise_acts, run_search  # late, so that --help and bad input do not wait for TensorFlow

    search = without_idle_rows(search, noise_acts)

    note(f"search {search.path}: {search.tuner}, at most {options.max_trials} trials of {base.train.n_epochs} epochs")
    with lock_folder(search.path, f"search {search.path}"):
        search.claim()
        run_search(
            search,
            options.max_trials,
            command=shlex.join(["python", "-m", "seqmnist_tf.tune", *argv]),
            workers=options.workers,
            address=options.address,
        )
    return system.EXIT_DONE


if __name__ == "__main__":
    system.run_command(main)
