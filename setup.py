"""Compiles the native LSTM kernel where that is possible; everything else about the package is in pyproject.toml."""

import hashlib
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup

FOLDER = Path("seqmnist_tf/kernels")


def extensions() -> list[Extension]:
    """Return the kernel's library, which an installation without a compiler goes without."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return []
    sources = sorted([*FOLDER.glob("*.cpp"), *FOLDER.glob("*.h")])  # as seqmnist_tf.kernels.native has them
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return [
        Extension(
            "seqmnist_tf.kernels._lstm",
            sources=[str(FOLDER / "lstm.cpp")],
            depends=[str(path) for path in sources],
            define_macros=[("LSTM_SOURCE", f'"{digest}"')],
            extra_compile_args=["-std=c++17", "-O3", "-pthread"],
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        )
    ]


setup(ext_modules=extensions())
