"""The kernel of a run: the implementation that computes its LSTM."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Config
from ..system import InputError
from . import native
from .layer import why_not_native


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
        """``native-<isa>`` or ``keras``."""
        return f"native-{self.isa}" if self.isa else "keras"


def choose_kernel(config: Config) -> Kernel:
    """Return the kernel that ``train.kernel`` selects on this machine.

    Raises:
        InputError: it is ``native`` and the native kernel cannot be used.
    """
    if config.train.kernel == "keras":
        return Kernel(None)
    reason = why_not_native()
    if config.model.layer != "LSTM":
        reason = f"model.layer is {config.model.layer}"
    elif config.model.hidden_size % native.UNIT_MULTIPLE:
        reason = f"model.hidden_size is {config.model.hidden_size}, not a multiple of {native.UNIT_MULTIPLE}"
    if reason is None:
        return Kernel(native.instruction_set())
    if config.train.kernel == "native":
        raise InputError(f"train.kernel must be auto or keras here (got 'native'): {reason}")
    return Kernel(None, reason)
