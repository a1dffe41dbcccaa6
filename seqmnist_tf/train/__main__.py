"""Train an LSTM on sequential MNIST.

python -m seqmnist_tf.train [PRESET] [--config FILE] [--SECTION.KEY VALUE ...] [--run-dir DIR] [--resume [auto]]
"""

from __future__ import annotations

import datetime
import shlex
from pathlib import Path
from typing import Any

from .. import config as cfg
from .. import data, system
from ..system import InputError, say
from .command_line import TRAIN_COMMAND, parse_train_arguments, train_command
from .run_directory import RunDirectory, load_run

EXIT_STATUS = {"completed": system.EXIT_DONE, "interrupted": system.EXIT_INTERRUPTED}


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    args = parse_train_arguments(argv)
    path = args.options.run_dir
    resuming = bool(args.options.resume)
    if resuming and path is None:
        raise InputError("--resume needs --run-dir with the directory of the run (got none)")
    if args.options.resume == "auto":
        resuming = (path / "config.json").exists()
    if resuming:
        run = load_run(path)
        config = _resumed_config(run, args)
    else:
        config = args.config
    if args.options.print_config:
        if not resuming:  # a run has its own copy of the order
            data.pixel_order(config.task.permutation)
        say(cfg.config_to_json(config))
        return system.EXIT_DONE
    command = shlex.join([*TRAIN_COMMAND, *argv])
    if not resuming:
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        path = path or Path("runs", f"{args.preset or 'baseline'}-{config.train.seed}-{stamp}")
        RunDirectory.refuse_existing(path)
        cfg.read_layer(config)
    system.start_tensorflow()
    from .training import resume, train  # late, so that --help and bad input do not wait for TensorFlow

    if resuming:
        summary = resume(path, command=command, machine=config)
    else:
        summary = train(config, path, preset=args.preset or "baseline", command=command)
    _report(summary, path, config)
    return EXIT_STATUS.get(summary["status"], system.EXIT_FAILED)


def _resumed_config(run: RunDirectory, args: cfg.Arguments) -> cfg.Config:
    """Return a run's configuration, with what the command line says of this machine.

    InputError is raised where the command line describes another run than the directory.
    """
    # The seed does not count in config_id, but it is the run's, not this machine's.
    of_machine = {
        key: value for key, value in args.given.items() if not cfg.of_the_experiment(key) and key != "train.seed"
    }
    of_run = {key: value for key, value in args.given.items() if key not in of_machine}
    for key, values in cfg.contradictions(of_run, run.config).items():
        value, was = map(cfg.value_text, values)
        raise InputError(f"{key} is {was} in the run at {run.path} and cannot be changed (got {value})")
    preset = run.environment.get("preset")
    if args.preset is not None and args.preset != preset:
        raise InputError(f"the run at {run.path} is of preset {preset} (got {args.preset!r})")
    return cfg.with_values(run.config, of_machine)


def _report(summary: dict[str, Any], path: Path, config: cfg.Config) -> None:
    final = summary["final"]
    say(f"run {path} ({summary['status']}, {summary['epochs']} epochs, {summary['seconds_total']:.0f} s)")
    if summary["status"] == "interrupted":
        say(f"resume it:     {train_command(run_dir=path, resume=True)}")
        return
    if final and final["test_total"]:
        say(
            f"test accuracy {final['test_accuracy']:.2%} ({final['test_correct']:,} of {final['test_total']:,}), "
            f"test loss {final['test_loss']:.4f}"
        )
        words = [str(path), *(["--data-dir", config.data.dir] if config.data.dir else [])]
        if not cfg.has_stock_layer(config):
            words.append("--allow-code")  # of the user, who has just run it
        say(f"look closer:   python -m seqmnist_tf.evaluate {shlex.join(words)}")
    say("all options:   python -m seqmnist_tf.train --help")


if __name__ == "__main__":
    system.run_command(main)
