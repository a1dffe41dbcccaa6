"""Sequential MNIST: images to sequences, the splits of a configuration, and the batches that a model reads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from ..config import NUM_TIMESTEPS, Config, validate, with_values
from .mnist import Examples, load_mnist
from .pixel_orders import pixel_order

# Mean and standard deviation of the training pixels scaled to [0, 1], as the original project rounds them.
MEAN, STD = 0.1307, 0.3081


@dataclass(frozen=True)
class Split:
    """Part of MNIST.

    Attributes:
        images: uint8 (n, 28, 28), 0 to 255.
        sequences: float32 (n, 784, 1), the normalised pixels in the order in which the model reads them.
        labels: int32 (n,), 0 to 9.
    """

    images: np.ndarray
    sequences: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Splits:
    """The data of a run. ``validation`` is None where nothing is held out, ``test`` where the test set is not read."""

    train: Split
    validation: Split | None
    test: Split | None


def normalized_levels(normalization: str) -> np.ndarray:
    """Return the normalised value of each grey level 0 to 255, float32 (256,)."""
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    if normalization == "standard":
        levels = (levels - np.float32(MEAN)) / np.float32(STD)
    return levels


def encode(images: np.ndarray, normalization: str, order: np.ndarray) -> np.ndarray:
    """Return images uint8 (n, 28, 28) as sequences float32 (n, 784, 1), read in a pixel order int (784,).

    ``normalization`` is ``standard`` for (x / 255 - 0.1307) / 0.3081, ``unit`` for x / 255.
    """
    return normalized_levels(normalization)[images.reshape(len(images), NUM_TIMESTEPS)[:, order]][..., None]


def load_splits(config: Config, order: np.ndarray) -> Splits:
    """Return the splits of a configuration, read in a pixel order int (784,), see :func:`pixel_order`.

    The test set is not read where ``test.enabled`` is false.
    """
    train = load_mnist(config.data.source, config.data.dir, ("train",))["train"]
    held_out = config.task.validation_size
    validation = _split(train, slice(-held_out, None), config, order) if held_out else None
    test = load_test(config, order) if config.test.enabled else None
    return Splits(_split(train, slice(config.num_train), config, order), validation, test)


def load_test(config: Config, order: np.ndarray) -> Split:
    """Return the test split of a configuration; arguments as :func:`load_splits`."""
    mnist = load_mnist(config.data.source, config.data.dir, ("test",))
    return _split(mnist["test"], slice(config.num_test), config, order)


def _split(examples: Examples, part: slice, config: Config, order: np.ndarray) -> Split:
    images, labels = examples.images[part], examples.labels[part]
    return Split(images, encode(images, config.task.normalization, order), labels.astype(np.int32))


def load_sequences(
    *,
    permutation: str = "none",
    normalization: str = "standard",
    validation_size: int = 0,
    limit_train: int = 0,
    limit_test: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return sequential MNIST for plain Keras: the same arrays that ``train`` reads with the same values.

    The first call downloads and prepares MNIST.

    Args:
        permutation: the pixel order, as ``task.permutation``.
        normalization: ``standard`` or ``unit``, as ``task.normalization``.
        validation_size: hold out the last N training images, below 60,000.
        limit_train, limit_test: the first N images, up to 60,000 and 10,000; 0 is all.
        data_dir: folder of the data; None is tensorflow-datasets' own.

    Returns:
        ``(x_train, y_train), (x_test, y_test)``, or with ``validation_size``
        ``(x_train, y_train), (x_validation, y_validation), (x_test, y_test)``. Sequences are float32 (n, 784, 1) in
        published order, labels int32 (n,), 0 to 9; n is 60,000 and 10,000 where nothing is held out or left out.

    Raises:
        InputError: a value that is not allowed.
        RunError: no source of MNIST could be reached.

    Example::

        (x_train, y_train), (x_test, y_test) = load_sequences(permutation="urnn92916")
        model.fit(x_train, y_train, validation_data=(x_test, y_test))
    """
    values = {
        "task.permutation": permutation,
        "task.normalization": normalization,
        "task.validation_size": validation_size,
        "task.limit_train": limit_train,
        "task.limit_test": limit_test,
        "data.dir": None if data_dir is None else os.fspath(data_dir),
    }
    splits = load_splits(validate(with_values(Config(), values)), pixel_order(permutation))
    parts = [part for part in (splits.train, splits.validation, splits.test) if part is not None]
    return tuple((part.sequences, part.labels) for part in parts)


def epoch_order(num_examples: int, shuffle: bool, seed: int, epoch: int) -> np.ndarray:
    """Return the order of the training examples in an epoch, int64 (n,): a function of its arguments alone."""
    # RandomState's stream is frozen by numpy's policy (NEP 19): the same order in every later version.
    order = np.random.RandomState([seed, epoch]).permutation(num_examples) if shuffle else np.arange(num_examples)
    return order.astype(np.int64)  # C longs have 32 bits on Windows


def batches(train: Split, config: Config, first_epoch: int) -> tf.data.Dataset:
    """Return the batches of all epochs from ``first_epoch`` (0 for the first) on, one after the other.

    A batch is (sequences float32 (b, 784, 1), labels int32 (b,)); b is ``train.batch_size``, less in an epoch's last.
    ``fit`` needs ``steps_per_epoch`` beside it.
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
    """Switch off tf.data's tuning thread: ``predict`` on NumPy arrays waits for its end (2.6 s, 5.2 s, 10.3 s, ...)."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
