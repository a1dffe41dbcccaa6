"""The generated sections say what the records say."""

from __future__ import annotations

import dataclasses
import json
import re
import statistics
from pathlib import Path

import pytest
import yaml

from seqmnist_tf import config as cfg
from seqmnist_tf.compare import SeededRuns, in_percent
from seqmnist_tf.config import NUM_TEST
from seqmnist_tf.results.board import PERMUTED, QUICK_START, Board, code_of, original_accuracy, wrap_text
from seqmnist_tf.results.pages import bibtex, render_section
from seqmnist_tf.results.verify import name_problems
from tests.toy import ROOT

EMPTY = Board({}, {}, {})


def test_the_originals_arithmetic() -> None:
    literature = json.loads((ROOT / "results" / "literature.json").read_text())
    assert original_accuracy(literature) == (9838, 10240, 0.9838)
    text = render_section("original", Board({}, literature, {}))
    assert "| 9,838 | 96.07 |" in text and "**98.38**" in text


@pytest.mark.parametrize(
    ("correct", "cells"),
    [
        ([9_800, 9_900, 9_850], "3 | **98.50 ± 0.50** | 98.00 to 99.00 | 97.26 to 99.74 |"),
        ([9_838], "1 | **98.38** |  | 98.11 to 98.61 (images) |"),  # Wilson's score, z = 1.959964
        ([1_135, 1_135], "2 | **11.35 ± 0.00** | 11.35 to 11.35 |  |"),
    ],
)
def test_the_summary_of_seeds(correct: list[int], cells: str, published: Path) -> None:
    board = Board.read(Path("results"))
    one = board.records["strong"][0]
    results = [{**one.summary, "final": {"test_correct": number, "test_total": NUM_TEST}} for number in correct]
    board.records["strong"] = [dataclasses.replace(one, summary=summary) for summary in results]
    assert f"| `strong` | sMNIST, 40 training images | {cells}" in render_section("summary", board)


def test_a_run_on_stock_keras_stands_beside_the_native_one(published: Path) -> None:
    board = Board.read(Path("results"))
    first, second = board.records["strong"]
    first.environment["kernel"] = second.environment["kernel"] = "native-avx512"
    assert render_section("stock_keras", board) == "No run on stock Keras is published yet."
    config = cfg.with_values(first.config, {"train.kernel": "keras"})
    environment = {**second.environment, "kernel": "keras"}
    stock = dataclasses.replace(second, name="slow", config=config, environment=environment)  # with another's losses
    assert name_problems(stock, [first, second]) == []
    assert "is that of slow" in name_problems(dataclasses.replace(stock, name="best"), [stock])[0]
    board.records["slow"] = [stock]
    text = " ".join(render_section("stock_keras", board).split())
    unlike = int((first.predictions().classes != second.predictions().classes).sum())
    assert f"{in_percent(first.accuracy)} % and disagree on {unlike:,} of the 10,000 test digits" in text
    apart = [abs(a / b - 1) for a, b in zip(second.run.step_losses(), first.run.step_losses(), strict=True)]
    assert "to its last of 6, [`strong`, seed 0](results/strong/seed0), on native-avx512. " in text
    assert f"differ by at most {max(apart):.0e} of their size" in text
    assert ("by more than 10 % first in batch" in text) == (max(apart) > 0.1)
    assert text.endswith("the run on stock Keras is within this range, 0.7 standard deviations from their mean.")
    stock.environment["resumed"] = [first.environment]
    assert render_section("stock_keras", board) == "No run on stock Keras is published yet."


def test_sections_say_what_records_say(published: Path) -> None:
    board = Board.read(Path("results"))
    first, second = board.records["strong"]
    mean = 100 * (first.correct + second.correct) / 2 / NUM_TEST
    headline = " ".join(render_section("headline", board).split())
    assert f"Trained with the tuned preset `strong`, it classifies **{mean:.2f} ± " in headline
    assert " %** of the 10,000 test digits correctly (mean ± standard deviation of 2 seeds)" in headline
    assert f"| `strong` | sMNIST, 40 training images | 2 | **{mean:.2f} ± " in render_section("summary", board)
    for record in (first, second):
        row = f"| {record.seed} | {record.correct:,} | {record.correct / 100:.2f} ("
        assert row in render_section("runs", board)
    row = rf"\texttt{{strong}}) & sMNIST, 40 training images & 1,322 & Adam, 2 epochs & ${mean:.2f} \pm "
    assert row in render_section("rows_to_paste", board)
    exported = " ".join(render_section("exported", board).split())
    assert "`strong`, seed 0 ([record](results/strong/seed0))" in exported
    assert f"classifies **{first.correct:,}** of the 10,000 test digits correctly" in exported


