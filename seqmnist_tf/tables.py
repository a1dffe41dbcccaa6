"""What the READMEs say of records, as Markdown: each function is one marked section."""

from __future__ import annotations

import dataclasses
import statistics
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import scipy.stats

from . import benchmark, records, serving_benchmark
from .config import NUM_TEST, NUM_TRAIN
from .evaluate import wilson_interval
from .records import Record

HEADLINE = "strong"  # the one result that this project stands for
QUICK_START = "quickstart"  # what the README's first command trains
SMALL = (100, 130)  # units of the plain LSTMs whose published figures are compared


@dataclasses.dataclass(frozen=True)
class Board:
    """All that is published.

    Attributes:
        records: by name.
        literature: ``literature.json``: the original's figures, and those of papers.
        speed, serving: ``benchmark.json`` and ``serving.json``.
    """

    records: dict[str, list[Record]]
    literature: dict[str, Any]
    speed: dict[str, Any]
    serving: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Board:
        """Read a results folder.

        Raises:
            InputError: a file is missing or cannot be read.
        """
        names = ("literature", "benchmark", "serving")
        return cls(records.read(folder), *(records.read_json(folder / f"{name}.json") for name in names))


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Test accuracy over the seeds of an experiment.

    Attributes:
        mean, low, high: shares, 0 to 1; ``low`` to ``high`` is a 95 % interval: for the mean over seeds by Student's t,
            or for a single run, whose 10,000 digits are then the sample, by Wilson's score.
        deviation: standard deviation over seeds (with n - 1), None for a single run.
    """

    n: int
    mean: float
    deviation: float | None
    least: float
    most: float
    low: float
    high: float

    @classmethod
    def of(cls, accuracies: Sequence[float]) -> Statistics:
        """Return the statistics of at least one accuracy, each a share of 10,000."""
        n, mean = len(accuracies), statistics.mean(accuracies)
        if n == 1:
            return cls(n, mean, None, mean, mean, *wilson_interval(round(mean * NUM_TEST), NUM_TEST))
        deviation = statistics.stdev(accuracies)
        half = float(scipy.stats.t.ppf(0.975, n - 1)) * deviation / n**0.5
        return cls(n, mean, deviation, min(accuracies), max(accuracies), mean - half, min(1.0, mean + half))

    def percent(self, plus_minus: str = " ± ") -> str:
        """Return mean and deviation in percent."""
        return _percent(self.mean) + (f"{plus_minus}{_percent(self.deviation)}" if self.deviation is not None else "")


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _statistics(runs: Sequence[Record]) -> Statistics:
    return Statistics.of([record.accuracy for record in runs])


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table; a heading that begins with ``>`` stands over numbers."""
    names = " | ".join(name.removeprefix(">") for name in head)
    rule = "|".join("---:" if name.startswith(">") else "---" for name in head)
    return "\n".join([f"| {names} |", f"|{rule}|", *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def _epochs(runs: Sequence[Record]) -> int:
    return runs[0].config.train.n_epochs


def _paragraph(text: str) -> str:
    return textwrap.fill(text, width=120, break_on_hyphens=False, break_long_words=False)


def _machine(record: Record) -> str:
    """Return what a run's time depends on."""
    ran = record.environment
    threads = f"{ran['threads']} thread{'s' if ran['threads'] > 1 else ''}"
    return f"{ran['machine']['processor']}, {threads}, {ran['kernel']}"


def _span(values: Sequence[int | None]) -> str:
    """Return the range of epochs that seeds took, and how many never did."""
    reached = sorted(value for value in values if value is not None)
    missing = len(values) - len(reached)
    if not reached:
        return "never"
    span = str(reached[0]) if reached[0] == reached[-1] else f"{reached[0]} to {reached[-1]}"
    return span + (f"; never {missing}" if missing else "")


def upstream_accuracy(literature: dict[str, Any]) -> tuple[int, int, float]:
    """Return how many digits the original's printed accuracy stands for, its divisor, and the share of 10,000."""
    original = literature["upstream"]
    divisor = original["batches"] * original["batch_size"]
    correct = round(original["printed_accuracy_percent"] / 100 * divisor)
    return correct, divisor, correct / NUM_TEST


def headline(board: Board) -> str:
    """The sentence that the README opens with."""
    found = _statistics(board.records[HEADLINE])
    spread = f"mean and standard deviation of {found.n} seeds" if found.n > 1 else "one seed"
    return _paragraph(
        "The LSTM baseline on sequential MNIST: a plain Keras LSTM(128) that reads a digit's 784 pixels one at a time "
        f"names **{found.percent()} %** of the {NUM_TEST:,} test digits right ({spread}), from a configuration, a "
        "seed, a commit and a log that anyone can run again."
    )


def quick_start(board: Board) -> str:
    """What the README's first command does, and what it took when its record was made."""
    text = f"Train a real LSTM on the real {NUM_TRAIN:,} images"
    if QUICK_START in board.records:
        record = board.records[QUICK_START][0]
        minutes, page = record.summary["seconds_total"] / 60, f"results/{QUICK_START}/seed{record.seed}/summary.json"
        text += (
            f" for {record.config.train.n_epochs} epochs. Seed {record.seed} reads **{_percent(record.accuracy)} %** "
            f"of the {NUM_TEST:,} test digits right after {minutes:.1f} minutes of training ([its record]({page}): "
            f"{_machine(record)})"
        )
    return _paragraph(text + "; without g++, and elsewhere than on Linux x86-64, several times as long:")


def summary(board: Board) -> str:
    """A row for each experiment."""
    rows = []
    for name, runs in board.records.items():
        found = _statistics(runs)
        rows.append(
            [
                f"`{name}`",
                found.n,
                f"**{found.percent()}**",
                f"{_percent(found.least)} to {_percent(found.most)}" if found.n > 1 else "",
                f"{_percent(found.low)} to {_percent(found.high)}",
                _epochs(runs),
                _span([record.summary["escape_epoch"] for record in runs]),
                _span([record.epochs_to(upstream_accuracy(board.literature)[2]) for record in runs]),
            ]
        )
    target = _percent(upstream_accuracy(board.literature)[2])
    head = [
        "run",
        ">seeds",
        ">test accuracy, %",
        ">least to most",
        ">95 % interval",
        ">epochs",
        ">above 50 % from epoch",
        f">{target} % in epoch",
    ]
    return _table(head, rows)


def runs(board: Board) -> str:
    """A row for each run."""
    rows = []
    for name, of_name in board.records.items():
        for record in of_name:
            final, best = record.summary["final"], max(record.history, key=lambda row: row["test_accuracy"])
            low, high = wilson_interval(record.correct, NUM_TEST)
            rows.append(
                [
                    f"[`{name}`]({name}/seed{record.seed})",
                    record.seed,
                    f"{record.correct:,}",
                    f"{_percent(record.accuracy)} ({_percent(low)} to {_percent(high)})",
                    f"{final['test_loss']:.4f}",
                    f"{_percent(record.history[-1]['train_accuracy'])}",
                    f"{_percent(best['test_accuracy'])} ({best['epoch']})",
                    record.summary["escape_epoch"] or "never",
                    f"`{record.environment['git']['commit'][:7]}`",
                    f"`{record.summary['config_id']}`",
                ]
            )
    head = ["run", ">seed", f">right of {NUM_TEST:,}", ">%, Wilson interval", ">test loss", ">training, %",
            ">highest on the way (epoch)", ">above 50 % from epoch", "commit", "configuration"]  # fmt: skip
    return _table(head, rows)


def rows_to_paste(board: Board) -> str:
    """A row for each experiment, in Markdown and in LaTeX."""
    markdown, latex = [], []
    for name, of_name in board.records.items():
        found, config = _statistics(of_name), of_name[0].config
        task = "sMNIST" if config.task.permutation == "none" else f"psMNIST ({config.task.permutation})"
        model, ours = f"LSTM({config.model.hidden_size})", rf"seqmnist\_tf, \texttt{{{name}}}"
        parameters = f"{of_name[0].summary['num_params']:,}"
        what = f"{config.optimizer.name}, {config.train.n_epochs} epochs"
        markdown.append(f"| {model} `{name}` | {task} | {parameters} | {what} | {found.percent()} | {found.n} |")
        number = found.percent(r" \pm ")
        escaped = task.replace("_", r"\_")
        latex.append(rf"{model} ({ours}) & {escaped} & {parameters} & {what} & ${number}$ & {found.n} \\")
    head = "| model | task | parameters | trained with | test accuracy, % | seeds |\n|---|---|---:|---|---:|---:|"
    return "\n".join(["```markdown", head, *markdown, "```", "", "```latex", *latex, "```"])


def original(board: Board) -> str:
    """The original's figure, its arithmetic, the corrected one, and ours."""
    printed = board.literature["upstream"]
    correct, divisor, share = upstream_accuracy(board.literature)
    batches = f"{printed['batches']} batches x {printed['batch_size']:,}"
    percent, loss = f"{printed['printed_accuracy_percent']:.2f}", printed["printed_loss"]
    rows = [
        ["the original, as printed", f"{correct:,}", percent, "", loss],
        ["the original, corrected", f"{correct:,}", "", f"**{_percent(share)}**", loss],
    ]
    for record in board.records.get("baseline", []):
        shares = [_percent(record.correct / divisor), f"**{_percent(record.accuracy)}**"]
        loss = f"{record.summary['final']['test_loss']:.5f}"
        rows.append([f"`baseline`, seed {record.seed}", f"{record.correct:,}", *shares, loss])
    head = ["", ">right", f">right / {divisor:,} ({batches}), %", f">right / {NUM_TEST:,}, %", ">test loss"]
    return _table(head, rows)


def literature(board: Board) -> str:
    """Published accuracies of the plain LSTM, and in what they contradict each other."""
    rows, small, spreads = [], [], 0
    for row in board.literature["plain_lstm"]:
        share = f"{row['smnist']} {row.get('spread', '')}".strip()
        permuted = "" if row["psmnist"] is None else str(row["psmnist"])
        notes = "; ".join(filter(None, [row["recipe"], row.get("note", "")]))
        rows.append([row["source"], row["units"], share, permuted, row.get("runs", ""), notes, row["read_in"]])
        if row["units"].isdecimal() and SMALL[0] <= int(row["units"]) <= SMALL[1]:
            small.append(row["smnist"])
            spreads += "spread" in row
    head = ["source", ">units", ">sMNIST, %", ">psMNIST, %", ">runs", "recipe, remarks", "read in"]
    text = (
        f"One model, LSTMs of {SMALL[0]} to {SMALL[1]} units: from {min(small)} to {max(small)} %. "
        f"Of these {len(small)} figures, {spreads} with a spread over runs."
    )
    return _table(head, rows) + "\n\n" + text


def cost(board: Board) -> str:
    """What training took: a row for each experiment and each machine that it ran on."""
    rows = []
    for name, of_name in board.records.items():
        by_machine: dict[str, list[Record]] = {}
        for record in of_name:
            by_machine.setdefault(_machine(record), []).append(record)
        for where, there in by_machine.items():
            seconds = [row["seconds"] for record in there for row in record.history]
            minutes = statistics.mean(record.summary["seconds_total"] for record in there) / 60
            times = [f"{statistics.median(seconds):.0f} ({min(seconds):.0f})", f"{minutes:.0f}"]
            rows.append([f"`{name}`", ", ".join(str(record.seed) for record in there), *times, where])
    return _table(["run", ">seed", ">seconds an epoch: median (least)", ">minutes a run", "machine"], rows)


def speed(board: Board) -> str:
    """The kernel beside its rivals."""
    return benchmark.to_markdown(board.speed)


def serving(board: Board) -> str:
    """Latency of the exported model, and the local server under load."""
    return serving_benchmark.to_markdown(board.serving)


def one_image(board: Board) -> str:
    """Latency of one image."""
    row = next(row for row in board.serving["latency"] if row["batch"] == 1 and not row["rest_ms"])
    return (
        f"One image takes {row['serving_default_ms']:.1f} ms where Keras's own `model.export()` takes "
        f"{row['stock_ms']:.1f} (`serving_default`, called in one process)."
    )


def exported(board: Board) -> str:
    """Which run the newest exported version is."""
    record = board.records[HEADLINE][0]
    return (
        f"The newest version is the run `{HEADLINE}`, seed {record.seed} ([its record](../results/{HEADLINE}/seed"
        f"{record.seed})), which reads **{record.correct:,}** of the {NUM_TEST:,} test digits right."
    )


SECTIONS: dict[str, Callable[[Board], str]] = {
    section.__name__: section
    for section in (
        headline,
        quick_start,
        summary,
        runs,
        rows_to_paste,
        original,
        literature,
        cost,
        speed,
        serving,
        one_image,
        exported,
    )
}
