"""Export a finished run as a SavedModel for TF Serving: the next version in a folder.

python -m seqmnist_tf.export RUN_DIR [--export-dir DIR]
"""

from __future__ import annotations

from pathlib import Path

from . import system
from .serve import DEFAULT_FOLDER
from .system import say
from .train import load_run


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = system.Parser(
        prog="python -m seqmnist_tf.export",
        description="Export a finished run as a SavedModel for TF Serving. Prints the path of the new version.",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a run directory of seqmnist_tf.train")
    parser.add_argument(
        "--export-dir",
        type=Path,
        metavar="DIR",
        default=DEFAULT_FOLDER,
        help=f"folder of the versions; the new version is the highest plus 1 (default: {DEFAULT_FOLDER})",
    )
    args = parser.parse_args(argv)
    run = load_run(args.run_dir)
    run.require_model()
    from .serve import export_run  # late, so that --help and a missing run do not wait for TensorFlow

    say(str(export_run(run, args.export_dir)))
    return system.EXIT_DONE


if __name__ == "__main__":
    system.run_command(main)
