"""Runs that are killed and resumed end as those that were not, to the last bit."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.data import sequences
from seqmnist_tf.model import Kernel, MeasuredSequential, build_model, compile_model
from seqmnist_tf.train import RunDirectory, load_final_model
from seqmnist_tf.train.__main__ import main as train_main
from tests.conftest import Command, Result
from tests.toy import SMALL, killed_run, run_train, toy_mnist

EPOCHS, STEPS = 6, 3
WORDS = (
    *SMALL,
    f"--train.n-epochs={EPOCHS}",
    "--train.shuffle=true",
    "--train.recurrent-noise=0.05",
    "--optimizer.lr=0.01",
    "--optimizer.ema-momentum=0.7",
)


def resume_words(run: Path) -> list[str]:
    return ["--resume", f"--run-dir={run}"]


def state(run: RunDirectory) -> list[np.ndarray]:
    """Return weights, optimizer state and step count of a run's last checkpoint."""
    model = MeasuredSequential.of(build_model(run.config), Kernel(None))
    compile_model(model, run.config)
    model.optimizer.build(model.trainable_variables)
    model.load_weights(run.resume_file)
    return [*model.get_weights(), *(variable.numpy() for variable in model.optimizer.variables)]


def without_seconds(run: RunDirectory) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in run.history()]


