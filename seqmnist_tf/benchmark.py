"""Speed of the baseline's training step and evaluation, measured side by side.

python -m seqmnist_tf.benchmark [--scaling] [--json]
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from . import cli, environment, runtime
from .config import Config
from .contenders import CONTENDERS, Workload, installed, serve
from .errors import RunError
from .kernels import native
from .mnist import load_mnist

TRAIN_IMAGES = 2000  # what training steps go through
ROUNDS = {"train": 21, "evaluate": 3}  # at most; each contender has one turn a round
SECONDS = {"train": 100.0, "evaluate": 60.0}  # after which no further round begins
PAUSE_SECONDS = 0.05  # between turns: threads of the one before may still spin
SCALING = {"batch": (25, 50, 100, 200, 400, 800), "steps": (196, 784, 1568), "units": (64, 128, 256)}
SCALING_ROUNDS = 5
PEAK_ROUNDS = 5
GATES, BYTES = 4, 4

Answers = dict[str, list[dict[str, Any]]]


class Contestant:
    """A contender in a process of its own."""

    def __init__(self, name: str, workload: Workload) -> None:
        self.name = name
        spawn = multiprocessing.get_context("spawn")
        self.connection, other_end = spawn.Pipe()
        self.process = spawn.Process(target=serve, args=(name, workload, other_end), daemon=True)
        self.process.start()
        other_end.close()
        self.version = str(self._answer()["ready"])

    def do(self, word: str) -> dict[str, Any]:
        """Let it ``train`` one step or ``evaluate`` once; return ``ms`` and ``peak_mb``."""
        with contextlib.suppress(BrokenPipeError):
            self.connection.send(word)
        return self._answer()

    def close(self) -> None:
        """End its process."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def _answer(self) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self.connection.recv()
        except (EOFError, ConnectionResetError):
            raise RunError(f"contender {self.name} ended without a word (exit {self.process.exitcode})") from None
        if "error" in answer:
            raise RunError(f"contender {self.name}: {answer['error']}")
        return answer


@contextlib.contextmanager
def contestants(names: Sequence[str], workload: Workload) -> Iterator[list[Contestant]]:
    """Start contenders one after the other, and end them; one that cannot start is left out with a warning."""
    started: list[Contestant] = []
    try:
        for name in names:
            try:
                started.append(Contestant(name, workload))
            except RunError as error:
                print(f"warning: left out: {error}", file=sys.stderr, flush=True)
        yield started
    finally:
        for contestant in started:
            contestant.close()


def take_turns(contestants: Sequence[Contestant], word: str, rounds: int, seconds: float) -> Answers:
    """Let each contender do a thing in turn, for so many rounds or until the time is over, at least once."""
    answers: Answers = {contestant.name: [] for contestant in contestants}
    end = time.perf_counter() + seconds
    for done in range(rounds):
        if done and time.perf_counter() > end:
            break
        for contestant in contestants:
            answers[contestant.name].append(contestant.do(word))
            time.sleep(PAUSE_SECONDS)
    return answers


def summarize(answers: Answers) -> dict[str, dict[str, Any]]:
    """Return for each contender its median, quartiles and range in ms, its ratio to stock Keras, and its memory."""
    keras = statistics.median(answer["ms"] for answer in answers["keras"]) if answers.get("keras") else None
    rows = {}
    for name, list_of_answers in answers.items():
        times = sorted(answer["ms"] for answer in list_of_answers)
        low, median, high = np.percentile(times, (25, 50, 75)).tolist()
        rows[name] = {
            "median_ms": median,
            "quartiles_ms": [low, high],
            "range_ms": [times[0], times[-1]],
            "turns": len(times),
            "ratio": None if keras is None else keras / median,
            "peak_mb": list_of_answers[-1]["peak_mb"],
        }
    return rows


