"""Compare layers and configurations over seeds, with tests, tables and pictures.

python -m seqmnist_tf.compare ARM... [--seeds 0-5] [--dir DIR] [--workers N | --address HOST:PORT] [--dry-run]
    [--json] [--allow-code] [--SECTION.KEY VALUE ...]
"""

from __future__ import annotations

import contextlib
import sys
import textwrap
from pathlib import Path

from .. import system
from ..config import read_flags
from ..engine import add_engine_options, require_engine_options
from ..system import duration, markdown_table, say, say_json
from .arms import ALLOWED, DEFAULT_SEEDS, parse_arms


def make_compare_parser() -> system.Parser:
    parser = system.Parser(
        prog="python -m seqmnist_tf.compare",
        description="Compare layers and configurations over seeds, with tests, tables and pictures.",
    )
    parser.usage = f"{parser.prog} ARM... [--SECTION.KEY VALUE ...] [options]"
    parser.epilog = (
        f"{textwrap.fill(f'an ARM is {ALLOWED}', 88)}\n"
        "The first arm is the reference; a layer is trained by its recipe, with as many parameters.\n"
        "--SECTION.KEY VALUE changes all arms that are trained;\n"
        "`python -m seqmnist_tf.train --help` lists the keys.\n"
        "The same command resumes a comparison.\n"
        "Exit status: 0 done, 1 failed while running, 2 bad input, 130 interrupted."
    )
    parser.add_argument("arms", nargs="+", metavar="ARM", help="what is compared")
    parser.add_argument(
        "--seeds",
        help=f"what is trained, such as 0-5 or 0,2,4 (default: {DEFAULT_SEEDS}); seeds that exist are compared, too",
    )
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="folder of the comparison (default: runs/compare-<arms>)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="time a step of each arm, print what all runs take, write nothing"
    )
    add_engine_options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--allow-code", action="store_true", help="run the code of existing runs' custom layers (layer.py)"
    )
    return parser


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = make_compare_parser()
    options, rest = parser.parse_known_args(argv)
    more = [word for word in rest if not word.startswith("-")]  # arms that stand behind an option
    overrides = read_flags([word for word in rest if word.startswith("-")], parser.prog)
    require_engine_options(options.workers, options.address)
    arms = parse_arms([*options.arms, *more], overrides, allow_code=options.allow_code)
    system.start_tensorflow()
    from . import comparing, plan  # late, so that --help and bad input do not wait for TensorFlow

    # What a layer's own code prints does not belong into the JSON document.
    with contextlib.redirect_stdout(sys.stderr):
        if options.dry_run:
            rows, hours = plan.dry_run(arms, options.seeds, options.dir, options.workers)
        else:
            comparison = comparing.compare_arms(
                arms, options.seeds, options.dir, options.workers, options.address, allow_code=options.allow_code
            )
    if options.dry_run and options.json:
        say_json({"arms": rows, "hours": hours})
    elif options.dry_run:
        shown = [["" if cell is None else cell for cell in row.values()] for row in rows]
        cells = [[f"{cell:.2f}" if isinstance(cell, float) else cell for cell in row] for row in shown]
        say(f"{markdown_table(list(rows[0]), cells)}\n\nabout {duration(3600 * hours)}")
    elif options.json:
        say_json(comparison.to_json())
    else:
        say(f"{comparison.markdown}\n\nreport: {comparison.path / 'report.md'}")
    return system.EXIT_DONE


if __name__ == "__main__":
    system.run_command(main)
