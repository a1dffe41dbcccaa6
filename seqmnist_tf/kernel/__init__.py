"""Fast recurrent layers for any Keras model on CPUs: drop-ins for Keras's own, on a native kernel.

Read ``layer`` (the drop-ins) and ``translation`` (from a cell to its program) first, then what that calls:
``tracing``, ``operations``, ``expressions``, ``schedule``, ``program``. ``machine`` and ``native`` run the program.
docs/kernel.md carries a cell through all of them.

It may not know of the experiment: it could be a separate package.
"""

from typing import TYPE_CHECKING

from ..system import lazy_names

if TYPE_CHECKING:
    from . import native
    from .layer import GRU, LSTM, RNN, DropIn, SimpleRNN, drop_ins, kernel_problems, on_kernel, to_keras, why_not_native
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, without_tensorflow=("native",))
