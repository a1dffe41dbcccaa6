"""The batches that ``fit`` and ``predict`` read."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from ..config import Config
from .sequences import Split


def epoch_order(num_examples: int, shuffle: bool, seed: int, epoch: int) -> np.ndarray:
    """Return the order of the training examples in an epoch, int64 (n,): a function of its arguments alone.

    Args:
        num_examples: n.
        shuffle: False for the published order.
        seed: 0 to 2**32 - 1.
        epoch: 0 for the first.
    """
    # RandomState's stream is frozen by numpy's policy (NEP 19): the same order in every later version.
    order = np.random.RandomState([seed, epoch]).permutation(num_examples) if shuffle else np.arange(num_examples)
    return order.astype(np.int64)  # C longs have 32 bits on Windows


def batches(train: Split, config: Config, first_epoch: int) -> tf.data.Dataset:
    """Return the batches of all epochs from ``first_epoch`` (0 for the first) on, one after the other.

    Each element is (sequences float32 (b, 784, 1), labels int32 (b,)), where b is ``train.batch_size`` or, for the last
    of an epoch, what is left. ``fit`` needs ``steps_per_epoch`` beside it.
    """
    sequences, labels = tf.constant(train.sequences), tf.constant(train.labels)

    def order(epoch: np.ndarray) -> np.ndarray:
        return epoch_order(len(train), config.train.shuffle, config.train.seed, int(epoch))

    def one_epoch(epoch: Any) -> tf.data.Dataset:
        indices = tf.numpy_function(order, [epoch], tf.int64, stateful=False)
        indices.set_shape((len(train),))
        return tf.data.Dataset.from_tensor_slices(indices).batch(config.train.batch_size)

    def examples(indices: Any) -> tuple[Any, Any]:
        return tf.gather(sequences, indices), tf.gather(labels, indices)

    epochs = tf.data.Dataset.range(first_epoch, config.train.n_epochs)
    return _without_autotune(epochs.flat_map(one_epoch).map(examples).prefetch(2))


def in_batches(sequences: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Return sequences float32 (n, 784, 1) in batches, in their order, for ``predict``."""
    return _without_autotune(tf.data.Dataset.from_tensor_slices(sequences).batch(batch_size))


def _without_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Switch off tf.data's tuning thread, which sleeps for longer and longer, up to a minute, before it ends.

    With it, each ``predict`` on numpy arrays would last until the end of such a sleep: 2.6 s, 5.2 s, 10.3 s, ...
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
