"""The LSTM baseline on sequential MNIST, in Keras.

An experiment is a value: a configuration goes in, a run directory comes out. ::

    from dataclasses import replace
    import seqmnist_tf

    config = seqmnist_tf.preset("quickstart")                                    # a frozen configuration
    config = replace(config, train=replace(config.train, seed=1))
    summary = seqmnist_tf.train(config, "runs/mine")                             # a few minutes
    print(summary["final"]["test_accuracy"], seqmnist_tf.load_run("runs/mine").history()[-1])
    print(seqmnist_tf.evaluate("runs/mine").to_text())

A layer of your own stands beside the LSTM, over seeds, with tests::

    seqmnist_tf.compare(["results/strong", "my_layer.py:MyLayer"], seeds=range(6), directory="runs/mine-and-lstm")

For plain Keras code: ``load_sequences`` returns the data; ``LSTM``, ``GRU``, ``SimpleRNN`` and ``RNN`` are drop-ins for
those of ``keras.layers`` on the native CPU kernel, and ``to_keras`` makes a model of stock layers from them. The
commands are ``python -m seqmnist_tf.data``, ``train``, ``check``, ``evaluate``, ``compare``, ``tune``, ``export``,
``serve``, ``client``, ``benchmark`` and ``results``; ``python -m seqmnist_tf`` lists them, and each has ``--help``.
"""

import importlib

from .system import open_door, when_imported

__version__ = "0.3.0"

__getattr__, __dir__, __all__ = open_door(
    __name__, __file__, light=("config", "train"), rooms=("compare", "evaluate", "train")
)
__all__ += ["__version__"]

# A saved model names the drop-ins: Keras knows them wherever it is imported beside this package.
when_imported(
    "keras",
    lambda keras: keras.backend.backend() == "tensorflow" and importlib.import_module(f"{__name__}.kernel.layer"),
)
