"""The published results: records in ``results/``, and the documents and pictures made from them.

python -m seqmnist_tf.results [--check]
python -m seqmnist_tf.results add RUN_DIR --name NAME
"""

from __future__ import annotations

from pathlib import Path

from .. import system
from ..system import InputError, RunError, say
from ..train import load_run
from .documents import REQUIRED_DOCUMENTS
from .records import RESULTS_FOLDER


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    return _add(argv[1:]) if argv[:1] == ["add"] else _write_or_check(argv)


def _write_or_check(argv: list[str]) -> int:
    parser = system.Parser(
        prog="python -m seqmnist_tf.results",
        description="Write the generated sections of the documents, and the pictures, from the records in results/.\n"
        "To publish a run: python -m seqmnist_tf.results add RUN_DIR --name NAME",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if anything is outdated or changed")
    args = parser.parse_args(argv)
    _require_clone()
    system.start_tensorflow(0)
    from .pages import clone_problems, write_documents  # late, so that --help does not wait for TensorFlow

    if not args.check:
        changed = write_documents()
        say(f"written: {', '.join(map(str, changed))}" if changed else "all documents are up to date")
        return system.EXIT_DONE
    problems = clone_problems()
    for problem in problems:
        say(problem)
    if problems:
        raise RunError(f"{len(problems)} problems in records, manifest, documents and pictures")
    say("records, manifest, documents and pictures agree")
    return system.EXIT_DONE


def _add(argv: list[str]) -> int:
    parser = system.Parser(
        prog="python -m seqmnist_tf.results add",
        description="Publish a finished run: check its files and copy them to results/NAME/seed<k>/.",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a run directory of seqmnist_tf.train")
    parser.add_argument("--name", required=True, help="the name of the run's preset, or a new name")
    args = parser.parse_args(argv)
    _require_clone()
    run = load_run(args.run_dir)
    system.start_tensorflow(0)
    from .publish import add_record  # late, so that a missing run is reported at once

    say(str(add_record(run, args.name, RESULTS_FOLDER)))
    return system.EXIT_DONE


def _require_clone() -> None:
    """Raise InputError where the working directory is not the root of a clone."""
    for path in REQUIRED_DOCUMENTS:
        if not path.is_file():
            raise InputError(f"{path} is missing (run this in the root of a clone)")


if __name__ == "__main__":
    system.run_command(main)
