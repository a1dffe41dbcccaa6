"""Sequential MNIST: normalisation, pixel order, splits, and the batches that ``fit`` reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .config import NUM_TIMESTEPS, Config
from .errors import InputError
from .mnist import Examples, load_mnist

if TYPE_CHECKING:
    import tensorflow as tf

# Mean and standard deviation of the training pixels scaled to [0, 1], as the original project rounds them.
MEAN, STD = 0.1307, 0.3081


@dataclass(frozen=True)
class Split:
    """Images uint8 (n, 28, 28), sequences float32 (n, 784, 1) as the model reads them, labels int32 (n,), 0 to 9."""

    images: np.ndarray
    sequences: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Splits:
    """What a run reads. ``validation`` is None where nothing is held out, ``test`` where the test set is not read."""

    train: Split
    validation: Split | None
    test: Split | None


def pixel_order(permutation: str) -> np.ndarray:
    """Return the order in which the pixels are read: position t of the sequence is pixel ``order[t]``, row by row.

    Args:
        permutation: ``none``, ``urnn92916``, ``bit_reversal``, ``seed:N`` or ``file:PATH``, as ``task.permutation``.

    Returns:
        int64 (784,), each of 0 to 783 once.

    Raises:
        InputError: a file that cannot be read or holds no such order.
    """
    if permutation == "urnn92916":
        # The seed of the unitary RNN experiments (Arjovsky, Shah & Bengio 2016) and of many papers after them.
        permutation = "seed:92916"
    if permutation == "bit_reversal":
        # As HiPPO and S4: the bit reversal of 1024 positions, of which those below 784 remain.
        reversed_bits = [int(f"{i:010b}"[::-1], 2) for i in range(1024)]
        return np.array([i for i in reversed_bits if i < NUM_TIMESTEPS])
    if permutation.startswith("seed:"):
        return np.random.RandomState(int(permutation.removeprefix("seed:"))).permutation(NUM_TIMESTEPS)
    if permutation.startswith("file:"):
        return read_pixel_order(Path(permutation.removeprefix("file:")))
    return np.arange(NUM_TIMESTEPS)


def read_pixel_order(path: Path) -> np.ndarray:
    """Return the pixel order of a file: 784 indices in ``.npy``, or as text between white space, commas or brackets.

    Raises:
        InputError: the file cannot be read or its numbers are not each of 0 to 783 once.
    """
    allowed = "a file of 784 integers, each of 0 to 783 once"
    try:
        if path.suffix == ".npy":
            order = np.load(path, allow_pickle=False)
        else:
            words = path.read_text(encoding="utf-8").translate(str.maketrans(",[]", "   ")).split()
            order = np.array([int(word) for word in words], dtype=np.int64)
    except OSError as error:
        raise InputError(f"task.permutation must name {allowed} (got {str(path)!r}: {error.strerror})") from None
    except (ValueError, EOFError, OverflowError) as error:
        raise InputError(f"task.permutation must name {allowed} (got {str(path)!r}: {error})") from None
    is_bijection = order.dtype.kind in "iu" and np.array_equal(np.sort(order, axis=None), np.arange(NUM_TIMESTEPS))
    if not is_bijection or order.ndim != 1:
        raise InputError(
            f"task.permutation must name {allowed} (got {str(path)!r}: {order.size} values, "
            f"{len(np.unique(order))} different ones)"
        )
    return order.astype(np.int64)


def normalized_levels(normalization: str) -> np.ndarray:
    """Return what the model reads for each grey level 0 to 255, float32 (256,); arguments as :func:`encode`."""
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    if normalization == "standard":
        levels = (levels - np.float32(MEAN)) / np.float32(STD)
    return levels


def encode(images: np.ndarray, normalization: str, order: np.ndarray) -> np.ndarray:
    """Turn images into the sequences that the model reads.

    Args:
        images: uint8 (n, 28, 28), 0 to 255.
        normalization: ``standard`` for (x / 255 - 0.1307) / 0.3081, ``unit`` for x / 255.
        order: int (784,), a pixel order.

    Returns:
        float32 (n, 784, 1).
    """
    return normalized_levels(normalization)[images.reshape(len(images), NUM_TIMESTEPS)[:, order]][..., None]


def load_splits(config: Config, order: np.ndarray) -> Splits:
    """Return the splits of a configuration. The test set is not read where ``test.enabled`` is false."""
    names = ("train", "test") if config.test.enabled else ("train",)
    mnist = load_mnist(config.data.source, config.data.dir, names)
    held_out = len(mnist["train"].labels) - config.task.validation_size
    validation = test = None
    if config.task.validation_size:
        validation = _split(mnist["train"], slice(held_out, None), config, order)
    if config.test.enabled:
        test = _split(mnist["test"], slice(config.num_test), config, order)
    return Splits(_split(mnist["train"], slice(config.num_train), config, order), validation, test)


def load_test(config: Config, order: np.ndarray) -> Split:
    """Return the test split of a configuration, and read nothing else."""
    mnist = load_mnist(config.data.source, config.data.dir, ("test",))
    return _split(mnist["test"], slice(config.num_test), config, order)


def _split(examples: Examples, part: slice, config: Config, order: np.ndarray) -> Split:
    images, labels = examples.images[part], examples.labels[part]
    return Split(images, encode(images, config.task.normalization, order), labels.astype(np.int32))


def load_sequences() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return ``(x_train, y_train), (x_test, y_test)`` of sequential MNIST as the baseline reads it, for plain Keras.

    Sequences are float32 (n, 784, 1) in published order, labels int32 (n,); n is 60,000 and 10,000.
    """
    config, order = Config(), pixel_order("none")
    mnist = load_mnist(config.data.source, config.data.dir)
    train, test = (_split(mnist[name], slice(None), config, order) for name in ("train", "test"))
    return (train.sequences, train.labels), (test.sequences, test.labels)


def epoch_order(num_examples: int, shuffle: bool, seed: int, epoch: int) -> np.ndarray:
    """Return the order of the training examples in an epoch, int64 (n,): a function of its arguments alone.

    Args:
        num_examples: n.
        shuffle: False for the published order.
        seed: 0 to 2**32 - 1.
        epoch: 0 for the first.
    """
    if not shuffle:
        return np.arange(num_examples)
    # RandomState's stream is frozen by numpy's policy (NEP 19): the same order in every later version.
    return np.random.RandomState([seed, epoch]).permutation(num_examples)


def batches(train: Split, config: Config, first_epoch: int) -> tf.data.Dataset:
    """Return the batches of all epochs from ``first_epoch`` (0 for the first) on, one after the other.

    Each element is (sequences float32 (b, 784, 1), labels int32 (b,)), where b is ``train.batch_size`` or, for the last
    of an epoch, what is left. ``fit`` needs ``steps_per_epoch`` with it.
    """
    import tensorflow as tf

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
    import tensorflow as tf

    return _without_autotune(tf.data.Dataset.from_tensor_slices(sequences).batch(batch_size))


def _without_autotune(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Switch off tf.data's tuning thread, which sleeps for longer and longer, up to a minute, and is waited for.

    A ``predict`` on numpy arrays lasts 2.6 s, 5.2 s, 10.3 s, ..., the next of these after what it takes.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)
