"""Search for hyperparameters with KerasTuner; the result is a configuration.

python -m seqmnist_tf.tune [PRESET] --tuner {random,bayesian,hyperband} --max-trials N --dir DIR [--epochs E]
    [--no-stop] [--workers N | --address HOST:PORT] [--space FILE] [--SECTION.KEY VALUE ...]
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from .. import config as cfg
from .. import system
from ..config import Config
from ..engine import add_engine_options, require_answer, require_engine_options
from ..system import InputError, note, say
from ..train import lock_folder
from .space import DEFAULT_SPACE, SETTINGS, TUNERS, SearchFolder, on_all_images, parse_space

VALIDATION_SIZE = 10_000  # images held out where the configuration holds out none


def protocol(config: Config, given: dict[str, Any], epochs: int | None) -> Config:
    """Return the configuration that trials change: it holds out a split and leaves the test set unread."""
    if given.get("test.enabled"):
        raise InputError("test.enabled must be false in a search (got true): the test set is never used for selection")
    values: dict[str, Any] = {"test.enabled": False}
    if not config.task.validation_size:
        values["task.validation_size"] = VALIDATION_SIZE
    if epochs is not None:
        values["train.n_epochs"] = epochs
    return cfg.validate(cfg.with_values(config, values))


def make_parser() -> system.Parser:
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
    rows = "\n".join(f"  {row.name}: {row.allowed}\n      {row.reason}" for row in parse_space(DEFAULT_SPACE))
    parser.epilog = (
        f"search space (--space FILE replaces it; without model.* for other layers than LSTM):\n{rows}\n\n"
        f"In a search, test.enabled is false, and task.validation_size is {VALIDATION_SIZE:,} if it is not given.\n\n"
        f"{parser.epilog}"
    )
    return parser


def check_space(search: SearchFolder) -> None:
    """Raise InputError now, and not in a trial, where a choice or an end of a range does not suit the configuration.

    Each is tried by itself; values that do not suit each other are found in their trial.
    """
    for row in search.space:
        condition = dict([row.only_with]) if row.only_with else {}
        for value in tuple(row.choices) or (row.low, row.high):
            on_all_images(search.config({**condition, row.name: value}))


def default_space(base: Config) -> dict[str, Any]:
    """Return the default search space; rows of ``model`` are for the LSTM."""
    if base.model.layer == "LSTM":
        return DEFAULT_SPACE
    return {name: row for name, row in DEFAULT_SPACE.items() if not name.startswith("model.")}


def main(argv: list[str]) -> int:
    """Run the command; return its exit status. Bad input is found before anything is written."""
    parsed = cfg.parse_arguments(make_parser(), argv)
    options = parsed.options
    require_engine_options(options.workers, options.address)
    if options.max_trials < 1:
        raise InputError(f"--max-trials must be at least 1 (got {options.max_trials})")
    base = protocol(parsed.config, parsed.given, options.epochs)
    if options.print_config:
        say(cfg.config_to_json(base))
        return system.EXIT_DONE
    on_all_images(base)
    if options.space:
        document = system.read_json_object(options.space)
    elif (options.dir / SETTINGS).exists():  # its own space, perhaps of an earlier version
        document = SearchFolder.read(options.dir).space_document
    else:
        document = default_space(base)
    space = parse_space(document)
    search = SearchFolder(options.dir, options.tuner, base, space, document, parsed.preset, not options.no_stop)
    search.require_own()
    check_space(search)
    if options.address is not None:
        require_answer(options.address)
    system.start_tensorflow()
    from ..train import require_trainable  # late, so that --help and bad input do not wait for TensorFlow
    from .search import load_oracle, run_search  # late: KerasTuner

    load_oracle(search, options.max_trials)  # KerasTuner refuses a space here
    require_trainable(base, data=options.address is None and not (search.path / SETTINGS).exists())
    note(f"search {search.path}: {search.tuner}, at most {options.max_trials} trials of {base.train.n_epochs} epochs")
    with lock_folder(search.path, f"search {search.path}"):
        search.claim()
        command = shlex.join(["python", "-m", "seqmnist_tf.tune", *argv])
        run_search(search, options.max_trials, command, workers=options.workers, address=options.address)
    return system.EXIT_DONE


if __name__ == "__main__":
    system.run_command(main)
