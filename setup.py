"""Compiles the native kernel where there is a compiler; pyproject.toml has everything else."""

import hashlib
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist
from setuptools.errors import CompileError

SOURCES = Path("seqmnist_tf/kernel/cpp")
SYSTEMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))  # that the kernel's sources are for
LIBRARY = Path("seqmnist_tf/kernel/_lstm.so")  # as in seqmnist_tf/kernel/native.py


def extensions() -> list[Extension]:
    """Return the kernel's library, which is optional: without a compiler the installation lacks it."""
    if (sys.platform, platform.machine()) not in SYSTEMS:
        return []
    sources = sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")])  # as in seqmnist_tf/kernel/native.py
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return [
        Extension(
            "seqmnist_tf.kernel._lstm",
            sources=[str(path) for path in sorted(SOURCES.glob("*.cpp"))],
            depends=[str(path) for path in sources],
            define_macros=[("LSTM_SOURCE", f'"{digest}"')],
            extra_compile_args=["-std=c++17", "-O3", "-g0", "-pthread"],  # Python's own -g makes 6 MB of 0.5
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        )
    ]


class BuildLibrary(build_ext):
    """The kernel is a plain library, which ctypes loads: its file has one name for all Pythons."""

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except CompileError:
            print("compiling again without AMX, which assemblers of binutils before 2.36 do not know")
            ext.define_macros.append(("LSTM_NO_AMX", "1"))
            super().build_extension(ext)

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"


class TrackedFiles(sdist):
    """A source distribution of a clone has the files that git tracks, and no export or notebook of its user."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        if Path(".git").exists():
            listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True).stdout
            tracked = set(listed.split("\0"))
            files = [name for name in files if name in tracked or name.startswith("seqmnist_tf.egg-info")]
        super().make_release_tree(base_dir, files)


class Wheel(bdist_wheel):
    """One wheel for all Pythons; for all systems too where the kernel was not compiled."""

    def get_tag(self) -> tuple[str, str, str]:
        self.root_is_pure = not (Path(self.bdist_dir) / LIBRARY).is_file()
        return "py3", "none", "any" if self.root_is_pure else super().get_tag()[2]


def description() -> str:
    """Return README.md as it can stand outside of the repository: without pictures, comments and relative links."""
    text = Path("README.md").read_text(encoding="utf-8")
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = re.sub(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n*", "", text)
    return re.sub(r"\[([^\]]*)\]\((?!https?:|#)[^)]*\)", r"\1", text)


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": Wheel, "sdist": TrackedFiles},
    long_description=description(),
    long_description_content_type="text/markdown",
)
