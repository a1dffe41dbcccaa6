"""The kernel of a run: the implementation that computes its LSTM."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from ..config import Config, has_stock_layer
from ..kernel import lstms_for_kernel, native, why_not_native
from ..system import InputError


@dataclass(frozen=True)
class Kernel:
    """The implementation of the LSTM in training and in the evaluation after each epoch.

    Attributes:
        isa: the native kernel's instruction set in training, or None for stock Keras.
        reason: why ``auto`` fell back to stock Keras, or None.
        precision: of the products in training, ``float32`` or ``tf32``.
        evaluation_isa: the instruction set of evaluations, which are in float32, where it is another one.
    """

    isa: str | None
    reason: str | None = None
    precision: str = "float32"
    evaluation_isa: str | None = None

    @property
    def name(self) -> str:
        """``keras``, ``native-<isa>``, or ``native-<isa>-<isa>`` where evaluations are on another one."""
        return "-".join(["native", *filter(None, (self.isa, self.evaluation_isa))]) if self.isa else "keras"


def choose_kernel(config: Config, model: keras.Sequential | None = None) -> Kernel:
    """Return the kernel that ``train.kernel`` selects on this machine.

    Args:
        model: the configuration's model. A layer of one's own is computed by the native kernel where it is, or stacks,
            LSTMs of Keras that the kernel supports; without the model this is not known, and the answer is stock Keras.

    Raises:
        InputError: ``train.kernel`` is ``native`` or ``train.precision`` is ``tf32``, and the native kernel cannot be
            used.
    """
    if config.train.kernel == "keras":
        return Kernel(None)
    precision, layer = config.train.precision, config.model.layer
    reason = why_not_native(precision)
    if model is None and not has_stock_layer(config):
        return Kernel(None)
    found, problems = lstms_for_kernel(model.layers[0]) if model else ([], [])
    if layer != "LSTM" and not found:
        reason = "".join([f"model.layer is {layer}", *(f", whose {problem}" for problem in problems[:1])])
    if reason is None and precision == "float32":
        return Kernel(native.instruction_set())
    if reason is None:
        return Kernel(native.instruction_set(precision), None, precision, native.instruction_set())
    if precision != "float32":
        raise InputError(f"train.precision must be float32 here (got {precision!r}): {reason}")
    if config.train.kernel == "native":
        raise InputError(f"train.kernel must be auto or keras here (got 'native'): {reason}")
    return Kernel(None, reason)
