"""Replay: losses of a run, and after all of them its weights, are computed anew."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.kernel import native
from seqmnist_tf.model import Kernel
from seqmnist_tf.results import replay
from seqmnist_tf.results.__main__ import main
from seqmnist_tf.results.records import Record, with_replay
from seqmnist_tf.results.replay import replay_run
from seqmnist_tf.results.store import manifest_problems
from seqmnist_tf.system import available_cores, json_bytes
from seqmnist_tf.train import RunDirectory, load_run, train
from tests.changes import change_json, content
from tests.conftest import Command
from tests.results.files import other_weights

SEED1 = Path("results/strong/seed1")


@pytest.fixture
def losses(published: Path) -> list[float]:
    """The recorded losses of seed 1."""
    return Record.read(SEED1).run.step_losses()


def replayed(losses: list[float], full: bool = False) -> replay.Replay:
    return replay_run(load_run(SEED1), losses, steps=len(losses) if full else None)


def test_a_run_that_started_over_is_replayed_on_the_kernel_of_its_resumed_part(losses: list[float]) -> None:
    def start_over(environment: dict[str, Any]) -> None:
        part = {key: value for key, value in environment.items() if key not in ("preset", "config_id", "resumed")}
        environment.update(kernel="keras", threads=1000, resumed=[{**part, "first_step": 0}])

    kernel = Record.read(SEED1).environment["kernel"]
    change_json(SEED1 / "environment.json", start_over)
    made = replayed(losses)
    assert (made.kernel, made.elsewhere, made.parted, made.batches) == (kernel, "", None, len(losses))
    change_json(SEED1 / "environment.json", lambda d: d["resumed"][0].update(first_step=3, threads=1000, device="GPU"))
    assert "threads 1000" in replayed(losses).elsewhere  # batches of both parts
    change_json(SEED1 / "environment.json", lambda d: d["resumed"][0].update(first_step=len(losses)))
    change_json(SEED1 / "environment.json", lambda d: d.update(kernel=kernel, threads=d["resumed"][0]["threads"]))
    assert replay._parts_of(load_run(SEED1).environment, None, len(losses)) == [load_run(SEED1).environment]


@pytest.mark.slow
def test_averaged_weights_are_those_of_a_whole_replay(published: Path, tmp_path: Path) -> None:
    config = cfg.with_values(cfg.preset("strong"), {"optimizer.ema_momentum": 0.7})
    assert train(config, tmp_path / "run")["status"] == "completed"
    run = load_run(tmp_path / "run")
    made = replay_run(run, (losses := run.step_losses()), steps=len(losses))
    assert made.parted is None and replay.weights_distance(run, made.model) == 0


def test_a_replay_is_of_the_first_batches_and_a_full_one_of_all(
    losses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert replay.REPLAYED_BATCHES == 20
    monkeypatch.setattr(replay, "REPLAYED_BATCHES", 4)
    for full, batches in ((False, 4), (True, 6)):
        result = replayed(losses, full=full)
        assert (result.parted, result.batches, int(result.entry()["batches"])) == (None, batches, batches)


def test_where_a_record_parts_is_said(command: Command, published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, steps = RunDirectory(SEED1).step_losses()[4], RunDirectory.steps_csv
    monkeypatch.setattr(RunDirectory, "steps_csv", lambda run: re.sub(rb"(?m)^5,.*$", b"5,2.25,1.0", steps(run)))
    answer = command(main, "--replay", "full", "strong/seed1", "--write")
    assert answer.status == 1
    assert "results/strong/seed1: first differs at batch 5, in epoch 2, on " in answer.out
    assert f"batch 5 has loss {honest!r} (recorded: 2.25" in answer.out


def test_another_order_of_the_batches_is_found(losses: list[float]) -> None:
    assert replayed([losses[1], losses[0], *losses[2:]]).parted == 1


def test_other_weights_are_found_by_a_whole_replay(command: Command, published: Path) -> None:
    other_weights(SEED1 / "model.keras")
    answer = command(main, "--replay", "full", "strong/seed1", "--write")
    assert answer.status == 1 and "6 batches agree bit for bit, but the weights do not" in answer.out


def test_a_model_that_cannot_be_read_does_not_keep_others_from_their_replay(command: Command, published: Path) -> None:
    first, *others = sorted(SEED1.parent.glob("seed*"))
    (first / "model.keras").write_bytes(b"x")
    before = content(published)
    answer = command(main, "--replay", "full", "strong")
    assert answer.status == 1 and f"cannot read {first / 'model.keras'}" in answer.out
    kernel = Record.read(SEED1).environment["kernel"]
    agree = f"6 batches agree bit for bit, and the weights bit for bit, on {kernel}\n"
    assert others and all(f"{other}: {agree}" in answer.out for other in others)
    assert content(published) == before


@pytest.mark.parametrize(
    ("largest", "exact", "distance", "same"),
    [(0.0, True, 0.0, True), (0.0, True, 1e-9, False), (0.0, False, 9e-6, True), (0.0, False, 2e-5, False),
     (4e-5, False, 3e-4, True), (4e-5, False, 5e-4, False), (4e-5, False, float("nan"), False)],
)  # fmt: skip
def test_weights_may_differ_as_much_as_the_losses_justify(
    largest: float, exact: bool, distance: float, same: bool
) -> None:
    made = replay.Replay(6, None, (0.0, 0.0), largest, "keras", "" if exact else "elsewhere", None)
    assert (made.weights_problems(distance) == []) == same


@pytest.mark.parametrize(
    ("factor", "same_machine", "parted"), [(1 + 1e-6, True, 2), (1 + 1e-6, False, None), (1 + 6e-5, False, 2)]
)
def test_another_processor_may_differ_in_the_last_digits(
    factor: float, same_machine: bool, parted: int | None, losses: list[float]
) -> None:
    machine = {"processor": "EPYC (family 1, model 1)" if same_machine else "another"}
    change_json(SEED1 / "environment.json", lambda d: d.update(machine=machine))
    described = {"processor": "EPYC (family 1, model 1)"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "describe_machine", lambda: described)
        result = replayed([losses[0], losses[1] * factor, *losses[2:]])
    assert (result.parted, not result.elsewhere) == (parted, same_machine)
    assert result.largest == pytest.approx(factor - 1 if parted is None else 0, rel=0.01)
    assert len(result.problems()) == (parted is not None)


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
    other = {**own, "versions": {**own["versions"], "seqmnist_tf": "0.1"}}
    assert replay.difference_of_machines(other, kernel) == ""
    for name, threads, same in (("keras", 0, True), ("keras", 1, False), ("native-avx2", 1, True)):
        threaded = {**own, "kernel": name, "threads": available_cores() + threads}
        assert (replay.difference_of_machines(threaded, Kernel("avx2" if "-" in name else None)) == "") == same
    monkeypatch.setitem(described, "processor", "EPYC")  # a name alone is of several processors
    assert replay.difference_of_machines({**own, "machine": described}, kernel) != ""


def test_a_clone_without_the_kernel_says_how_to_build_it(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = json.loads((SEED1 / "environment.json").read_text()) | {"kernel": "native-avx2"}
    said = replay.difference_of_machines(environment, Kernel(None, "it was not compiled"))
    assert "here on kernel keras" in said and "it was not compiled" in said and "pip install -e ." in said


def test_the_kernel_is_the_records(losses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    change_json(SEED1 / "environment.json", lambda d: d.update(kernel="keras", machine={"processor": "another"}))
    result = replayed(losses)
    assert (result.kernel, result.parted) == ("keras", None)
    try:
        fastest = native.instruction_set()
    except native.UnavailableError:
        pytest.skip("no native kernel")
    monkeypatch.setenv("SEQMNIST_ISA", fastest)
    change_json(SEED1 / "environment.json", lambda d: d.update(kernel="native-avx2"))
    assert replayed(losses).kernel == "native-avx2"
    monkeypatch.setattr(native, "instruction_set", only(fastest))
    change_json(
        SEED1 / "environment.json", lambda d: d.update(kernel="native-amx" if fastest == "neon" else "native-neon")
    )
    result = replayed(losses)
    assert (result.kernel, bool(result.elsewhere), result.parted) == (f"native-{fastest}", True, None)
    assert native.os.environ["SEQMNIST_ISA"] == fastest


def only(isa: str) -> Callable[[str], str]:
    """Return a stand-in for ``instruction_set`` on a machine with one instruction set."""

    def instruction_set(precision: str = "float32") -> str:
        if (wanted := native.os.environ.get("SEQMNIST_ISA", isa)) != isa:
            raise native.UnavailableError(f"no {wanted}")
        return isa

    return instruction_set


def test_what_was_replayed_is_noted_and_shown(command: Command, published: Path) -> None:
    old = {
        "date": "2020-01-01T00:00:00+00:00",
        "processor": "x86 [a](b)",
        "kernel": "keras",
        "versions": {},
        "batches": 6,
        "largest_difference": 2.4e-7,
    }
    (SEED1 / "record.json").write_bytes(json_bytes({"schema": 1, "replayed": [old]}))
    assert command(main, "--replay", "strong/seed1", "--write").status == 0
    assert manifest_problems(Path("results")) == []
    first, second = json.loads((SEED1 / "record.json").read_text())["replayed"]
    assert first == old and second["largest_difference"] == 0 and second["date"] > old["date"]
    assert {"python", "tensorflow", "keras", "numpy"} == set(second["versions"])


@pytest.mark.parametrize("words", [("--replay", "weak"), ("--write",), ("--check", "--replay")])
def test_bad_words_are_refused(words: tuple[str, ...], command: Command, published: Path) -> None:
    answer = command(main, *words)
    assert answer.status == 2 and answer.err.startswith("error: ") and words[-1] in answer.err


def test_of_replays_on_one_machine_the_last_is_kept() -> None:
    entry = {"date": "1", "processor": "a", "kernel": "keras", "batches": 20, "largest_difference": 0.1}
    document: dict[str, Any] = {"schema": 1, "replayed": []}
    for other in (entry, {**entry, "batches": 600}, {**entry, "date": "2"}):
        document = with_replay(document, other)
    assert [(e["date"], e["batches"]) for e in document["replayed"]] == [("1", 600), ("2", 20)]
