"""Fixtures: toy data in place of MNIST, and commands called in this process."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from matplotlib.figure import Figure
from xdist.scheduler import LoadFileScheduling

from seqmnist_tf.system import run_command, start_tensorflow

for name in [name for name in os.environ if name.startswith("GIT_")]:  # as in a hook: it names another repository
    del os.environ[name]
os.environ["GIT_CONFIG_GLOBAL"] = os.environ["GIT_CONFIG_SYSTEM"] = os.devnull
os.environ["SEQMNIST_STRICT"] = "1"  # a bug in the translation of a cell is an error, not a warning
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1"  # a proxy would answer for closed ports
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script; children would ignore it, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
start_tensorflow()  # without its notes, which a process of pytest-xdist would show after the closing line

from seqmnist_tf.data import sequences  # noqa: E402
from seqmnist_tf.export import main as export_main  # noqa: E402
from seqmnist_tf.serve import SavedModel, exporter  # noqa: E402
from seqmnist_tf.serve.__main__ import listen  # noqa: E402
from seqmnist_tf.serve.app import create_server  # noqa: E402
from seqmnist_tf.train import overview  # noqa: E402
from seqmnist_tf.train.__main__ import main as train_main  # noqa: E402
from tests.toy import SMALL, finished_run, toy_mnist  # noqa: E402


class Result(NamedTuple):
    """What a command left: its exit status and what it printed."""

    status: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Keep each file in one process, and all files of ``serve`` and of ``results``, whose fixtures take seconds."""
    scheduler = LoadFileScheduling(config, log)
    file_of = scheduler._split_scope
    scheduler._split_scope = lambda nodeid: re.sub(r"^(tests/(serve|results))/.*", r"\1", file_of(nodeid))
    return scheduler


@pytest.fixture(scope="session", autouse=True)
def blank_overviews() -> Iterator[None]:
    """Leave out what takes most of a small run's time; tests/train/test_metrics.py draws overviews."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overview, "draw_overview", lambda *_: overview.new_figure(1, 1))
        yield


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Call a command's ``main`` as its command line does."""

    def call(main: Callable[[list[str]], int], *argv: str) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            run_command(main, argv)
        out, err = capsys.readouterr()
        status = stopped.value.code
        return Result(status if isinstance(status, int) else -1, out, err)

    return call


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read toy data instead of MNIST."""
    for reader in (sequences, exporter):
        monkeypatch.setattr(reader, "load_mnist", toy_mnist)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A completed run of one epoch on toy data: ``sgd`` with ``SMALL``. Copy it to change it."""
    path = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequences, "load_mnist", toy_mnist)
        assert train_main(["sgd", *SMALL, "--train.n-epochs=1", f"--run-dir={path}"]) == 0
    return path


@pytest.fixture
def finished(trained: Path, in_tmp: Path, toy: None) -> Path:
    """A copy of the completed run at ``run``, in an empty working directory, with toy data for what comes."""
    return Path(shutil.copytree(trained, in_tmp / "run"))


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def toy_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two exported toy versions, `run1` and `run2` beside it. Pixels of the first are permuted."""
    folder = tmp_path_factory.mktemp("toy_versions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "load_mnist", toy_mnist)
        finished_run(folder / "run1", task__permutation="urnn92916", task__normalization="unit")
        finished_run(folder / "run2")
        for name in ("run1", "run2"):
            export_main([str(folder / name), "--export-dir", str(folder / "versions")])
    return folder / "versions"


@pytest.fixture(scope="session")
def toy_model(toy_versions: Path) -> SavedModel:
    """Return the second toy version."""
    return SavedModel.load(toy_versions / "2")


def assert_fits(figure: Figure) -> None:
    """Assert that nothing of a picture, such as a legend, leaves the picture."""
    figure.draw_without_rendering()
    extent = figure.get_tightbbox()  # in inches
    width, height = figure.get_size_inches()
    assert extent.x0 >= 0 and extent.y0 >= 0 and extent.x1 <= width and extent.y1 <= height, extent


@contextlib.contextmanager
def serving(model: SavedModel) -> Iterator[str]:
    """Serve a version in a thread of this process; give the address."""
    listener, running = listen("127.0.0.1", 0), create_server(model)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def server(toy_model: SavedModel) -> Iterator[str]:
    """Return the address of a local server of the second toy version, in a thread of this process."""
    with serving(toy_model) as url:
        yield url