def test_the_headline_has_both_tasks(published: Path) -> None:
    board = Board.read(Path("results"))
    assert "psMNIST" not in render_section("headline", board)
    records = board.records["strong"]
    config = cfg.with_values(records[0].config, {"task.permutation": "urnn92916"})
    board.records[PERMUTED] = [dataclasses.replace(records[0], name=PERMUTED, config=config)]
    headline = " ".join(render_section("headline", board).split())
    share = f"{records[0].correct / 100:.2f}"
    assert f"; with permuted pixels (`urnn92916`, preset `{PERMUTED}`), **{share} %** (one seed)." in headline
    assert f"| `{PERMUTED}` | psMNIST (urnn92916), 40 training images | 1 | **{share}** |" in render_section(
        "summary", board
    )
    rows = render_section("summary", board).splitlines()[-2:]
    assert "| never | never | no" in rows[0] and "| never |  | no" in rows[1]  # the original read it row by row
    assert render_section("summary", board).count(" (images) |") == 1
    said = " ".join(render_section("seeds", board).split())
    assert f"One seed says nothing about the spread: `{PERMUTED}`." in said
    assert f"`{PERMUTED}` against" not in said  # another task


def test_the_time_to_an_accuracy(published: Path) -> None:
    board = Board.read(Path("results"))
    assert "| `strong` | 2 | never |  | 0 of 2 | never |  | 0 of 2 |" in render_section("targets", board)
    first, second = board.records["strong"]
    for number, record in enumerate((first, second), 1):
        for epoch, row in enumerate(record.history, 1):
            row.update(test_accuracy=0.985 if epoch >= number else 0.5, seconds=90.0)
    second.history[1]["test_accuracy"] = 0.99
    assert "| `strong` | 2 | 1 to 2 | 2 to 3 | 0 of 2 | 2 (1 of 2 seeds never) | 3 | 0 of 2 |" in render_section(
        "targets", board
    )


def test_the_largest_fall_of_a_seed(published: Path) -> None:
    board = Board.read(Path("results"))
    seeds = []
    for record, accuracies in zip(
        board.records["strong"], ([0.4, 0.1, 0.6, 0.9, 0.5, 0.8], [0.3, 0.2, 0.55, 0.55]), strict=True
    ):
        history = [{"epoch": n, "test_accuracy": share} for n, share in enumerate(accuracies, 1)]
        escaped = next(n for n, share in enumerate(accuracies, 1) if share > 0.5)
        seeds.append(dataclasses.replace(record, history=history, summary={**record.summary, "escape_epoch": escaped}))
    board.records["strong"] = seeds
    said = " ".join(render_section("seeds", board).split())
    assert "First epoch above 50 %: 3. Largest fall after it: 0.00 to 40.00 points." in said
    board.records["strong"] = [seeds[0], seeds[0]]
    assert "Largest fall after it: 40.00 points." in " ".join(render_section("seeds", board).split())
    never = [dataclasses.replace(record, summary={**record.summary, "escape_epoch": None}) for record in seeds]
    board.records["strong"] = never
    assert "First epoch above 50 %: never." in render_section("seeds", board)
    assert "Largest fall" not in render_section("seeds", board)


def test_the_deviation_between_the_last_epochs_of_a_seed(published: Path) -> None:
    board = Board.read(Path("results"))
    histories = [[0.1] * 10 + [0.8, 0.9] * 5, [0.1] * 10 + [0.9] * 10]
    long = [
        dataclasses.replace(r, history=[{"epoch": n, "test_accuracy": share} for n, share in enumerate(shares, 1)])
        for r, shares in zip(board.records["strong"], histories, strict=True)
    ]
    board.records["strong"] = long
    said = " ".join(render_section("seeds", board).split())
    assert "points (of a seed over its last ten epochs: 0.00 to 5.27), " in said  # 0.05 * sqrt(10 / 9)
    board.records["strong"] = [dataclasses.replace(r, history=r.history[1:]) for r in long]
    assert "last ten epochs" not in render_section("seeds", board)


