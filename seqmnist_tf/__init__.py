"""The LSTM baseline on sequential MNIST, in Keras.

An experiment is a value: a configuration goes in, a run directory comes out. ::

    from dataclasses import replace
    import seqmnist_tf

    config = seqmnist_tf.preset("quickstart")                                    # a frozen configuration
    config = replace(config, train=replace(config.train, seed=1))
    summary = seqmnist_tf.train(config, "runs/mine")                             # a few minutes
    print(summary["final"]["test_accuracy"], seqmnist_tf.load_run("runs/mine").history()[-1])
    print(seqmnist_tf.evaluate("runs/mine").to_text())

Compare your layer with the LSTM, over seeds, with tests::

    seqmnist_tf.compare(["results/strong", "my_layer.py:MyLayer"], seeds=range(6), directory="runs/mine-and-lstm")

For plain Keras code: ``load_sequences`` returns the data; ``LSTM``, ``GRU``, ``SimpleRNN`` and ``RNN`` are drop-ins for
those of ``keras.layers`` on the native CPU kernel, and ``to_keras`` makes a model of stock layers from them.
``python -m seqmnist_tf`` lists the commands.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .system import lazy_names, when_keras_is_imported

if TYPE_CHECKING:
    from .compare import Comparison as Comparison
    from .compare import compare as compare
    from .config import Config as Config
    from .config import preset as preset
    from .data import load_sequences as load_sequences
    from .evaluate import evaluate as evaluate
    from .kernel import GRU as GRU
    from .kernel import LSTM as LSTM
    from .kernel import RNN as RNN
    from .kernel import SimpleRNN as SimpleRNN
    from .kernel import to_keras as to_keras
    from .train import Metrics as Metrics
    from .train import RunDirectory as RunDirectory
    from .train import load_run as load_run
    from .train import train as train
else:
    # These subpackages import TensorFlow themselves, for the names that need it.
    __getattr__, __dir__, __all__ = lazy_names(__name__, without_tensorflow=("compare", "config", "evaluate", "train"))

__version__ = "0.3.0"
FUNCTIONS_NAMED_AS_MODULES = ("compare", "evaluate", "train")


class _Package(ModuleType):
    """The package. Python would set ``seqmnist_tf.train`` to the module of this name; here it stays the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in FUNCTIONS_NAMED_AS_MODULES:
            return
        super().__setattr__(name, value)


def _register_drop_ins(keras: ModuleType) -> None:
    """Let Keras load saved models that name the drop-ins."""
    if keras.backend.backend() == "tensorflow":
        importlib.import_module(f"{__name__}.kernel.layer")


sys.modules[__name__].__class__ = _Package
when_keras_is_imported(_register_drop_ins)
