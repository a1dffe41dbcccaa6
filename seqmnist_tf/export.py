"""Export a finished run as a SavedModel for TF Serving: the next version in a folder.

python -m seqmnist_tf.export RUN_DIR [--export-dir DIR] [--data-dir DIR] [--allow-code]
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from . import system
from .serve import DEFAULT_FOLDER, exported_versions, read_description
from .system import InputError, note, say, warn
from .train import load_run

LOW_ACCURACY = 0.5


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
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder of the data (default: tensorflow-datasets' own; the run's is ignored)"
    )
    parser.add_argument("--allow-code", action="store_true", help="run the code of the run's own layer (layer.py)")
    args = parser.parse_args(argv)
    run = load_run(args.run_dir)
    run.require_model()
    if problem := system.unwritable(args.export_dir):
        raise InputError(f"cannot write to {args.export_dir}: {problem} (give a writable folder)")
    note(f"exporting {run.path}: 10 to 30 seconds")
    from .serve import export_run  # late, so that --help and a missing run do not wait for TensorFlow

    path = export_run(run, args.export_dir, args.data_dir, allow_code=args.allow_code)
    described = read_description(path)
    correct, total, accuracy = (described[f"test_{key}"] for key in ("correct", "total", "accuracy"))
    counts = f" ({correct:,} of {total:,})" if correct is not None and total is not None else ""
    name = f"{described['preset'] or 'a run'}, seed {described['seed']}"
    note(f"exported {name} as version {path.name}; {_accuracy(described)}{counts}")
    if accuracy is not None and accuracy < LOW_ACCURACY:
        warn(f"{_accuracy(described)} is below {LOW_ACCURACY:.0%}: this model misclassifies most digits")
    _say_what_it_replaces(path)
    model_dir = "" if args.export_dir == DEFAULT_FOLDER else f" --model-dir {shlex.quote(str(args.export_dir))}"
    note(f"next: python -m seqmnist_tf.serve{model_dir}")
    say(str(path))
    return system.EXIT_DONE


def _say_what_it_replaces(new: Path) -> None:
    """Say which version was the newest, and so the default of the local server and of the client."""
    before = [path for number, path in exported_versions(new.parent).items() if number < int(new.name)]
    if not before:
        return
    try:
        described = read_description(before[-1])
        which = f"{described.get('preset') or 'a run'}, seed {described.get('seed')}, {_accuracy(described)}"
    except InputError:
        which = "no description"
    note(
        f"after a restart, serve answers with version {new.name} in place of version {before[-1].name} ({which}); "
        f"to go back, remove {shlex.quote(str(new))} and restart it"
    )


def _accuracy(described: dict[str, Any]) -> str:
    accuracy = described.get("test_accuracy")
    return f"test accuracy {accuracy:.2%}" if isinstance(accuracy, float) else "test accuracy unknown"


if __name__ == "__main__":
    system.run_command(main)
