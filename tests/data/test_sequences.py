"""Normalisation, pixel orders, splits and batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmnist_tf import data
from seqmnist_tf.config import sections
from seqmnist_tf.system import InputError
from tests.conftest import Command
from tests.toy import configure, toy_mnist


def test_sequences_are_the_pixels_row_by_row_from_the_top_left() -> None:
    images = np.arange(2 * 784, dtype=np.uint32).reshape(2, 28, 28).astype(np.uint8)
    sequences = data.encode(images, "unit", data.pixel_order("none"))
    assert sequences.shape == (2, 784, 1)
    assert sequences.dtype == np.float32
    np.testing.assert_array_equal(sequences[..., 0], images.reshape(2, 784).astype(np.float32) / np.float32(255))


def test_standard_normalisation_uses_the_published_constants() -> None:
    images = np.zeros((1, 28, 28), np.uint8)
    images[0, 0, :3] = 0, 128, 255
    pixels = data.encode(images, "standard", data.pixel_order("none"))[0, :3, 0]
    np.testing.assert_allclose(pixels, [(x / 255 - 0.1307) / 0.3081 for x in (0, 128, 255)], rtol=1e-6)


def test_the_order_is_applied_to_every_image() -> None:
    images = np.random.RandomState(0).randint(0, 256, (3, 28, 28)).astype(np.uint8)
    order = data.pixel_order("urnn92916")
    plain = data.encode(images, "unit", data.pixel_order("none"))
    np.testing.assert_array_equal(data.encode(images, "unit", order), plain[:, order])


def test_the_named_orders_are_the_published_ones() -> None:
    # numpy.random.RandomState(92916).permutation(784), whose stream numpy guarantees.
    assert data.pixel_order("none").tolist() == [*range(784)]
    np.testing.assert_array_equal(data.pixel_order("urnn92916"), data.pixel_order("seed:92916"))
    assert data.pixel_order("urnn92916")[:6].tolist() == [319, 576, 323, 107, 355, 716]
    for seed in (0, 92916, 10**9 - 1):
        drawn = np.random.RandomState(seed).permutation(784)
        np.testing.assert_array_equal(data.pixel_order(f"seed:{seed}"), drawn)
    # The even positions' reversal, then the odd ones': how a fast Fourier transform makes it.
    order = [0]
    while len(order) < 1024:
        order = [2 * i for i in order] + [2 * i + 1 for i in order]
    assert data.pixel_order("bit_reversal").tolist() == [i for i in order if i < 784]
    assert data.pixel_order("bit_reversal")[:8].tolist() == [0, 512, 256, 768, 128, 640, 384, 64]


def test_an_order_is_read_from_text_json_and_npy(tmp_path: Path) -> None:
    order = np.random.RandomState(3).permutation(784)
    np.savetxt(tmp_path / "order.txt", order, fmt="%d")
    (tmp_path / "order.json").write_text(json.dumps(order.tolist()))
    np.save(tmp_path / "order.npy", order)
    for name in ("order.txt", "order.json", "order.npy"):
        np.testing.assert_array_equal(data.pixel_order(f"file:{tmp_path / name}"), order)


def test_files_that_hold_no_bijection_are_refused(tmp_path: Path) -> None:
    for number, text in enumerate(("", "0 " * 784, "0 1 2", "zero", f"{[*range(1, 785)]}")):
        (tmp_path / f"{number}.txt").write_text(text)
    for name, order in {"f.npy": np.arange(784.0) + 0.5, "o.npy": np.array([{}], dtype=object)}.items():
        np.save(tmp_path / name, order, allow_pickle=True)
    paths = [tmp_path / "missing", tmp_path, *tmp_path.iterdir()]
    assert len(paths) == 9
    for path in paths:
        with pytest.raises(InputError, match=f"task.permutation file:{path}"):
            data.pixel_order(f"file:{path}")


def test_validation_is_the_end_of_the_training_set(toy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "NUM_TRAIN", 200)  # toy images
    images = toy_mnist()["train"].images
    for limit, size in ((0, 150), (20, 20)):
        config = configure(task__validation_size=50, task__limit_train=limit)
        splits = data.load_splits(config, data.pixel_order("none"))
        assert splits.validation is not None and splits.train.sequences.shape == (size, 784, 1)
        np.testing.assert_array_equal(splits.validation.images, images[150:])
        np.testing.assert_array_equal(splits.train.images, images[:size])


def test_epoch_orders_are_functions_of_seed_and_epoch() -> None:
    for seed, epoch in ((0, 0), (0, 2), (1, 2), (2, 1)):
        order = np.random.RandomState([seed, epoch]).permutation(100)
        np.testing.assert_array_equal(data.epoch_order(100, True, seed, epoch), order)
    np.testing.assert_array_equal(data.epoch_order(5, False, 1, 2), range(5))


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_cover_each_epoch_in_its_order(shuffle: bool, toy: None) -> None:
    config = configure(
        task__limit_train=40, train__batch_size=16, train__n_epochs=3, train__shuffle=shuffle, train__seed=9
    )
    splits = data.load_splits(config, data.pixel_order("none"))
    batches = [(x.numpy(), y.numpy()) for x, y in data.batches(splits.train, config, 0)]
    assert [len(y) for _, y in batches] == [16, 16, 8] * 3
    for epoch in range(3):
        order = data.epoch_order(40, shuffle, 9, epoch)
        of_epoch = batches[3 * epoch : 3 * epoch + 3]
        np.testing.assert_array_equal(np.concatenate([x for x, _ in of_epoch]), splits.train.sequences[order])
        np.testing.assert_array_equal(np.concatenate([y for _, y in of_epoch]), splits.train.labels[order])
    later = [(x.numpy(), y.numpy()) for x, y in data.batches(splits.train, config, 2)]
    assert len(later) == 3
    for (x, y), (x_whole, y_whole) in zip(later, batches[6:], strict=True):
        np.testing.assert_array_equal(x, x_whole)
        np.testing.assert_array_equal(y, y_whole)


@pytest.mark.parametrize("name", ["urnn", "bitreversal", "seed:abc", "seed:99999999999", ""])
def test_orders_of_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"task\.permutation"):
        data.pixel_order(name)
    with pytest.raises(InputError, match=r"task\.permutation"):
        data.load_sequences(permutation=name)


def test_plain_keras_reads_what_train_reads(toy: None) -> None:
    values = {"permutation": "urnn92916", "normalization": "unit", "validation_size": 50, "limit_train": 20}
    config = configure(**{f"task__{key}": value for key, value in values.items()}, task__limit_test=7)
    splits = data.load_splits(config, data.pixel_order("urnn92916"))
    parts = data.load_sequences(**values, limit_test=7)  # type: ignore[arg-type]
    assert [len(labels) for _, labels in parts] == [20, 50, 7]
    for (sequences_, labels), split in zip(parts, (splits.train, splits.validation, splits.test), strict=True):
        assert split is not None
        np.testing.assert_array_equal(sequences_, split.sequences)
        np.testing.assert_array_equal(labels, split.labels)
    assert len(data.load_sequences(data_dir=Path("data"))) == 2
    assert len(data.load_sequences()) == 2


def test_the_command_prepares_the_data_and_says_where(
    command: Command, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqmnist_tf.data import mnist
    from seqmnist_tf.data.__main__ import main

    asked: list[tuple[Any, ...]] = []

    def load(*args: Any) -> dict[str, Any]:
        asked.append(args)
        return toy_mnist()

    monkeypatch.setattr(mnist, "load_mnist", load)
    result = command(main, "--dir", "here")
    assert (result.status, result.out) == (0, "MNIST is ready in here: 200 train images, 60 test images\n")
    assert asked == [("auto", "here")]
    assert "data.source must be auto, tfds or pypi" in command(main, "--source", "web").err