def test_the_minutes_of_a_run_leave_out_its_pauses(published: Path) -> None:
    first = Board.read(Path("results")).records["strong"][0]
    paused = dataclasses.replace(first, history=[{"seconds": seconds} for seconds in (60.0, 60.0, 6000.0, 63.0)])
    assert (paused.minutes_to(2), paused.minutes_to(4)) == (61.5 / 60 * 2, 61.5 / 60 * 4)


def test_what_the_seeds_say(published: Path) -> None:
    board = Board.read(Path("results"))
    first, second = board.records["strong"]
    board.records["baseline"] = [dataclasses.replace(r, name="baseline") for r in (first, second)]
    said = " ".join(render_section("seeds", board).split())
    least, most = sorted((first.correct, second.correct))
    assert f"`strong`, 2 seeds: {least / 100:.2f} to {most / 100:.2f} %" in said
    assert f"{most - least:,} digits between the best and the worst seed" in said
    assert (
        "The original's 98.38 %, inferred from its printed figure, is one run. It is above all of our 2 seeds" in said
    )
    assert "| `baseline` against `strong` | 0.00 | " in said
    assert "lost what" not in said
    for record in (first, second):
        record.history[0]["test_accuracy"] = record.accuracy + 0.06
        record.history[1]["test_accuracy"] = record.accuracy - 0.01
    said = " ".join(render_section("seeds", board).split())
    share = first.correct / 100
    assert (
        f"`strong`, seed {first.seed}, lost what it had learned: {share + 6:.2f} % in epoch 1, {share - 1:.2f} % in "
        f"epoch 2, {share:.2f} % at its end."
    ) in said
    board.records["baseline"] = board.records["baseline"][:1]
    said = " ".join(render_section("seeds", board).split())
    assert "Our one seed of `baseline` is below it; one seed cannot say whether it is typical." in said


def test_the_plateau_says_when_runs_without_chrono_left_it(published: Path) -> None:
    board = Board.read(Path("results"))
    assert render_section("plateau", board) == "No run without chrono is published yet."
    first, second = board.records["strong"]
    plain = cfg.with_values(first.config, {"model.forget_bias": None})
    epochs = [
        dataclasses.replace(r, config=plain, summary={**r.summary, "escape_epoch": e})
        for r, e in ((first, 15), (second, 9), (second, None))
    ]
    permuted = cfg.with_values(plain, {"task.permutation": "urnn92916"})
    other_order = [dataclasses.replace(epochs[0], config=permuted)]
    board.records.update(baseline=epochs, permuted=other_order, adam=epochs[:2], sgd=epochs[2:])
    assert " ".join(render_section("plateau", board).split()) == (
        "First epoch above 50 % of the published runs without chrono: `baseline` 9 to 15 (1 of 3 seeds never), "
        "`adam` 9 to 15 (2 seeds), `sgd` never (seed 0)."
    )


def test_the_model_card_says_what_the_records_say(published: Path) -> None:
    board = Board.read(Path("results"))
    first, second = board.records["strong"]
    card = (Path("results") / "strong" / "README.md").read_text()
    _, head, text = card.split("---\n", 2)
    metadata = yaml.safe_load(head)
    (result,) = metadata["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": first.accuracy}]
    for record in (first, second):
        assert f"| {record.seed} | {record.correct:,} | {record.correct / 100:.2f} | `" in text
    assert "@software{seqmnist_tf,\n" in text and first.summary["config_id"] in text
    commits = [code_of(record.environment) for record in (first, second)]
    assert all(commit in text.split("note = {")[1] for commit in commits), "commits of all seeds"
    python = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    compile(python[0], "card", "exec")


