"""AMX on processors without it: a library whose tiles are emulated.

``EMULATE_AMX=1 SEQMNIST_ISA=amx python -m pytest tests/kernel`` runs all tests of the kernel on it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from seqmnist_tf.kernel import native

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def emulating_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the kernel with emulated tiles, some 15 seconds, and return its folder."""
    folder = tmp_path_factory.mktemp("emulating")
    options = ["-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-pthread", "-include", str(HERE / "amx_emulation.h")]
    macros = ["-DLSTM_EMULATE_AMX", f'-DLSTM_SOURCE="{native.source_hash()}"']
    sources = map(str, native.SOURCES.glob("*.cpp"))
    subprocess.run(["g++", *options, *macros, *sources, "-o", str(folder / "_lstm.so")], check=True)
    return folder


@pytest.fixture
def emulated_amx(emulating_library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the kernel on emulated tiles."""
    monkeypatch.setenv("SEQMNIST_ISA", "amx")
    with _from(emulating_library):
        yield


@pytest.fixture(scope="session", autouse="EMULATE_AMX" in os.environ)
def everything_on_emulated_amx(emulating_library: Path) -> Iterator[None]:
    with _from(emulating_library):
        yield


@contextlib.contextmanager
def _from(folder: Path) -> Iterator[None]:
    """Let the kernel be loaded from a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "FOLDER", folder)
        native.library.cache_clear()
        yield
    native.library.cache_clear()
