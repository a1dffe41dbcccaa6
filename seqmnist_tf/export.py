"""Export a finished run as a SavedModel for TF Serving: the next version in a folder.

python -m seqmnist_tf.export RUN_DIR [--export-dir DIR] [--data-dir DIR] [--allow-code]
"""

from __future__ import annotations

import shlex
from pathlib import Path

from . import system
from .serve import DEFAULT_FOLDER, read_description
from .system import note, say
from .train import load_run


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = system.Parser(
        prog="python -m seqmnist_tf.export",
        description="Export a finished run as a SavedModel for TF Serving. Prints the path of the new version.",
    )
    parser.add_argument(
        "run_dir",
        type=Path,
        metavar="RUN_DIR",
        help="a run directory of seqmnist_tf.train, or a record such as results/strong/seed0",
    )
    parser.add_argument(
        "--export-dir",
        type=Path,
        metavar="DIR",
        default=DEFAULT_FOLDER,
        help=f"folder of the versions; the new version is the highest plus 1 (default: {DEFAULT_FOLDER})",
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder of the data (default: tensorflow-datasets' own; the run's is ignored)"
    )
    parser.add_argument("--allow-code", action="store_true", help="run the code of the run's custom layer (layer.py)")
    args = parser.parse_args(argv)
    run = load_run(args.run_dir)
    run.require_model()
    note(f"exporting {run.path}: 10 to 30 seconds")
    from .serve import export_run  # late, so that --help and a missing run do not wait for TensorFlow

    path = export_run(run, args.export_dir, args.data_dir, allow_code=args.allow_code)
    accuracy = read_description(path)["test_accuracy"]
    shown = "unknown" if accuracy is None else f"{accuracy:.2%}"
    note(f"exported {run.path} as version {path.name}; test accuracy {shown}")
    model_dir = "" if args.export_dir == DEFAULT_FOLDER else f" --model-dir {shlex.quote(str(args.export_dir))}"
    note(f"next: python -m seqmnist_tf.serve{model_dir} --version {path.name}")
    say(str(path))
    return system.EXIT_DONE


if __name__ == "__main__":
    system.run_command(main)
