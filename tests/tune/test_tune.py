"""The command: a search's protocol, its result, its report, and bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.data import sequences
from seqmnist_tf.engine import engine
from seqmnist_tf.system import InputError
from seqmnist_tf.train import AT_CHANCE, load_run, lock_folder
from seqmnist_tf.train.__main__ import main as train_main
from seqmnist_tf.tune import __main__ as tune_command
from seqmnist_tf.tune import parse_space, report, search, trials
from seqmnist_tf.tune.folder import SearchFolder
from seqmnist_tf.tune.report import search_report
from tests.conftest import Command
from tests.model.test_layers import GOOD
from tests.toy import ROOT
from tests.tune.toy_search import trials_of

SMALL = ["--model.hidden-size=4", "--task.limit-train=40", "--task.validation-size=60", "--wandb.mode=disabled"]
SPACE = {
    "optimizer.lr": {"low": 1e-3, "high": 1e-1, "scale": "log"},
    "optimizer.name": {"choices": ["SGD", "Adam"]},
    "$_$": {"choices": [{"train.batch_size": size} for size in (10, 20, 40)]},  # no formula of the picture
}


@pytest.fixture(autouse=True)
def no_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "REPEATS", 0)


@pytest.fixture
def space_file(tmp_path: Path) -> str:
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    return str(tmp_path / "space.json")


def words(tuner: str, trials: int, folder: Path, space_file: str, *more: str) -> list[str]:
    return [f"--tuner={tuner}", f"--max-trials={trials}", f"--dir={folder}", f"--space={space_file}", *SMALL, *more]


@pytest.mark.slow
def test_a_search_yields_a_configuration_that_trains(
    command: Command, toy: None, tmp_path: Path, space_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "REPEATS", 2)
    folder = tmp_path / "search"
    answer = command(tune_command.main, *words("hyperband", 3, folder, space_file, "--epochs=3"))
    assert answer.status == 0, answer.err
    rows = trials_of(folder)
    assert len(rows) == 3
    best = max(rows, key=lambda row: row["score"])
    config = cfg.read_config(folder / "best.json")
    assert config.test.enabled and config.task.validation_size == config.task.limit_train == 0
    assert config.train.n_epochs == 3 and config.model.hidden_size == 4
    assert config.optimizer.lr == pytest.approx(best["values"]["optimizer.lr"])
    for row in rows:
        run = load_run(folder / "trials" / row["trial"])
        assert run.config.test.enabled is False and run.config.task.validation_size == 60
        assert run.history()[-1]["test_accuracy"] is None
        assert run.history()[-1]["val_accuracy"] == row["score"]
    report = (folder / "report.md").read_text()
    assert f"Best: trial {best['trial']}, validation accuracy {best['score']:.2%}" in report
    assert "With 2 other seeds: " in report and "`optimizer.lr`" in report
    assert report in answer.out and answer.out.count("best so far") == 3
    assert (folder / "search.png").read_bytes().startswith(b"\x89PNG")
    small = ["--task.limit-train=20", "--task.limit-test=20", "--run-dir", str(tmp_path / "run")]
    assert command(train_main, "--config", str(folder / "best.json"), *small).status == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.layer=nosuch.py:Own"], "model.layer must name a file that can be read"),
        (["--model.layer=broken.py:Own"], "model.layer broken.py:Own"),
        (["--space=constants.json", "--model.layer=keras.layers:GRU"], "raised ValueError: Unrecognized keyword arg"),
        (["--space=constants.json"], "model.layer_options must be {} with model.layer LSTM"),
        (["--space=layers.json"], "model.layer must name a file that can be read (got 'nosuch.py'"),
        (
            ["--space=units.json", "--model.match-parameters=500"],
            "model.hidden_size in the search space has no effect with model.match_parameters 500",
        ),
        (["--task.permutation=file:a\0b"], r"must name a file that can be read (got 'a\x00b': embedded null byte)"),
        (["--task.permutation=file:nosuch.txt"], "task.permutation must name a file that can be read"),
        (["--task.permutation=file:short.txt"], "task.permutation must name a file of 784 integers"),
    ],
)
def test_what_cannot_be_trained_is_bad_input_and_nothing_is_written(
    command: Command, toy: None, in_tmp: Path, space_file: str, words: list[str], message: str
) -> None:
    (in_tmp / "broken.py").write_text("def Own(units):\n    raise ValueError('no')\n")
    (in_tmp / "short.txt").write_text("1 2 3")
    (in_tmp / "layers.json").write_text('{"model.layer": {"choices": ["GRU", "nosuch.py:Own"]}}')
    (in_tmp / "units.json").write_text('{"model.hidden_size": {"choices": [4, 8]}}')
    (in_tmp / "constants.json").write_text('{"model.layer_options.dt": {"low": 0.1, "high": 1}}')
    small = ["--task.limit-train=40", "--task.validation-size=60", "--wandb.mode=disabled"]
    tune = ["--tuner=random", "--max-trials=1", "--dir=search", f"--space={space_file}", *small, *words]
    answer = command(tune_command.main, *tune)
    assert answer.status == 2 and message in answer.err.splitlines()[-1], answer.err
    assert not (in_tmp / "search").exists()


def test_the_default_space_is_without_what_a_configuration_does_not_allow(capsys: pytest.CaptureFixture[str]) -> None:
    lstm = tune_command.default_space(cfg.preset("baseline"))
    assert capsys.readouterr().err == "" and set(lstm) == set(tune_command.DEFAULT_SPACE)
    gru = tune_command.default_space(cfg.preset("gru"))
    assert set(lstm) - set(gru) == {"model.initializer"}
    said = "the search space is without model.initializer, which this configuration does not allow"
    assert said in capsys.readouterr().err
    original = tune_command.default_space(cfg.preset("original"))
    assert "optimizer.lr" in original and "optimizer.name" not in original


def test_noise_that_no_layer_has_weights_for_is_not_searched(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_tmp / "own.py").write_text(GOOD + "def f(units):\n    return keras.layers.GRU(units)\n")
    noise, layer = "train.recurrent_noise", {"choices": ["own.py:Last", "own.py:f"]}
    space: dict[str, Any] = {noise: {"choices": [0, 0.1]}, "optimizer.lr": {"low": 0.1, "high": 1}}

    def made(name: str, **more: Any) -> SearchFolder:
        base = cfg.with_values(cfg.Config(), {"model.layer": name, "model.hidden_size": 4})
        return SearchFolder(in_tmp / "search", "random", base, parse_space({**space, **more}), {**space, **more}, None)

    def searched(given: SearchFolder) -> list[str]:
        taken = tune_command.without_idle_rows(tune_command.as_it_began(given), search.noise_acts)
        assert [row.name for row in taken.space] == list(taken.space_document)
        return list(taken.space_document)

    for other in (made("own.py:f"), made("LSTM"), made("own.py:Last", **{"model.layer": layer})):
        assert noise in searched(other) and capsys.readouterr().err == ""
    last = made("own.py:Last")
    assert searched(last) == ["optimizer.lr"]
    assert f"the search space is without {noise}, which has no effect" in capsys.readouterr().err
    for begun in (last, tune_command.without_noise(last)):  # as an earlier version began it, and as this one does
        begun.path.mkdir(exist_ok=True)
        begun.file.unlink(missing_ok=True)
        begun.claim()
        assert searched(last) == list(begun.space_document) and capsys.readouterr().err == ""


def test_a_trial_that_diverges_or_stays_at_chance_does_not_end_the_search(
    command: Command, toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    load = sequences.load_mnist

    def note(*args: Any) -> Any:
        asked.append(args[2])
        return load(*args)

    monkeypatch.setattr(sequences, "load_mnist", note)
    (tmp_path / "wild.json").write_text(json.dumps({"optimizer.lr": {"choices": [1e-9, 3e38]}}))
    wild = ["--optimizer.grad-clip-value=null", "--optimizer.name=SGD", "--train.batch-size=10"]
    folder = tmp_path / "search"
    argv = words("random", 2, folder, str(tmp_path / "wild.json"), "--epochs=4", *wild)
    answer = command(tune_command.main, *argv)
    assert answer.status == 0, answer.err
    assert set(asked) == {("train",)}  # the test set is never read
    rows = {row["values"]["optimizer.lr"]: row for row in trials_of(folder)}
    diverged, stopped = rows["3e+38"], rows["1e-09"]
    assert (diverged["status"], diverged["score"]) == ("diverged", 0)
    assert f"trial {diverged['trial']}: validation accuracy 0.00%, diverged (" in answer.out
    assert (stopped["status"], stopped["epochs"]) == ("stopped", 2)
    assert 0 < stopped["score"] < AT_CHANCE
    run = load_run(folder / "trials" / stopped["trial"])
    assert run.summary is not None
    assert (run.summary["status"], run.summary["reason"]) == ("stopped", "at chance after 2 of 4 epochs")
    assert run.history()[-1]["val_accuracy"] == stopped["score"]
    assert f"trial {stopped['trial']}: validation accuracy {stopped['score']:.2%}, stopped (at chance" in answer.out
    assert "2 trials (0 completed, 1 stopped, 1 diverged)" in (folder / "report.md").read_text()

    # Neither is run again, also where a kill came before the oracle's note.
    monkeypatch.setattr(engine, "train", None)
    monkeypatch.setattr(engine, "resume", None)
    assert command(tune_command.main, *argv).status == 0
    state = json.loads((folder / "oracle.json").read_text())
    state["trials"][stopped["trial"]].update(status="RUNNING", score=None)
    (folder / "oracle.json").write_text(json.dumps(state))
    assert command(tune_command.main, *argv).status == 0
    assert {row["values"]["optimizer.lr"]: row for row in trials_of(folder)} == rows


def test_the_report(tmp_path: Path) -> None:
    document = {
        "optimizer.lr": {"low": 1e-3, "high": 1e-1, "scale": "log"},
        "optimizer.name": {"choices": ["SGD", "Adam"]},
        "optimizer.momentum": {"low": 0.1, "high": 0.9, "only_with": {"optimizer.name": "SGD"}},
        "train.batch_size": {"choices": [10, 20, 40]},
        "model.hidden_size": {"low": 64, "high": 4096},
    }
    search = SearchFolder(tmp_path, "random", cfg.Config(), parse_space(document), document, None)
    values = {"optimizer.lr": 0.0011, "optimizer.name": '"Adam"', "optimizer.momentum": 0.5, "train.batch_size": "20"}
    values["model.hidden_size"] = 1536
    row = {"trial": "0", "status": "completed", "epochs": 4, "escape_epoch": 2, "seconds": 12.6, "values": values}
    best = {**row, "score": 0.95}
    rows = [{**row, "trial": "7", "score": 0.1, "status": "stopped", "epochs": 2, "escape_epoch": None}, best]
    assert search_report(search, rows, best, [0.94, 0.0, 0.96], {}) == (
        "# Search: random, 2 trials (1 completed, 1 stopped, 0 diverged)\n"
        "\n"
        "Best: trial 0, validation accuracy 95.00% after 4 epochs.\n"
        "With 3 other seeds: 95.00% ± 1.41% (94.00%, diverged, 96.00%).\n"
        "\n"
        "| hyperparameter | best | explored | at the edge |\n"
        "|---|---|---|---|\n"
        "| `optimizer.lr` | 0.0011 | 0.001 to 0.1, log-uniform | low |\n"
        '| `optimizer.name` | "Adam" | "SGD", "Adam" |  |\n'
        "| `optimizer.momentum` | - | 0.1 to 0.9 |  |\n"
        "| `train.batch_size` | 20 | 10, 20, 40 |  |\n"
        "| `model.hidden_size` | 1536 | 64 to 4096 |  |\n"
        "\n"
        "| trial | validation accuracy | status | epochs | first epoch above 50 % | seconds |\n"
        "|---|---:|---|---:|---:|---:|\n"
        "| 0 | 95.00% | completed | 4 | 2 | 13 |\n"
        "| 7 | 10.00% | stopped | 2 | - | 13 |\n"
    )
    rows = [{**best, "trial": f"{n}", "score": 0.1 + 0.0001 * n} for n in range(report.MOST_TRIALS + 9)]
    text = search_report(search, rows, best, [], {f"{n}": "no" for n in range(report.MOST_FAILURES + 1001)})
    assert "\nThe best 50 of 59 trials with a score; `trials.json` has all:\n\n| trial |" in text
    assert text.count("| completed |") == 50 and "| 58 | 10.58% |" in text and "| 8 | 10.08% |" not in text
    assert text.count("- trial ") == 20 and text.endswith("\n- trial 19: no\n- and 1,001 more\n")


def test_bad_input_is_one_line(
    command: Command, toy: None, tmp_path: Path, space_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thing").write_text("")
    clash = {"clip": {"choices": [{"optimizer.grad_clip_value": 1}]}}
    (tmp_path / "clash.json").write_text(json.dumps(clash))
    (tmp_path / "range.json").write_text('{"optimizer.grad_clip_value": {"low": 0.1, "high": 1}}')
    (tmp_path / "all.json").write_text('{"train.batch_size": {"choices": [20, 131]}}')  # 60,000 images leave 2
    (tmp_path / "bad.json").write_text('{"optimizer.lr": {"low": 1, "high": 0.1}}')
    good = words("random", 1, tmp_path / "search", space_file, "--epochs=1")
    gone = "is of earlier versions (give --workers N for several trials at a time on this machine, or --address HOST:PO"
    for argv, message in (
        ([], "the following arguments are required: --tuner, --max-trials, --dir"),
        ([*good, "--tuner=grid"], "argument --tuner: invalid choice: 'grid'"),
        ([*good, "--max-trials=0"], "--max-trials must be 1 to 100,000 (got 0)"),
        ([*good, "--epochs=0"], "--epochs must be 1 to 100,000 (got 0)"),
        ([*good, "--tuner=bayesian", "--max-trials=1001"], "--max-trials must be at most 1,000 with --tuner bayesian"),
        ([*good, "--workers=0"], "--workers must be 1 to 1,000 (got 0)"),
        ([*good, "--workers=2", "--address=host:1"], "--workers and --address exclude each other"),
        ([*good, "--address=nowhere"], "--address must be HOST:PORT (got 'nowhere')"),
        ([*good, "--address=ray://a:1"], "--address must be HOST:PORT (got 'ray://a:1')"),
        ([*good, "--address=127.0.0.1:9"], "no Ray cluster answers at 127.0.0.1:9"),
        ([*good, "--role=chief", "--oracle=10.0.0.1:8600"], f"--role {gone}"),
        ([*good, "--oracle", "10.0.0.1:8600"], f"--oracle {gone}"),
        ([*good, "--worker-name=a"], f"--worker-name {gone}"),
        ([*good, "--patience=5"], f"--patience {gone}"),
        (["--role"], f"--role {gone}"),  # before it asks for what is missing
        ([*good, "--test.enabled=true"], "test.enabled must be false in a search (got true)"),
        ([*good, "--space", str(tmp_path / "bad.json")], "optimizer.lr in the search space must have low below high"),
        ([*good, "--space", str(tmp_path / "no.json")], f"cannot read {tmp_path / 'no.json'}: No such file"),
        ([*good, "--dir", str(tmp_path / "file")], f"cannot write to {tmp_path / 'file'}"),
        ([*good, "--dir", 300 * "x"], f"cannot look at {300 * 'x'}/search.json: File name too long"),
        ([*good, "--dir", str(tmp_path / "full")], f"{tmp_path / 'full'} holds other files and no search"),
        ([*good, "--optimizer.lr=0"], "optimizer.lr must be a number > 0"),
        (["quickstart", *good, "--space", str(tmp_path / "clash.json")], "optimizer.grad_clip_value and optimizer."),
        (["strong", *good, "--space", str(tmp_path / "range.json")], "optimizer.grad_clip_value and optimizer."),
        (["strong", *good, "--space", str(tmp_path / "all.json")], "train.recurrent_noise needs at least 4 images"),
    ):
        answer = command(tune_command.main, *argv)
        assert (answer.status, answer.out) == (2, ""), argv
        assert answer.err.startswith(f"error: {message}") and answer.err.count("\n") == 1, answer.err
    assert not (tmp_path / "search").exists()

    def unreadable(*_: Any) -> None:
        raise InputError("data.dir must be a folder")

    with monkeypatch.context() as patch:
        patch.setattr(sequences, "load_mnist", unreadable)
        for workers in ([], ["--workers=2"]):
            answer = command(tune_command.main, *good, *workers)
            assert answer.status == 2 and answer.err.splitlines()[-1] == "error: data.dir must be a folder"
    assert not (tmp_path / "search").exists()
    assert command(tune_command.main, *good).status == 0
    monkeypatch.setattr(sequences, "load_mnist", unreadable)
    without = [word for word in good if not word.startswith("--space")]
    assert command(tune_command.main, *without).status == 0  # its own space, which may be of an earlier version
    assert command(tune_command.main, *good).status == 0  # it has ended, and its report is written again
    for change in (
        [*good, "--tuner=bayesian"], [*good, "--optimizer.beta-1=0.5"], [*good, "--epochs=2"], ["gru", *without],
    ):  # fmt: skip
        answer = command(tune_command.main, *change)
        assert answer.status == 2 and "holds another search" in answer.err
    with lock_folder(tmp_path / "search", "the other"):
        answer = command(tune_command.main, *good)
    assert answer.status == 2 and f"search {tmp_path / 'search'} is in use by another process" in answer.err


def test_a_search_holds_out_ten_thousand_images_unless_told_otherwise(command: Command) -> None:
    for given, validation_size in (([], 10_000), (["--task.validation-size=60"], 60)):
        answer = command(tune_command.main, "--tuner=random", "--max-trials=1", "--dir=x", *given, "--print-config")
        printed = json.loads(answer.out)
        assert (printed["task"]["validation_size"], printed["test"]["enabled"]) == (validation_size, False)


@pytest.mark.parametrize(("given", "threads"), [([], 0), (["--train.threads=5"], 5)])
def test_the_engine_gets_what_the_command_line_says(
    given: list[str], threads: int, command: Command, toy: None, tmp_path: Path, space_file: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked: list[Any] = []

    def run_jobs(jobs: Any, folder: Path, **settings: Any) -> None:
        asked.append((folder, settings))

    monkeypatch.setattr(search, "run_jobs", run_jobs)
    monkeypatch.setattr(tune_command, "require_usable", lambda *_, **__: None)  # TensorFlow has its own threads by now
    folder = tmp_path / "search"
    answer = command(tune_command.main, *words("random", 1, folder, space_file, "--workers=2", "--no-stop", *given))
    assert answer.status == 1 and "no trial of" in answer.err
    assert SearchFolder.read(folder).options == {"stops": False, "repeats": 0}
    settings = {"marker": "search.json", "threads": threads, "workers": 2, "address": None}
    assert asked == [(folder, settings)] and (folder / "search.json").is_file()


def test_help_and_bad_input_do_not_wait_for_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys, json; from seqmnist_tf import system; from seqmnist_tf.tune.__main__ import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    try: system.run_command(main, words)\n"
        "    except SystemExit as ended: print('status', ended.code)\n"
        "print(sorted({'tensorflow', 'keras', 'keras_tuner', 'matplotlib', 'ray'} & set(sys.modules)))"
    )
    good = ["--tuner=random", "--max-trials=1", f"--dir={tmp_path / 'search'}"]
    calls = [
        ["--help"],
        [*good, "--print-config"],
        [*good, "--epochs=0"],
        [*good, "--space", str(tmp_path / "missing.json")],
        [*good, "--optimizer.lr=0"],
        [*good, "--dir", str(ROOT)],
        [*good, "--address=127.0.0.1:9"],
    ]
    words = [sys.executable, "-c", code, json.dumps(calls)]
    answer = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    *shown, loaded = answer.stdout.splitlines()
    assert loaded == "[]"
    assert [line for line in shown if line.startswith("status")] == [f"status {n}" for n in (0, 0, 2, 2, 2, 2, 2)]
    assert answer.stderr.count("error: ") == answer.stderr.count("\n") == 5
    assert not (tmp_path / "search").exists()


def test_the_help_lists_the_search_space_with_its_reasons(command: Command) -> None:
    shown = " ".join(command(tune_command.main, "--help").out.split())
    assert len(tune_command.DEFAULT_SPACE) > 5 and "--patience" not in shown
    for name, row in tune_command.DEFAULT_SPACE.items():
        assert f" {name}: " in shown and " ".join(row["reason"].split()) in shown
