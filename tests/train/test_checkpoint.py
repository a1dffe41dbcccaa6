"""Damage to a run directory: resuming refuses it, or says that it cannot read it, and changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.model import Kernel, MeasuredSequential, build_model, make_trainable
from seqmnist_tf.system import InputError, RunError
from seqmnist_tf.train import RunDirectory, resume
from seqmnist_tf.train.__main__ import main as train_main
from seqmnist_tf.train.checkpoint import require_own_files, restore
from tests.changes import Change, change_json, content, drop, first_lines, put, text
from tests.conftest import Command
from tests.toy import SMALL, killed_run

WORDS = (*SMALL, "--train.n-epochs=4", "--train.shuffle=true")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs that was killed in its third."""
    return killed_run(tmp_path_factory.mktemp("killed") / "run", *WORDS, step=7)


def test_a_checkpoint_for_which_there_is_no_memory_is_not_damaged(
    killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    run = shutil.copytree(killed, tmp_path / "run")
    before = content(run)
    monkeypatch.setattr(MeasuredSequential, "load_weights", fail)
    with pytest.raises(RunError, match=r"not enough memory for checkpoint .* \(free some, and resume again\)"):
        resume(run)
    assert content(run) == before


def elsewhere(checkpoints: Path) -> None:
    """Put the checkpoints where they cannot be seen, as on a disk that is not mounted."""
    shutil.rmtree(checkpoints)
    checkpoints.symlink_to("/no/such/disk")


def delete_with_checkpoint(history: Path) -> None:
    history.unlink()
    (history.parent / RESUME).unlink()


def as_published(history: Path) -> None:
    """Leave one epoch, and no folder of checkpoints, as in the record of a run that diverged."""
    first_lines(1)(history)
    shutil.rmtree(history.parent / "checkpoints")


def copy_of(source: str) -> Change:
    """Return a change that puts another file in the place of one."""
    return lambda path: shutil.copy(source, path)


HISTORY, STEPS, RESUME = "history.jsonl", "steps.csv", "checkpoints/resume.keras"
LAST = "checkpoints/epoch-0002.keras"
MISSING = "epochs, and run/checkpoints/resume.keras is missing"
REVERSED = "\n".join(map(str, reversed(range(784)))) + "\n"
# The file that is damaged, how, and part of the error. The run is at run, one with another seed at other.
DAMAGE: dict[str, tuple[str, Change, str]] = {
    "history deleted": (HISTORY, Path.unlink, "history.jsonl must have epochs 1 to 2"),
    "history cut": (HISTORY, first_lines(1), "history.jsonl must have epochs 1 to 2"),
    "history corrupt": (HISTORY, text('{"epoch": 1\n'), "history.jsonl: line 1: "),
    "history of other JSON": (HISTORY, text("1\n"), "history.jsonl: line 1 is not a JSON object"),
    "steps deleted": (STEPS, Path.unlink, "steps.csv: No such file or directory"),
    "steps cut": (STEPS, first_lines(4), "steps.csv must have steps 1 to 6"),
    "steps of another format": (STEPS, text("loss,step\n1,1\n"), "steps.csv: its first line must be step,loss,gra"),
    "checkpoint deleted": (RESUME, Path.unlink, f"history.jsonl has 2 {MISSING}"),
    "checkpoints elsewhere": ("checkpoints", elsewhere, f"history.jsonl has 2 {MISSING}"),
    "history and checkpoint deleted": (HISTORY, delete_with_checkpoint, f"history.jsonl has 0 {MISSING}"),
    "published": (HISTORY, as_published, f"history.jsonl has 1 {MISSING}"),
    "epoch file as checkpoint": (RESUME, copy_of(f"run/{LAST}"), f"run/{RESUME} has no state of the optimizer"),
    "no epoch file": (LAST, copy_of("run/config.json"), "cannot read run/checkpoints/epoch-0002"),
    "older epoch file": (LAST, copy_of("run/checkpoints/epoch-0001.keras"), "have different weights"),
    "seed": ("config.json", put("train", "seed", value=5), "it began with seed 0, and its files now have 5"),
    "optimizer": ("config.json", put("optimizer", "name", value="Adam"), "it began with config_id "),
    "pixel order": ("pixel_order.txt", text(REVERSED), "it began with pixel order "),
    "environment cut": ("environment.json", text('{"config_id"'), "cannot read "),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(killed: Path) -> tuple[keras.Sequential, MeasuredSequential]:
    """The model of the run, and the one that trains it."""
    config = RunDirectory(killed).config
    stock = build_model(config)
    return stock, make_trainable(stock, config, Kernel(None))


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_refused(
    name: str, killed: Path, models: tuple[keras.Sequential, MeasuredSequential], in_tmp: Path
) -> None:
    file, damage, message = DAMAGE[name]
    run = RunDirectory(Path("run"))
    shutil.copytree(killed, run.path)
    damage(run.path / file)
    before = content(run.path)
    with pytest.raises(InputError) as refused:  # as resume asks
        require_own_files(run, run.config)
        restore(run, run.config, *models)
    assert message in str(refused.value)
    assert content(run.path) == before


def test_without_damage_it_is_resumed_and_old_records_may_lack_keys(
    killed: Path, command: Command, in_tmp: Path, toy: None
) -> None:
    shutil.copytree(killed, in_tmp / "run")
    for key in ("seed", "pixel_order_sha256"):
        drop(key)(in_tmp / "run/environment.json")
    change_json(in_tmp / "run/environment.json", lambda document: document.update(git="main", resumed=3, machine="x"))
    assert command(train_main, "--run-dir=run", "--resume").status == 0


def test_another_machines_kernel_may_go_on_with_a_run(
    killed: Path, in_tmp: Path, toy: None, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(killed, in_tmp / "run")
    run = RunDirectory(in_tmp / "run")
    config, kernel = run.config, run.environment["kernel"]
    here = cfg.with_values(config, {"train.kernel": "keras"})
    change_json(run.path / "environment.json", lambda document: document["git"].update(commit="c0ffee"))
    assert resume(run.path, machine=here)["status"] == "completed"
    assert run.config == config
    assert run.environment["resumed"][-1]["kernel"] == "keras"
    said = capsys.readouterr().err
    assert "warning: the commit was c0ffee and is " in said
    if kernel != "keras":
        assert f"warning: kernel was {kernel} and is keras: the last digits may differ" in said


def test_an_older_records_pixel_order_must_be_that_of_its_configuration(
    killed: Path, command: Command, in_tmp: Path, toy: None
) -> None:
    shutil.copytree(killed, in_tmp / "run")
    change_json(in_tmp / "run/environment.json", lambda document: document.pop("pixel_order_sha256"))
    (in_tmp / "run/pixel_order.txt").write_text(REVERSED)
    result = command(train_main, "--run-dir=run", "--resume")
    assert result.status == 2 and "pixel_order.txt is not the order of task.permutation none" in result.err


def test_the_file_of_a_pixel_order_may_change_and_the_configuration_may_not(
    command: Command, in_tmp: Path, toy: None
) -> None:
    (in_tmp / "order.txt").write_text(REVERSED)
    killed_run(in_tmp / "run", *WORDS, f"--task.permutation=file:{in_tmp / 'order.txt'}", step=7)
    began = RunDirectory(in_tmp / "run").config_id
    shutil.copytree("run", "edited")
    put("optimizer", "lr", value=0.5)(in_tmp / "edited/config.json")
    for order in (REVERSED + "\n", "0\n", None):
        if order is None:
            (in_tmp / "order.txt").unlink()
        else:
            (in_tmp / "order.txt").write_text(order)
        result = command(train_main, "--run-dir=edited", "--resume")
        assert result.status == 2 and f"it began with config_id {began}" in result.err
    assert command(train_main, "--run-dir=run", "--resume").status == 0
    assert (RunDirectory(in_tmp / "run").summary or {})["config_id"] == began
    change_json(in_tmp / "run/environment.json", lambda document: document.pop("permutation_sha256"))
    (in_tmp / "order.txt").mkdir()
    assert RunDirectory(in_tmp / "run").config_id == began  # of an older version, whose file need not be there
