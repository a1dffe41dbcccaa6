"""Damage to a run directory: resuming refuses it, and changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.evaluate import main as evaluate_main
from seqmnist_tf.model import Kernel, MeasuredSequential, build_model, make_trainable
from seqmnist_tf.system import InputError
from seqmnist_tf.train import RunDirectory, resume
from seqmnist_tf.train.__main__ import main as train_main
from seqmnist_tf.train.callbacks import require_same_experiment, restore
from tests.changes import Change, change_json, content, drop, first_lines, put, text
from tests.conftest import Command
from tests.toy import SMALL, killed_run

WORDS = (*SMALL, "--train.n-epochs=4", "--train.shuffle=true")
HISTORY, STEPS, RESUME = "history.jsonl", "steps.csv", "checkpoints/resume.keras"
REVERSED = "\n".join(map(str, reversed(range(784)))) + "\n"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs that was killed in its third."""
    return killed_run(tmp_path_factory.mktemp("killed") / "run", *WORDS, step=7)


@pytest.fixture(scope="module")
def model(killed: Path) -> MeasuredSequential:
    """The model that trains the run."""
    config = RunDirectory(killed).config
    return make_trainable(build_model(config), config, Kernel(None))


# The file that is damaged, how, and part of the error.
DAMAGE: dict[str, tuple[str, Change, str]] = {
    "history deleted": (HISTORY, Path.unlink, "history.jsonl must have epochs 1 to 2"),
    "history cut": (HISTORY, first_lines(1), "history.jsonl must have epochs 1 to 2"),
    "history corrupt": (HISTORY, text('{"epoch": 1\n'), "cannot read run/history.jsonl"),
    "steps deleted": (STEPS, Path.unlink, "cannot read run/steps.csv"),
    "steps cut": (STEPS, first_lines(4), "steps.csv must have steps 1 to 6"),
    "checkpoint deleted": (RESUME, Path.unlink, f"run/{RESUME} is missing"),
    "checkpoint corrupt": (RESUME, text("broken"), f"cannot read run/{RESUME}"),
    "epoch file as checkpoint": (
        RESUME,
        lambda path: shutil.copy(path.with_name("epoch-0002.keras"), path),
        f"cannot read run/{RESUME}",
    ),
    "seed": ("config.json", put("train", "seed", value=5), "it began with seed 0"),
    "optimizer": ("config.json", put("optimizer", "name", value="Adam"), "it began with config_id "),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_refused(name: str, killed: Path, model: MeasuredSequential, in_tmp: Path) -> None:
    file, damage, message = DAMAGE[name]
    run = RunDirectory(Path("run"))
    shutil.copytree(killed, run.path)
    damage(run.path / file)
    before = content(run.path)
    with pytest.raises(InputError) as refused:  # as resume asks
        require_same_experiment(run, run.config)
        restore(run, run.config, model)
    assert message in str(refused.value)
    assert content(run.path) == before


def test_another_machines_kernel_may_go_on_with_a_run_of_an_older_version(
    killed: Path, in_tmp: Path, toy: None, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(killed, in_tmp / "run")
    drop("seed")(in_tmp / "run/environment.json")  # which older records lack
    run = RunDirectory(in_tmp / "run")
    config, kernel = run.config, run.environment["kernel"]
    here = cfg.with_values(config, {"train.kernel": "keras"})
    change_json(run.path / "environment.json", lambda document: document["git"].update(commit="c0ffee"))
    assert resume(run.path, machine=here)["status"] == "completed"
    assert run.config == config
    assert run.environment["resumed"][-1]["kernel"] == "keras"
    said = capsys.readouterr().err
    assert "warning: commit was c0ffee and is " in said
    if kernel != "keras":
        assert f"warning: kernel was {kernel} and is keras" in said


def test_the_file_of_a_pixel_order_may_change_and_the_configuration_may_not(
    command: Command, in_tmp: Path, toy: None
) -> None:
    (in_tmp / "order.txt").write_text(REVERSED)
    killed_run(in_tmp / "run", *WORDS, f"--task.permutation=file:{in_tmp / 'order.txt'}", step=7)
    began = RunDirectory(in_tmp / "run").config_id
    shutil.copytree("run", "edited")
    put("optimizer", "lr", value=0.5)(in_tmp / "edited/config.json")
    (in_tmp / "order.txt").unlink()
    result = command(train_main, "--run-dir=edited", "--resume")
    assert result.status == 2 and f"it began with config_id {began}" in result.err
    assert command(train_main, "--run-dir=run", "--resume").status == command(evaluate_main, "run").status == 0
    assert (RunDirectory(in_tmp / "run").summary or {})["config_id"] == began
