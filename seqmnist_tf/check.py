"""Check a recurrent layer in seconds, without data: is it one, how large is it, what computes it, how fast.

python -m seqmnist_tf.check FILE.py:NAME | MODULE:NAME | LAYER [--SECTION.KEY VALUE ...]
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from . import config as cfg
from . import model, system
from .compare import Arm, parse_arms
from .config import Config, LayerFile
from .system import duration

if TYPE_CHECKING:
    import keras

RECIPE, SEEDS = "sprint_15", 6  # whose hours are estimated
UNITS, PARAMETERS = 128, 67_850  # of the published LSTMs


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = system.Parser(
        prog="python -m seqmnist_tf.check",
        description="Check a layer as train, compare and tune do, and time its training step. No data is read.",
    )
    parser.usage = f"{parser.prog} LAYER [--SECTION.KEY VALUE ...]"
    parser.add_argument("layer", metavar="LAYER", help="FILE.py:NAME, MODULE:NAME, or a layer of Keras such as GRU")
    options, rest = parser.parse_known_args(argv)
    cfg.OPTIONS["model.layer"].check(options.layer)
    _, arm = parse_arms([RECIPE, options.layer], cfg.read_flags(rest, parser.prog))
    with contextlib.redirect_stdout(sys.stderr):  # what the layer's code prints
        rows = check(arm)
    system.say("\n".join(f"{name:<12}{text}" for name, text in rows.items()))
    return system.EXIT_DONE


def check(arm: Arm) -> dict[str, str]:
    """Return what a layer is and what it takes, by headings; raise LayerError where it cannot be trained."""
    with model.TimingProcess() as ours:  # it starts while the layer is checked
        system.start_tensorflow(arm.config.train.threads)
        config = model.match_units(cfg.with_values(arm.config, {"model.match_parameters": PARAMETERS}), arm.file)
        model.check_layer(config, arm.file)
        ours.send(config, arm.file)
        on_stock = model.TimedModel(cfg.with_values(config, {"train.kernel": "keras"}), arm.file)
        whole, units, kernel = on_stock.stock, config.model.hidden_size, ours.receive()
        layer = whole.layers[0]
        cell = f" of {type(layer.cell).__name__}" if hasattr(layer, "cell") else ""
        return {
            "layer": f"{type(layer).__name__}{cell}: sequences (n, 784, 1) to (n, {units})",
            "checked": "shape, gradient, rows alone and among others, saving and loading, repeating from its state",
            "parameters": count_parameters(config, arm.file, whole),
            "kernel": kernel.name if kernel.isa else f"stock Keras: {kernel.reason or 'train.kernel is keras'}",
            **describe_times(config, kernel, ours.call("fastest_step"), on_stock.fastest_step()),
        }


def count_parameters(config: Config, file: LayerFile | None, matched: keras.Model) -> str:
    """Return how many parameters the model has with the usual units and, if others match the LSTM's, with these."""
    usual = model.build_model(replace(config, model=replace(config.model, hidden_size=UNITS)), file)
    text = f"{usual.count_params():,} with {UNITS} units and ten outputs"
    if (units := config.model.hidden_size) != UNITS:
        text += f"; {units} units have {matched.count_params():,}, nearest to the LSTM's {PARAMETERS:,}"
    return text


def describe_times(config: Config, kernel: model.Kernel, step: model.Timed, stock_step: model.Timed) -> dict[str, str]:
    """Return the time of a training step on stock Keras and, where it can be used, on the kernel; and of whole runs."""
    text = f"{1000 * stock_step.seconds:.0f} ms on stock Keras"
    if kernel.isa:
        text += f", {1000 * step.seconds:.0f} ms on the kernel ({stock_step.seconds / step.seconds:.1f} times as fast)"
    # The final evaluation is on stock Keras: a third of a step's time for as many images.
    evaluation = stock_step.seconds * config.num_test / config.train.batch_size / 3
    seconds = 3600 * model.Pace(kernel, step.seconds, evaluation, step.peak_mb).hours(config)
    return {
        "step": f"{text}, for {config.train.batch_size} images",
        "memory": f"{step.peak_mb:,.0f} MB" if step.peak_mb else "not known on this system",
        "time": f"about {duration(seconds)} a run of {RECIPE}, {duration(SEEDS * seconds)} for {SEEDS} seeds, here",
    }


if __name__ == "__main__":
    system.run_command(main)
