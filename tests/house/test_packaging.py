"""The built distributions: their contents, and that the wheel alone, in an environment of its own, runs commands."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import seqmnist_tf
from tests.toy import ROOT, toy_mnist

PACKAGE = ROOT / "seqmnist_tf"
COMMANDS = sorted(
    [path.parent.name for path in PACKAGE.glob("*/__main__.py")]
    + [path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")]
)
SMALL = ("--task.limit-train=40", "--train.n-epochs=1", "--wandb.mode=disabled")
TOY = '''\
"""Run a command of seqmnist_tf on toy data: python toy.py MODULE ARGUMENTS."""

import runpy
import sys
from pathlib import Path

import numpy as np

from seqmnist_tf import system

system.start_tensorflow()

from seqmnist_tf.data import mnist

ARRAYS = np.load(Path(__file__).with_name("toy.npz"))


def load_toy(source="auto", folder=None, splits=("train", "test")):
    return {name: mnist.Examples(ARRAYS[f"{name}_images"], ARRAYS[f"{name}_labels"]) for name in splits}


mnist.load_mnist = load_toy
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
'''


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_each_imported_package_is_declared() -> None:
    """A missing dependency shows only in an environment that lacks what the tests bring along."""
    extras = project()["optional-dependencies"]
    lines = [*project()["dependencies"], *extras["bench"], *extras["cluster"]]
    names_of = re.compile(r"[\w.-]+")
    installed = [name for line in lines for name in names_of.findall(line)[:1] if name not in ("jax", "torch")]
    lines += [line for name in installed for line in importlib.metadata.requires(name) or () if "extra ==" not in line]
    declared = {names_of.findall(line)[0].lower().replace("_", "-") for line in lines}
    modules: dict[str, str] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            modules.update({name.partition(".")[0]: f"{path.relative_to(ROOT)}" for name in names})
    for name in sys.stdlib_module_names | {"seqmnist_tf"}:
        modules.pop(name, None)
    providers = importlib.metadata.packages_distributions()
    undeclared = {
        name: path
        for name, path in modules.items()
        if not declared & {provider.lower().replace("_", "-") for provider in providers.get(name, [name])}
    }
    assert len(modules) > 10
    assert not undeclared


def test_version_and_address_are_everywhere_the_same() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == seqmnist_tf.__version__
    assert citation.get("repository-code") == project()["urls"].get("Repository")
    first = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert first in ("Unreleased", seqmnist_tf.__version__)  # until the release


def copy_working_tree(to: Path) -> set[str]:
    """Copy the files that git tracks, or would; return their paths."""
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split("\0")
    files = {name for name in names if (ROOT / name).is_file()}
    for name in files:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, to / name)
    return files


def build(source: Path) -> tuple[Path, Path]:
    """Build the source distribution, and the wheel from it; return both."""
    command = [sys.executable, "-m", "build", "--outdir", str(source / "dist"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = (source / "dist").glob("*.tar.gz"), (source / "dist").glob("*.whl")
    return sdist, wheel


def check_contents(sdist: Path, wheel: Path, files: set[str]) -> None:
    """The sdist is the clone without large files of results, and metadata; the wheel, the package and the kernel."""
    assert sdist.stat().st_size < 10e6
    large = ("model.keras", "predictions.csv", "steps.csv.gz")
    files = {name for name in files if not (name.startswith("results/") and name.endswith(large))}
    with tarfile.open(sdist) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    assert files <= held
    made = {name for name in held - files if not name.startswith("seqmnist_tf.egg-info/")}
    assert made == {"PKG-INFO", "setup.cfg"}
    assert {f"seqmnist_tf/kernel/cpp/lstm{end}" for end in (".cpp", ".h", "_amx.h", "_fma.h", "_simd.h")} <= held

    package = {name for name in files if name.startswith("seqmnist_tf/")}
    assert {"seqmnist_tf/py.typed", "seqmnist_tf/serve/web/index.html"} <= package
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        text = archive.read(metadata).decode()
    assert package <= names
    compiled = sys.platform == "linux" and os.uname().machine == "x86_64" and bool(shutil.which("g++"))
    assert names - package == ({"seqmnist_tf/kernel/_lstm.so"} if compiled else set())
    tag = "-py3-none-linux_x86_64.whl" if compiled else "-py3-none-any.whl"
    assert wheel.name.endswith(tag)  # one wheel for all Pythons
    assert "# seqmnist_tf" in text and not re.search(r"\]\((?!https?:)", text)  # no link that leads nowhere on an index


def install_alone(wheel: Path, folder: Path) -> Path:
    """Install the wheel into an environment that finds this one's packages, and not the clone; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    ours = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site_packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in ours))
    return python