def assert_same(run: RunDirectory, whole: RunDirectory) -> None:
    for a, b in zip(state(run), state(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(*(load_final_model(r, allow_code=True).get_weights() for r in (run, whole)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert without_seconds(run) == without_seconds(whole)
    assert (run.path / "steps.csv").read_text() == (whole.path / "steps.csv").read_text()
    summaries = [{k: v for k, v in (r.summary or {}).items() if "seconds" not in k} for r in (run, whole)]
    assert summaries[0] == summaries[1]
    assert summaries[0]["status"] == "completed"
    names = {p.name for p in whole.path.rglob("*")}
    assert {p.name for p in run.path.rglob("*")} == names


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run that nothing stopped."""
    path = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequences, "load_mnist", toy_mnist)
        assert train_main([*WORDS, f"--run-dir={path}"]) == 0
    run = RunDirectory(path)
    history = run.history()
    assert len(history) == EPOCHS
    assert len({row["train_loss"] for row in history}) == EPOCHS  # it does train
    return run


def test_a_run_killed_before_its_first_checkpoint_in_an_epoch_and_in_a_write_ends_the_same(
    whole: RunDirectory, tmp_path: Path, command: Command, toy: None
) -> None:
    path = tmp_path / "run"
    run = RunDirectory(path)
    killed_run(path, *WORDS, step=2)
    assert not run.resume_file.exists()

    killed_run(path, "--resume", step=2 * STEPS + 1)
    assert len(run.history()) == 2
    assert len((path / "steps.csv").read_text().splitlines()) == 1 + 2 * STEPS + 1

    # The fourth write of this process is what resumes from epoch 4.
    done = run_train(*resume_words(path), KILL="write:4")
    assert done.returncode == -signal.SIGKILL
    assert len(run.history()) == 4 and run.epoch_file(4).exists()
    assert (path / "checkpoints" / ".new-resume.keras").exists()

    assert command(train_main, *resume_words(path)).status == 0
    assert_same(run, whole)
    environment = json.loads((path / "environment.json").read_text())
    assert environment["resumed"][-1]["command"].split()[-2:] == resume_words(path)
    assert [entry["first_step"] for entry in environment["resumed"]] == [0, 2 * STEPS, 3 * STEPS]
    assert (whole.environment["resumed"], whole.summary["epochs"] if whole.summary else 0) == ([], EPOCHS)


def test_a_last_history_row_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    (tmp_path / "history.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    assert [row["epoch"] for row in run.history()] == [1, 2]
    (tmp_path / "steps.csv").write_text("step,loss\n1,2.5\n2,2.25\n3,2")
    run.begin_logs_at(1, 2)
    assert (tmp_path / "history.jsonl").read_text() == '{"epoch": 1}\n'
    assert (tmp_path / "steps.csv").read_text() == "step,loss\n1,2.5\n2,2.25\n"


def test_resuming_takes_flags_that_agree_and_no_others(command: Command, finished: Path) -> None:
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}

    def resume(*words: str) -> Result:
        return command(train_main, *words, "--run-dir=run", "--resume")

    done = resume("sgd", *SMALL, "--train.n-epochs=1")
    assert done.status == 0
    assert "run run (completed, 1 epochs" in done.out
    for words, message in (
        (["--train.n-epochs=2"], "train.n_epochs is 1 in the run at run and cannot be changed (got 2)"),
        (["--optimizer.name=Adam"], "optimizer.name is SGD in the run at run and cannot be changed (got Adam)"),
        (["adam"], "the run at run is of preset sgd (got 'adam')"),
    ):
        result = resume(*words)
        assert (result.status, result.out) == (2, "")
        assert result.err == f"error: {message}\n"
    of_machine = ["--train.threads=2", "--train.kernel=keras", "--data.dir=moved", "--wandb.mode=offline"]
    assert resume(*of_machine).status == 0
    shown = json.loads(resume(*of_machine, "--print-config").out)
    assert (shown["data"]["dir"], shown["train"]["threads"]) == ("moved", 2)
    assert {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()} == before


def test_repeated_flags_need_not_make_a_whole_configuration(command: Command, finished: Path) -> None:
    norm = ["--optimizer.grad-clip-norm=0.1"]  # excludes the clip by value that is the default
    values = {"optimizer.grad_clip_norm": 0.1, "optimizer.grad_clip_value": None}
    stored = cfg.with_values(RunDirectory(finished).config, values)
    (finished / "config.json").write_text(cfg.config_to_json(stored))  # as if it had been trained with them
    assert command(train_main, *norm, "--run-dir=run", "--resume").status == 0
    other = command(train_main, "--optimizer.grad-clip-value=1", "--run-dir=run", "--resume")
    assert "grad_clip_value is null in the run at run and cannot be changed (got 1.0)" in other.err


def test_a_run_in_use_is_refused(command: Command, finished: Path) -> None:
    (finished / "summary.json").unlink()
    with RunDirectory(finished).lock():
        result = command(train_main, "--run-dir=run", "--resume")
    assert result.status == 2
    assert result.err == "error: run directory run is in use by another process (wait for it to end)\n"


def test_resume_auto_starts_and_continues_with_one_command_line(command: Command, in_tmp: Path, toy: None) -> None:
    words = ["sgd", *SMALL, "--train.n-epochs=1", "--run-dir=run", "--resume", "auto"]
    first = command(train_main, *words)
    assert (first.status, "run run (completed, 1 epochs" in first.out) == (0, True)
    assert "100% |" in first.err and "\r" not in first.out + first.err  # no terminal
    (in_tmp / "run" / "summary.json").unlink()  # as after a kill
    (in_tmp / "run" / "model.keras").unlink()
    assert command(train_main, *words).status == 0
    assert len(json.loads((in_tmp / "run" / "environment.json").read_text())["resumed"]) == 1
    other = command(train_main, *words, "--train.seed=1")
    assert "train.seed is 0 in the run at run and cannot be changed" in other.err
    stored = cfg.with_values(RunDirectory(in_tmp / "run").config, {"model.match_parameters": 130})
    (in_tmp / "run" / "config.json").write_text(cfg.config_to_json(stored))  # as if 130 had chosen the four units
    words = [*words[:1], "--model.hidden-size=128", "--model.match-parameters=130", *words[2:]]
    assert command(train_main, *words).status == 0
    assert "--resume needs --run-dir" in command(train_main, "--resume", "auto").err
    assert "no run at none" in command(train_main, "--resume", "--run-dir=none", "sgd").err