def memory_bandwidth(threads: int) -> float:
    """Return the bytes a second that all threads together read and write, copying arrays larger than any cache."""
    arrays = [np.ones((2, 2**25), np.float32) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        best = 0.0
        for _ in range(PEAK_ROUNDS):
            started = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(pair[0], pair[1]), arrays))
            best = max(best, sum(pair.nbytes for pair in arrays) / (time.perf_counter() - started))
    return best


def limit(workload: Workload) -> dict[str, float]:
    """Return what this machine allows the kernel's design at best, from peaks that are measured here.

    The recurrent product and its two gradients take 2 * 4 * units**2 operations each for a row and step, and on AMX
    four, four and three times as many, in bfloat16. Steps at which a row has shown nothing but the first pixel's value
    are computed once for the batch. Gates and states are written and read once.
    """
    sequences = workload.sequences("train")[..., 0]
    alone = 1 - np.logical_and.accumulate(sequences == sequences[0, 0], axis=1).mean()
    row_steps = workload.batch * workload.steps * alone
    products = 4 + 4 + 3 if native.instruction_set() == "amx" else 3
    operations = row_steps * products * 2 * GATES * workload.units**2
    kept = row_steps * native.KEPT * workload.units * BYTES
    peak = max(native.peak(workload.threads) for _ in range(PEAK_ROUNDS))
    bandwidth = memory_bandwidth(workload.threads)
    return {
        "gflops": peak / 1e9,
        "gb_per_s": bandwidth / 1e9,
        "own_steps": float(alone),
        "products_ms": 1e3 * operations / peak,
        "memory_ms": 1e3 * 2 * kept / bandwidth,
        "limit_ms": 1e3 * max(operations / peak, 2 * kept / bandwidth),
    }


def measure(workload: Workload) -> dict[str, Any]:
    """Measure all contenders that are installed; return the command's JSON document."""
    names = [name for name in CONTENDERS if installed(name)]
    with contestants(names, workload) as started:
        versions = {contestant.name: contestant.version for contestant in started}
        results = {
            word: summarize(take_turns(started, word, ROUNDS[word], SECONDS[word])) for word in ("train", "evaluate")
        }
    document: dict[str, Any] = {
        "train_step": results["train"],
        "evaluate": results["evaluate"],
        "isa": None,
        "ratio_native": None,
        "limit": None,
        "workload": {"batch": workload.batch, "steps": workload.steps, "units": workload.units},
        "threads": workload.threads,
        "versions": versions,
        "machine": environment.machine(),
        "git": environment.git_state(),
        "measured": environment.utc_now(),
    }
    if "native" in results["train"]:
        document["isa"] = native.instruction_set()
        document["ratio_native"] = results["train"]["native"]["ratio"]
        document["limit"] = limit(workload)
    return document


def measure_scaling(workload: Workload) -> list[dict[str, Any]]:
    """Measure the training step of stock Keras and of the native kernel as one of its sizes changes."""
    rows = []
    for size, values in SCALING.items():
        for value in values:
            change: dict[str, Any] = {size: value}
            with contestants(("keras", "native"), replace(workload, **change)) as started:
                answers = take_turns(started, "train", SCALING_ROUNDS, SECONDS["train"])
            medians = {name: row["median_ms"] for name, row in summarize(answers).items()}
            rows.append({"size": size, "value": value, **medians})
            print(f"{size} {value}: {medians}", file=sys.stderr, flush=True)
    return rows


