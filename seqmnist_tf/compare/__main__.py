"""Compare layers and configurations over seeds, with tests, tables and pictures.

python -m seqmnist_tf.compare ARM... [--seeds 0-5] [--dir DIR] [--workers N | --address HOST:PORT] [--dry-run]
    [--json] [--allow-code] [--SECTION.KEY VALUE ...]
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import system
from ..config import PRESETS, read_flag, unknown_word
from ..engine import add_engine_options, require_engine_options
from ..system import InputError, say, say_json
from .arms import DEFAULT_SEEDS, KERAS_LAYERS, parse_arms, parse_seeds


def make_compare_parser() -> system.Parser:
    """Return the command's parser."""
    parser = system.Parser(
        prog="python -m seqmnist_tf.compare",
        description="Compare layers and configurations over seeds, with tests, tables and pictures.",
    )
    parser.usage = f"{parser.prog} ARM... [--SECTION.KEY VALUE ...] [options]"
    parser.epilog = (
        f"an ARM is a preset ({', '.join(PRESETS)}), a JSON\n"
        f"configuration, a layer ({', '.join(KERAS_LAYERS)}, FILE.py:NAME or MODULE:NAME, trained by\n"
        "the first arm's recipe with as many parameters), a run directory, a folder of runs,\n"
        "or a published record (results/strong). The first arm is the reference.\n"
        "--SECTION.KEY VALUE changes all arms that are trained;\n"
        "`python -m seqmnist_tf.train --help` lists the keys.\n"
        "The same command resumes a comparison.\n"
        "Exit status: 0 done, 1 failed while running, 2 bad input, 130 interrupted."
    )
    parser.add_argument("arms", nargs="+", metavar="ARM", help="what is compared")
    parser.add_argument(
        "--seeds", help=f"such as 0-5 or 0,2,4 (default: {DEFAULT_SEEDS}; all seeds where nothing is trained)"
    )
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="folder of the comparison (default: runs/compare-<arms>)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="time a few steps of each arm, print what all runs take, write nothing"
    )
    add_engine_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--allow-code", action="store_true", help="run the code of existing runs' own layers (layer.py)"
    )
    return parser


def read_keys(words: Sequence[str], prog: str) -> tuple[list[str], dict[str, Any]]:
    """Return further arms and the values of ``--SECTION.KEY=VALUE`` words, by key; raise InputError for other words."""
    arms, values = [], {}
    for word in words:
        if flag := read_flag(word):
            values[flag[0]] = flag[1]
        elif word.startswith("-"):
            raise unknown_word(word, prog)
        else:
            arms.append(word)
    return arms, values


def _dry_table(rows: Sequence[Mapping[str, Any]], hours: float, at_a_time: int) -> str:
    """Return what a comparison would train, for the terminal."""
    head = ("arm", "units", "parameters", "kernel", "s per step", "s per epoch", "runs", "hours")
    lines = [head]
    for row in rows:
        numbers = [row["seconds_per_step"], row["seconds_per_epoch"], row["hours"]]
        step, epoch, own = (
            "-" if x is None else f"{x:.{digits}f}" for x, digits in zip(numbers, (3, 1, 2), strict=True)
        )
        counts = (str(row["units"]), f"{row['num_params']:,}", row["kernel"] or "-")
        name = row["name"] + f" ({row['constants']})" * bool(row["constants"])
        lines.append((name, *counts, step, epoch, str(row["runs"]), own))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    notes = [f"{row['name']}: on stock Keras, {row['reason']}" for row in rows if row["reason"]]
    total = f"{sum(row['runs'] for row in rows)} runs to train, {at_a_time} at a time: about {hours:.2f} hours"
    return "\n".join([*table, *notes, total])


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = make_compare_parser()
    options, rest = parser.parse_known_args(argv)
    more, overrides = read_keys(rest, parser.prog)
    words = [*options.arms, *more]
    require_engine_options(options.workers, options.address)
    seeds = None if options.seeds is None else parse_seeds(options.seeds)
    parse_arms(words, overrides, allow_code=options.allow_code)
    if options.dry_run and options.address is not None:
        raise InputError(f"--dry-run measures on this machine: leave out --address (got {options.address})")
    system.start_tensorflow()
    from .comparing import compare, dry_run  # late, so that --help and bad input do not wait for TensorFlow

    arguments: dict[str, Any] = {"seeds": seeds, "directory": options.dir, "workers": options.workers}
    arguments |= {"allow_code": options.allow_code, "overrides": overrides}
    if options.dry_run:
        with contextlib.redirect_stdout(sys.stderr):
            rows, hours = dry_run(words, **arguments)
        if options.json:
            say_json({"arms": rows, "hours": hours})
        else:
            say(_dry_table(rows, hours, options.workers or 1))
        return system.EXIT_DONE
    # What a layer's own code prints does not belong into the JSON document.
    with contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext():
        comparison = compare(words, address=options.address, **arguments)
    if options.json:
        say_json(comparison.to_json())
        return system.EXIT_DONE
    say(comparison.markdown)
    say(f"report: {comparison.path / 'report.md'}")
    return system.EXIT_DONE


if __name__ == "__main__":
    system.run_command(main)
