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
        isa: the native kernel's instruction set, or None for stock Keras.
        reason: why ``auto`` fell back to stock Keras, or None.
    """

    isa: str | None
    reason: str | None = None

    @property
    def name(self) -> str:
        """``keras`` or ``native-<isa>``."""
        return f"native-{self.isa}" if self.isa else "keras"


def choose_kernel(config: Config, model: keras.Sequential | None = None) -> Kernel:
    """Return the kernel that ``train.kernel`` selects on this machine.

    Args:
        model: the configuration's model. A layer of one's own is computed by the native kernel where it is, or stacks,
            LSTMs of Keras that the kernel supports; without the model this is not known, and the answer is stock Keras.

    Raises:
        InputError: ``train.kernel`` is ``native``, and the native kernel cannot be used.
    """
    if config.train.kernel == "keras":
        return Kernel(None)
    layer, reason = config.model.layer, why_not_native()
    if model is None and not has_stock_layer(config):
        return Kernel(None)
    found, problems = lstms_for_kernel(model.layers[0]) if model else ([], [])
    if layer != "LSTM" and not found:
        reason = "".join([f"model.layer is {layer}", *(f", whose {problem}" for problem in problems[:1])])
    if reason is None:
        return Kernel(native.instruction_set())
    if config.train.kernel == "native":
        raise InputError(f"train.kernel must be auto or keras here (got 'native'): {reason}")
    return Kernel(None, reason)