def test_each_experiment_is_cited_under_its_own_key(published: Path) -> None:
    first, second = Board.read(Path("results")).records["strong"]
    assert "version" not in bibtex([first, second])
    other = [dataclasses.replace(record, name="mine", environment={**record.environment}) for record in (first, second)]
    other[1].environment["git"] = {"commit": None, "dirty": None}
    other[1].environment["versions"] = {"seqmnist_tf": "9.8.7"}
    text = bibtex(other)
    assert "@software{seqmnist_tf_mine,\n" in text
    assert f", seeds 0, 1, commit {code_of(first.environment)}, version 9.8.7}}" in text


def test_a_source_may_have_one_of_the_two_tasks() -> None:
    literature = json.loads((ROOT / "results" / "literature.json").read_text())
    rows = [row for row in literature["plain_lstm"] if row["smnist"] is None]
    assert [(row["units"], row["psmnist"]) for row in rows] == [
        ("116", 91.8),
        ("170", 92.0),
        ("360", 92.9),
        ("512", 92.0),
    ]
    text = render_section("literature", Board({}, literature, {}))
    assert "| Kiani et al. 2022 (projUNN) | 116 |  |  | 91.8 | 3 |" in text
    assert "Of these 10 accuracies, from 9 sources" in " ".join(text.split())


def test_the_quick_start_says_what_its_record_says(published: Path) -> None:
    board = Board.read(Path("results"))
    assert "%" not in render_section("quick_start", board)
    record = board.records["strong"][0]
    board.records[QUICK_START] = [record]
    text = " ".join(render_section("quick_start", board).split())
    minutes = sum(row["seconds"] for row in record.history) / 60
    assert f" for 2 epochs. Seed 0 reached **{record.correct / 100:.2f} %** test accuracy" in text
    assert f" after {minutes:.1f} minutes of training ([record](results/strong/seed0/summary.json)" in text


def test_cost_has_a_row_for_each_machine(published: Path) -> None:
    board = Board.read(Path("results"))
    assert "| `strong` | 0, 1 |" in render_section("cost", board)
    second = board.records["strong"][1]
    second.environment["threads"] = 7
    rows = render_section("cost", board).splitlines()[2:]
    assert rows[0].startswith("| `strong` | 0 | ") and rows[1].startswith("| `strong` | 1 | ")
    assert "7 threads" not in rows[0] and "7 threads" in rows[1]
    assert f" {statistics.median(row['seconds'] for row in second.history):.0f} (" in rows[1]


def test_no_line_breaks_inside_of_a_number() -> None:
    for words in range(60):
        text = wrap_text("x " * words + "95.99 ± 0.19 % of the digits", "- ", "  ")
        assert "95.99 ± 0.19 %" in text and max(map(len, text.splitlines())) <= 120


def test_every_key_is_in_the_configuration_section() -> None:
    lines = render_section("configuration", EMPTY).splitlines()
    assert lines[0] == "| key | default | allowed values | meaning |"
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]
    assert [row[0] for row in rows] == [f"`{key}`" for key in cfg.OPTIONS]
    for row, option in zip(rows, cfg.OPTIONS.values(), strict=True):
        word = row[1].strip("`")
        assert option.parse(word) == option.default
        assert row[2].replace("\\\\", "\\") == option.allowed
        assert row[3].replace("\\\\", "\\") == option.meaning
    assert "| `optimizer.grad_clip_norm` | `null` | > 0 or null |" in "\n".join(lines)


def test_every_preset_is_in_the_presets_section(published: Path) -> None:
    board = Board.read(Path("results"))
    text = render_section("presets", board)
    assert re.findall(r"^- `(\w+)`: ", text, re.MULTILINE) == list(cfg.PRESETS)
    items = [" ".join(item.split()) for item in text.removeprefix("- ").split("\n- ")]
    accuracy = SeededRuns("strong", board.records["strong"]).text
    meaning = "mean ± standard deviation of 2 seeds"
    results = {"strong": f"Test accuracy: **{accuracy} %** ({meaning}); first epoch above 50 %: never."}
    assert items == [
        f"`{name}`: {preset.doc} {results.get(name, 'No run is published yet.')}"
        for name, preset in cfg.PRESETS.items()
    ]
    assert max(map(len, text.splitlines())) <= 120
