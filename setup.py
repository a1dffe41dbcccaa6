"""Compiles the native LSTM kernel where there is a compiler; pyproject.toml has everything else."""

import hashlib
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup

SOURCES = Path("seqmnist_tf/lstm/cpp")


def extensions() -> list[Extension]:
    """Return the kernel's library, which is optional: without a compiler the installation lacks it."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return []
    sources = sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")])  # as in seqmnist_tf/lstm/native.py
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return [
        Extension(
            "seqmnist_tf.lstm._lstm",
            sources=[str(SOURCES / "lstm.cpp")],
            depends=[str(path) for path in sources],
            define_macros=[("LSTM_SOURCE", f'"{digest}"')],
            extra_compile_args=["-std=c++17", "-O3", "-pthread"],
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        )
    ]


setup(ext_modules=extensions())