def to_table(document: dict[str, Any]) -> str:
    """Return a benchmark's document as text for people."""
    machine = document["machine"]
    size = document["workload"]
    lines = [
        f"{machine['processor']}, {document['threads']} threads, instruction set {document['isa'] or '-'}",
        f"batch {size['batch']}, {size['steps']} steps, LSTM({size['units']}); contenders take turns",
    ]
    for key, title in (("train_step", "one training step"), ("evaluate", "evaluation of 10,000 images")):
        lines += ["", f"{title:<44}  median ms  quartiles          keras / it  peak memory"]
        for name, row in document[key].items():
            low, high = row["quartiles_ms"]
            ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
            peak = "-" if row["peak_mb"] is None else f"{row['peak_mb']:,.0f} MB"
            what = f"{CONTENDERS[name][0]} ({name})"
            lines.append(f"{what:<44} {row['median_ms']:10,.1f}  {low:8,.1f} {high:8,.1f} {ratio:>11}  {peak:>11}")
    if document["limit"]:
        top = document["limit"]
        lines += [
            "",
            f"limit of a training step here                {top['limit_ms']:10,.1f}  from measured peaks: products "
            f"{top['products_ms']:.1f} ms at {top['gflops']:,.0f} GFLOP/s,",
            f"{'':<57}memory {top['memory_ms']:.1f} ms at {top['gb_per_s']:.1f} GB/s",
        ]
    if "scaling" in document:
        lines += ["", "training step, ms      keras     native   keras / native"]
        for row in document["scaling"]:
            keras, fast = (row.get(name, float("nan")) for name in ("keras", "native"))
            lines.append(f"{row['size']:>6} {row['value']:>5}    {keras:10,.1f} {fast:10,.1f} {keras / fast:16.2f}")
    return "\n".join(lines)


def to_markdown(document: dict[str, Any]) -> str:
    """Return a benchmark's document as the README shows it."""
    machine, versions = document["machine"], document["versions"]
    packages = (("keras", "Keras"), ("pytorch", "PyTorch"), ("jax", "JAX"))
    named = ", ".join(f"{package} {versions[name]}" for name, package in packages if name in versions)
    lines = [
        f"{machine['processor']}, {document['threads']} threads, instruction set {document['isa']}; {named}; "
        f"{document['measured'][:10]}, commit {(document['git']['commit'] or 'unknown')[:7]}.",
        "",
        "| | step, ms | stock Keras / it | evaluation, s | stock Keras / it | peak memory, MB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, step in document["train_step"].items():
        evaluation = document["evaluate"][name]
        memory = "-" if step["peak_mb"] is None else f"{max(step['peak_mb'], evaluation['peak_mb']):,.0f}"
        lines.append(
            f"| {CONTENDERS[name][0]} | {step['median_ms']:.1f} | {step['ratio']:.2f} | "
            f"{evaluation['median_ms'] / 1e3:.2f} | {evaluation['ratio']:.2f} | {memory} |"
        )
    top = document["limit"]
    lines += [
        "",
        f"At the peak that was measured on these cores, {top['gflops']:.0f} GFLOP/s, the products of a step take "
        f"{top['products_ms']:.0f} ms.",
    ]
    if "scaling" in document:
        lines += ["", "| training step | stock Keras, ms | native kernel, ms | ratio |", "|---|---:|---:|---:|"]
        for row in document["scaling"]:
            ratio = f"{row['keras'] / row['native']:.2f}"
            lines.append(f"| {row['size']} {row['value']} | {row['keras']:.1f} | {row['native']:.1f} | {ratio} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = cli.Parser(
        prog="python -m seqmnist_tf.benchmark",
        description="Measure a training step and an evaluation of the baseline: stock Keras, jit_compile, the native "
        "kernel; PyTorch and JAX where the extra `bench` is installed. Some four minutes; --scaling takes longer.",
    )
    parser.add_argument("--scaling", action="store_true", help="also by batch size, number of steps and units")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args(argv)
    runtime.import_tensorflow()
    config = Config()
    mnist = load_mnist(config.data.source, config.data.dir)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npz"
        images, labels = mnist["train"].images[:TRAIN_IMAGES], mnist["train"].labels[:TRAIN_IMAGES]
        np.savez(path, train=images, labels=labels, test=mnist["test"].images)
        workload = Workload(str(path), threads=runtime.available_cores())
        document = measure(workload)
        if args.scaling:
            document["scaling"] = measure_scaling(workload)
    print(json.dumps(document) if args.json else to_table(document))
    return cli.EXIT_DONE


if __name__ == "__main__":
    cli.run(main)