class Shell:
    """Commands of the installed wheel, in a folder and with a HOME of their own."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python = str(python)
        self.folder = folder
        home = folder / "home"
        home.mkdir(parents=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WANDB"))}
        self.environment = {**kept, "HOME": str(home), "PYTHONUNBUFFERED": "1"}
        toy = {
            f"{name}_{part}": array for name, split in toy_mnist().items() for part, array in split._asdict().items()
        }
        np.savez(folder / "toy.npz", **toy)
        (folder / "toy.py").write_text(TOY)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Start Python with arguments."""
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([self.python, *argv], cwd=self.folder, env=self.environment, **pipes)

    def run(self, *argv: str) -> str:
        """Run Python with arguments and return its stdout; it must succeed."""
        with self.start(*argv) as process:
            out, err = process.communicate()
        assert process.returncode == 0, f"{argv}: {out}{err}"
        return out

    def toy(self, name: str, *argv: str) -> str:
        """Run a command on toy data and return its stdout."""
        return self.run("toy.py", f"seqmnist_tf.{name}", *argv)


def check_service(shell: Shell) -> None:
    """Serve the exported version; ask for its status, its page and, through the client, for the digit in a picture."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 13:16] = 255
    Image.fromarray(pixels).save(shell.folder / "digit.png")
    with shell.start("-m", "seqmnist_tf.serve", "--port", "0") as server:
        assert server.stdout and server.stderr
        line = server.stdout.readline()
        try:
            assert line.startswith("version 1 at http://127.0.0.1:"), line or server.stderr.read()
            url = line.split(" at ")[1].strip()
            with urllib.request.urlopen(f"{url}/v1/models/seqmnist") as response:
                assert json.load(response)["model_version_status"][0]["state"] == "AVAILABLE"
            with urllib.request.urlopen(url) as response:
                assert b"<!doctype html>" in response.read().lower()
            (answer,) = json.loads(shell.run("-m", "seqmnist_tf.client", "digit.png", "--json", "--server", url))
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=60) == 0
    assert answer["file"] == "digit.png" and answer["class_id"] in range(10)
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
@pytest.mark.network  # the build installs setuptools
@pytest.mark.timeout(600)
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="lists the files of a clone")
@pytest.mark.skipif(os.name != "posix", reason="knows the folders of an environment on Linux and macOS")
def test_the_wheel_alone_runs_each_command(tmp_path: Path) -> None:
    files = copy_working_tree(tmp_path / "source")
    sdist, wheel = build(tmp_path / "source")
    check_contents(sdist, wheel, files)
    python = install_alone(wheel, tmp_path / "environment")
    shutil.rmtree(tmp_path / "source")
    shell = Shell(python, tmp_path / "elsewhere")

    lines = "import seqmnist_tf; print(seqmnist_tf.__file__, seqmnist_tf.__version__)"
    path, version = shell.run("-c", lines).split()
    assert Path(path).is_relative_to(tmp_path / "environment")
    assert version == importlib.metadata.version("seqmnist_tf")
    assert {"client", "evaluate", "export", "serve", "train", "tune"} < set(COMMANDS)
    script = tmp_path / "environment" / "bin" / "seqmnist"
    listing = subprocess.run([script], env=shell.environment, capture_output=True, text=True).stdout
    for name in COMMANDS:
        assert f"\n  {name} " in listing
        assert f"seqmnist_tf.{name}" in shell.run("-m", f"seqmnist_tf.{name}", "--help")

    small = (*SMALL, "--task.limit-test=30", "--model.hidden-size=16", "--run-dir=run")
    assert "of 30" in shell.toy("train", "quickstart", *small)
    run = shell.folder / "run"
    summary = json.loads((run / "summary.json").read_text())
    environment = json.loads((run / "environment.json").read_text())
    assert summary["status"] == "completed" and environment["git"]["commit"] is None
    assert environment["kernel"].startswith("native") == (shutil.which("g++") is not None)
    metrics = json.loads(shell.toy("evaluate", "run", "--json"))
    assert (metrics["test_correct"], metrics["test_total"]) == (summary["final"]["test_correct"], 30)
    assert shell.toy("export", "run").splitlines()[-1] == "export/seqmnist/1"
    check_service(shell)
    (shell.folder / "space.json").write_text(json.dumps({"optimizer.lr": {"choices": [0.001, 0.01]}}))
    search = ("--tuner=random", "--max-trials=1", "--epochs=1", "--dir=search", "--space=space.json")
    shell.toy("tune", *search, *SMALL, "--task.validation-size=60", "--model.hidden-size=4")
    assert json.loads((shell.folder / "search" / "best.json").read_text())["optimizer"]["lr"] in (0.001, 0.01)


def test_the_constraints_are_the_versions_of_the_records() -> None:
    lines = (ROOT / "results" / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    for path in ROOT.glob("results/*/seed*/environment.json"):
        environment = json.loads(path.read_text())
        assert {**environment["versions"], **pinned} == environment["versions"], path
        assert f"Python {environment['python']} " in lines[0]
    assert set(pinned) == {*environment["versions"]} - {"seqmnist_tf"}
