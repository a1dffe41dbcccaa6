"""The published results: records in ``results/``, and the documents and pictures made from them.

python -m seqmnist_tf.results [--check | --replay [full] [NAME ...]] [--allow-code]
python -m seqmnist_tf.results add RUN_DIR|SEARCH_DIR [--name NAME] [--allow-code]
"""

from __future__ import annotations

import logging
from pathlib import Path

from .. import system
from ..system import InputError, RunError, say
from ..train import load_run
from ..tune import SETTINGS
from .records import REQUIRED_DOCUMENTS, RESULTS_FOLDER

ALLOW_CODE = "run the code of the records' own layers (layer.py)"


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns that each model is traced again
    return _add(argv[1:]) if argv[:1] == ["add"] else _write_or_check(argv)


def _write_or_check(argv: list[str]) -> int:
    parser = system.Parser(
        prog="python -m seqmnist_tf.results",
        description="Write the generated sections of the documents, and the pictures, from the records in results/.\n"
        "To publish a run or a search: python -m seqmnist_tf.results add RUN_DIR|SEARCH_DIR [--name NAME]",
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="write nothing; exit 1 if anything is outdated or changed")
    action.add_argument(
        "--replay",
        nargs="*",
        metavar="NAME",
        help="train the first batches of the published runs anew and compare their losses; NAME: an experiment, "
        "NAME/seed<k>, trials or searches (default: all); --replay full [NAME ...]: all batches",
    )
    parser.add_argument("--allow-code", action="store_true", help=ALLOW_CODE)
    args = parser.parse_args(argv)
    _require_clone()
    system.start_tensorflow(0, operations=0 if args.replay is None else 1)
    from . import pages, replay  # late, so that --help does not wait for TensorFlow

    if args.check:
        problems = pages.clone_problems(allow_code=args.allow_code)
        good = "hashes, tables, pictures and models agree with the records"
    elif args.replay is not None:
        full = args.replay[:1] == ["full"]
        names = args.replay[1:] if full else args.replay
        problems = replay.replay_records(RESULTS_FOLDER, names, full=full, allow_code=args.allow_code)
        good = "no replayed record has a problem"
    else:
        problems, changed = [], pages.write_documents()
        good = f"written: {', '.join(map(str, changed))}" if changed else "all pictures and documents are up to date"
    for problem in problems:
        say(problem)
    if problems:
        raise RunError(f"{len(problems)} problems found by {'--check' if args.check else '--replay'}")
    say(good)
    return system.EXIT_DONE


def _add(argv: list[str]) -> int:
    parser = system.Parser(
        prog="python -m seqmnist_tf.results add",
        description="Publish a finished run: check its files and copy them to results/NAME/seed<k>/. A trial (scored "
        "on held-out images, without the test set) goes to results/trials/, a search to results/searches/NAME.json.",
    )
    whose = "a run directory of seqmnist_tf.train, or a folder of seqmnist_tf.tune"
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help=whose)
    parser.add_argument("--name", help="the name of the run's preset, or a new name; a trial has none")
    parser.add_argument("--allow-code", action="store_true", help=ALLOW_CODE)
    args = parser.parse_args(argv)
    _require_clone()
    system.start_tensorflow(0)
    from . import publish  # late, so that --help does not wait for TensorFlow

    if (args.run_dir / SETTINGS).exists():
        path = publish.add_search(args.run_dir, args.name, RESULTS_FOLDER, allow_code=args.allow_code)
    else:
        path = publish.add_record(load_run(args.run_dir), args.name, RESULTS_FOLDER, allow_code=args.allow_code)
    say(str(path))
    return system.EXIT_DONE


def _require_clone() -> None:
    """Raise InputError where the working directory is not the root of a clone."""
    for path in REQUIRED_DOCUMENTS:
        if not path.is_file():
            raise InputError(f"{path} is missing (run this in the root of a clone)")


if __name__ == "__main__":
    system.run_command(main)
