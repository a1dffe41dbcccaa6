"""Check a recurrent layer in seconds, without data: is it one, how large is it, what computes it, how fast.

python -m seqmnist_tf.check FILE.py:NAME | MODULE:NAME | LAYER [--SECTION.KEY VALUE ...]
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace

from . import config as cfg
from . import model, system
from .compare import Arm, parse_arms
from .config import Config
from .system import duration

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
    with model.TimingProcess() as ours, model.TimingProcess() as stock:  # they start while the layer is checked
        config = model.match_units(cfg.with_values(arm.config, {"model.match_parameters": PARAMETERS}), arm.file)
        model.check_layer(config, arm.file)
        whole, units = model.build_model(config, arm.file), config.model.hidden_size
        usual = model.build_model(replace(config, model=replace(config.model, hidden_size=UNITS)), arm.file)
        parameters = f"{usual.count_params():,} with {UNITS} units and ten outputs"
        if units != UNITS:
            parameters += f"; {units} units have {whole.count_params():,}, nearest to the LSTM's {PARAMETERS:,}"
        layer, kernel = whole.layers[0], model.choose_kernel(config, whole)
        cell = f" of {type(layer.cell).__name__}" if hasattr(layer, "cell") else ""
        ours.send(config, arm.file)
        stock.send(cfg.with_values(config, {"train.kernel": "keras"}), arm.file)
        return {
            "layer": f"{type(layer).__name__}{cell}: sequences (n, 784, 1) to (n, {units})",
            "checked": "shape, gradient, rows alone and among others, saving and loading, repeating from its state",
            "parameters": parameters,
            "kernel": kernel.name if kernel.isa else f"stock Keras: {kernel.reason or 'train.kernel is keras'}",
            **time_steps(config, ours, stock),
        }


def time_steps(config: Config, ours: model.TimingProcess, stock: model.TimingProcess) -> dict[str, str]:
    """Return the time of a training step on stock Keras and, where it can be used, on the kernel; and of whole runs."""
    kernel, _ = ours.receive(), stock.receive()  # both are built at the same time, and timed one after the other
    step, stock_step = ours.fastest_step(), stock.fastest_step()
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
