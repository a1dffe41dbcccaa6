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

For plain Keras code: ``load_sequences`` returns the data, and ``LSTM`` and ``RNN`` are drop-ins for those of
``keras.layers`` on the native CPU kernel. The commands are ``python -m seqmnist_tf.data``, ``train``, ``evaluate``,
``compare``, ``tune``, ``export``, ``serve``, ``client``, ``benchmark`` and ``results``; ``python -m seqmnist_tf``
lists them, and each has ``--help``.
"""

from .system import open_door

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = open_door(
    __name__, __file__, light=("config", "train"), rooms=("compare", "evaluate", "train")
)
__all__ += ["__version__"]
