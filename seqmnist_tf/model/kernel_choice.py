"""Which kernel computes a configuration's recurrent layer on this machine, and why it is stock Keras where it is."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from ..config import Config, has_stock_layer
from ..kernel import drop_ins, kernel_problems, native, why_not_native
from ..system import InputError


@dataclass(frozen=True)
class Kernel:
    """The implementation of the recurrent layer in training and in the evaluation after each epoch."""

    isa: str | None  # the native kernel's instruction set, or None for stock Keras
    reason: str | None = None  # why ``auto`` fell back to stock Keras
    runs_programs: bool = False  # of a cell's step, not the kernel that LSTMs have

    @property
    def name(self) -> str:
        """``keras``, ``native-<isa>`` or, where programs are run, ``machine2-<isa>``; 2 counts changes of its bits."""
        if self.isa is None:
            return "keras"
        return f"machine2-{self.isa}" if self.runs_programs else f"native-{self.isa}"


def choose_kernel(config: Config, model: keras.Sequential | None = None) -> Kernel:
    """Return the kernel that ``train.kernel`` selects on this machine for the configuration's model.

    The native kernel computes a custom layer that is, or has, recurrent layers of Keras whose cell it can translate.
    Only the model shows that: without it, the answer is stock Keras for a custom layer, and a guess for a GRU or
    SimpleRNN. InputError is raised where ``train.kernel`` is ``native`` and it cannot be used.
    """
    if config.train.kernel == "keras" or (model is None and not has_stock_layer(config)):
        return Kernel(None)
    reason = why_not_native()
    runs_programs = config.model.layer != "LSTM"
    if reason is None and model and runs_programs:
        reason, runs_programs = _examine(config.model.layer, model)
    if reason is None:
        return Kernel(native.instruction_set(), runs_programs=runs_programs)
    if config.train.kernel == "native":
        raise InputError(f"train.kernel must be auto or keras here (got 'native'): {reason}")
    return Kernel(None, reason)


def _examine(layer: str, model: keras.Sequential) -> tuple[str | None, bool]:
    """Return why the kernel computes no part of a model's layer, or None; and whether it runs a program for a part."""
    found = drop_ins(model.layers[0])
    if not found:
        return f"model.layer is {layer}: it has no recurrent layer of Keras", False
    problems = kernel_problems(model.layers[0], found, model.input_shape)
    computed = [part.native for part, problem in zip(found, problems, strict=True) if problem is None]
    if not computed:
        return f"model.layer is {layer}: {problems[0]}", False
    return None, any(part.runs_program for part in computed)
