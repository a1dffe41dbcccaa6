"""Replay: losses of a run, and after all of them its weights, are computed anew."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.kernel import native
from seqmnist_tf.model import Kernel
from seqmnist_tf.results import replay
from seqmnist_tf.results.__main__ import main
from seqmnist_tf.system import available_cores
from seqmnist_tf.train import load_run, train
from tests.changes import change_json, content, replace
from tests.conftest import Command
from tests.results.files import exchange_losses, other_weights

SEED1 = Path("results/strong/seed1")


def compared(recorded: list[float], losses: list[float], elsewhere: str = "") -> replay.Replay:
    """Return what a replay finds that computes these losses, three batches an epoch."""
    made = replay.Replay(recorded, 3, None, "keras", elsewhere)
    made.set_model(SimpleNamespace(stop_training=False))
    for batch, loss in enumerate(losses):
        if not made.model.stop_training:
            made.on_train_batch_end(batch, {"loss": loss})
    return made


@pytest.mark.parametrize(
    ("losses", "elsewhere", "parted", "largest"),
    [
        ([1.0, 2.0, math.nan], "", None, 0),
        ([1.0, 2.0 + 1e-15, math.nan], "", 2, 0),
        ([2.0, 1.0, math.nan], "", 1, 0),
        ([1.0, 2.0 + 4e-5, math.nan], "another machine", None, 2e-5),
        ([1.0, 2.0 + 12e-5, math.nan], "another machine", 2, 0),
        ([1.0, 2.0, 3.0], "another machine", 3, 0),
    ],
)
def test_losses_agree_bit_for_bit_or_within_another_machines_rounding(
    losses: list[float], elsewhere: str, parted: int | None, largest: float
) -> None:
    made = compared([1.0, 2.0, math.nan], [*losses, 7.0], elsewhere)  # the fourth has no recorded loss
    assert (made.parted, made.batches) == (parted, parted - 1 if parted else 3)
    assert made.largest == pytest.approx(largest)
    assert (made.model.stop_training, len(made.problems())) == (parted is not None, parted is not None)


@pytest.mark.parametrize(
    ("largest", "exact", "distance", "same"),
    [(0.0, True, 0.0, True), (0.0, True, 1e-9, False), (0.0, False, 9e-6, True), (0.0, False, 2e-5, False),
     (4e-5, False, 3e-4, True), (4e-5, False, 5e-4, False), (4e-5, False, math.nan, False)],
)  # fmt: skip
def test_weights_may_differ_as_much_as_the_losses_justify(
    largest: float, exact: bool, distance: float, same: bool
) -> None:
    made = compared([1.0], [1.0 + largest], "" if exact else "another machine")
    assert (made.weights_problems(distance) == []) == same


def test_parts_that_trained_the_replayed_batches_count() -> None:
    def parts(first_step: int | None, steps: int | None = None) -> list[str]:
        resumed = {"kernel": "b", **({} if first_step is None else {"first_step": first_step})}
        return [part["kernel"] for part in replay._parts_of({"kernel": "a", "resumed": [resumed]}, steps, 20)]

    assert parts(0) == parts(0, 60) == ["b"]  # it was ended before its first checkpoint
    assert parts(3) == parts(3, 60) == parts(20, 60) == parts(None, 60) == ["a", "b"]
    assert parts(20) == parts(None) == ["a"]


def test_versions_device_and_processor_decide_whether_it_must_agree_exactly(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described, kernel = {"processor": "EPYC (family 1, model 1)"}, Kernel("avx2")
    monkeypatch.setattr(replay, "describe_machine", lambda: described)
    own = json.loads((SEED1 / "environment.json").read_text())
    own |= {"machine": {**described}, "threads": available_cores(), "device": "CPU", "kernel": "native-avx2"}
    assert replay.difference_of_machines(own, kernel) == ""
    different: list[tuple[str, dict[str, Any]]] = [
        *((f"{name} 0.1", {"versions": {**own["versions"], name: "0.1"}}) for name in ("tensorflow", "keras", "numpy")),
        ("device GPU", {"device": "GPU"}),
        ("onednn another", {"onednn": "another"}),
        ("model 2", {"machine": {"processor": "EPYC (family 1, model 2)"}}),
        ("native-amx", {"kernel": "native-amx"}),
    ]
    for words, changes in different:
        there, here = replay.difference_of_machines({**own, **changes}, kernel).split("; here on ")
        assert words in there and words not in here and "native-avx2" in here
    assert "not compiled" in replay.difference_of_machines(own, Kernel(None, "it was not compiled"))
    other = {**own, "versions": {**own["versions"], "seqmnist_tf": "0.1"}}
    assert replay.difference_of_machines(other, kernel) == ""
    for name, threads, same in (("keras", 0, True), ("keras", 1, False), ("native-avx2", 1, True)):
        threaded = {**own, "kernel": name, "threads": available_cores() + threads}
        assert (replay.difference_of_machines(threaded, Kernel("avx2" if "-" in name else None)) == "") == same
    monkeypatch.setitem(described, "processor", "EPYC")  # a name alone is of several processors
    assert replay.difference_of_machines({**own, "machine": described}, kernel) != ""


@pytest.mark.parametrize(
    ("recorded", "inside"),
    [("native-avx2", "avx2"), ("machine2-avx512", "avx512"), ("native-amx", None), ("keras", "avx512")],
)
def test_the_instruction_set_is_the_records_where_the_machine_has_it(
    recorded: str, inside: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def instruction_set() -> None:
        if os.environ["SEQMNIST_ISA"] == "amx":
            raise native.UnavailableError

    monkeypatch.setattr(native, "instruction_set", instruction_set)
    monkeypatch.setenv("SEQMNIST_ISA", "avx512")
    with replay._instruction_set_of(recorded):
        assert os.environ.get("SEQMNIST_ISA") == inside
    assert os.environ["SEQMNIST_ISA"] == "avx512"


def test_the_first_batches_are_replayed_on_the_kernel_of_the_record(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert replay.REPLAYED_BATCHES == 20
    monkeypatch.setattr(replay, "REPLAYED_BATCHES", 2)
    losses = load_run(SEED1).step_losses()
    for kernel in ("keras", load_run(SEED1).environment["kernel"]):
        change_json(SEED1 / "environment.json", lambda d: d.update(kernel=kernel, machine={"processor": "another"}))  # noqa: B023
        made = replay.replay_run(load_run(SEED1), losses)
        assert (made.kernel, made.parted, made.batches) == (kernel, None, 2) and made.elsewhere


def test_a_record_that_cannot_be_read_does_not_keep_others_from_their_replay(command: Command, published: Path) -> None:
    (SEED1.with_name("seed0") / "model.keras").write_bytes(b"x")
    before = content(published)
    answer = command(main, "--replay", "full", "strong")
    assert answer.status == 1 and f"cannot read {SEED1.with_name('seed0') / 'model.keras'}" in answer.out
    kernel = load_run(SEED1).environment["kernel"]
    assert f"{SEED1}: 6 batches agree bit for bit, and the weights bit for bit, on {kernel}\n" in answer.out
    assert content(published) == before


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [("steps.csv.gz", exchange_losses, "retrained, batch 1 (epoch 1) has loss"),
     ("model.keras", other_weights, "retrained, the losses agree, but the weights"),
     ("predictions.csv", replace(r"(?m)^7,(\d),(\d),.*$", "7,1,1,0.777"), "predictions.csv is not what")],
)  # fmt: skip
def test_where_a_record_parts_is_said(
    file: str, change: Callable[[Path], Any], words: str, command: Command, published: Path
) -> None:
    change(SEED1 / file)
    answer = command(main, "--replay", "full", "strong/seed1")
    assert answer.status == 1 and f"{SEED1}: {words}" in answer.out


@pytest.mark.parametrize("words", [("--replay", "weak"), ("--check", "--replay")])
def test_bad_words_are_refused(words: tuple[str, ...], command: Command, published: Path) -> None:
    answer = command(main, *words)
    assert answer.status == 2 and answer.err.startswith("error: ") and words[-1] in answer.err


@pytest.mark.slow
def test_averaged_weights_are_those_of_a_whole_replay(published: Path, tmp_path: Path) -> None:
    config = cfg.with_values(cfg.preset("strong"), {"optimizer.ema_momentum": 0.7})
    assert train(config, tmp_path / "run")["status"] == "completed"
    run = load_run(tmp_path / "run")
    made = replay.replay_run(run, (losses := run.step_losses()), steps=len(losses))
    assert made.parted is None and replay.weights_distance(run, made.stock) == 0
