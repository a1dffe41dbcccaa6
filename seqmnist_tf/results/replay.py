"""Replay: a run trained anew from its configuration and seed, its first batches or all of them; ``results --replay``.

The losses of the batches that are trained anew must be the recorded ones, and after all of them the weights.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..config import Config, Data
from ..data import Split, batches, load_splits, pixel_order
from ..kernel import native
from ..model import build_model, choose_kernel, make_trainable, swap_averages
from ..system import InputError, available_cores, describe_machine, note, package_versions, say, utc_now
from ..train import RunDirectory, load_final_model
from .records import (
    REPLAY_TOLERANCE,
    REPLAYS_FILE,
    Record,
    agreement,
    all_records,
    all_trials,
    read_replays,
    record_json,
)
from .store import locked, set_files

REPLAYED_BATCHES = 20
VERSIONS = ("tensorflow", "keras", "numpy")  # of what computes a loss


@dataclass(frozen=True)
class Replay:
    """What came of a replay.

    Attributes:
        batches: how many were trained anew and agree, up to where it parts.
        parted: the first step whose loss differs by more than is allowed; None where all agree.
        losses: this step's loss, anew and as recorded.
        largest: the largest difference of a loss, relative to the recorded one; 0 is bit for bit.
        kernel: what computed the LSTM, as in ``environment.json``.
        exact: whether it had to agree bit for bit.
        model: the trained model.
    """

    batches: int
    parted: int | None
    losses: tuple[float, float]
    largest: float
    kernel: str
    exact: bool
    model: keras.Model

    def entry(self) -> dict[str, Any]:
        """Return the entry of ``record.json``."""
        versions = package_versions()
        return {
            "date": utc_now(),
            "processor": describe_machine()["processor"],
            "kernel": self.kernel,
            "versions": {"python": platform.python_version(), **{name: versions[name] for name in VERSIONS}},
            "batches": self.batches,
            "largest_difference": self.largest,
        }

    def problems(self) -> list[str]:
        """Return where the replay parts from the record.

        Where it need not agree bit for bit, rounding grows with the steps: it may part after REPLAYED_BATCHES.
        """
        if self.parted is None or (self.parted > REPLAYED_BATCHES and not self.exact):
            return []
        wanted = "bit for bit" if self.exact else f"within {REPLAY_TOLERANCE:g}"
        return [
            f"trained anew, batch {self.parted:,} has loss {self.losses[0]!r} (steps.csv says {self.losses[1]!r}; they "
            f"must agree {wanted} on {self.kernel})"
        ]


class Parted(Exception):
    """The losses differ by more than is allowed."""


class LossComparison(keras.callbacks.Callback):
    """Compares each batch's loss with the recorded one, reports after each epoch, and ends training where they part."""

    def __init__(self, recorded: list[float], exact: bool, per_epoch: int) -> None:
        super().__init__()
        self.per_epoch = per_epoch
        self.recorded, self.tolerance = recorded, 0.0 if exact else REPLAY_TOLERANCE
        self.done, self.largest, self.losses = 0, 0.0, (0.0, 0.0)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss, recorded = float((logs or {})["loss"]), self.recorded[self.done]
        difference = abs(loss - recorded) / (abs(recorded) or 1.0)
        if not difference <= self.tolerance:
            self.losses = (loss, recorded)
            raise Parted
        self.done, self.largest = self.done + 1, max(self.largest, difference)
        if self.done % self.per_epoch == 0:
            note(f"epoch {self.done // self.per_epoch} trained anew, {agreement(self.largest)}")


class TrainingData:
    """The training split that was read last: records with the same pixel order and scaling share it."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._split: Split | None = None

    def read(self, config: Config) -> Split:
        """Return the training split of a configuration; the test set is not read."""
        task = config.task
        key = (task.permutation, task.normalization, task.validation_size, task.limit_train)
        if self._split is None or key != self._key:
            apart = replace(config, data=Data(), test=replace(config.test, enabled=False))
            self._key, self._split = key, load_splits(apart, pixel_order(task.permutation)).train
        return self._split


def replay_run(
    run: RunDirectory, recorded: list[float], data: TrainingData, *, full: bool = False, allow_code: bool = False
) -> Replay:
    """Train a run anew and compare the losses of its first batches.

    They are computed as ``train`` computes them, on the run's kernel and instruction set if this machine has them. On
    the processor, kernel and versions of the run, and of its resumed parts, they must agree bit for bit, elsewhere
    within REPLAY_TOLERANCE.

    Args:
        run: a run directory or the folder of a record.
        recorded: the loss of every batch.
        data: where the images come from.
        full: train to the end, not only the first REPLAYED_BATCHES batches.
        allow_code: run the code of ``layer.py``.
    """
    run.require_code_allowed(allow_code)
    environment = run.environment
    recorded = recorded if full else recorded[:REPLAYED_BATCHES]
    if not recorded:
        raise InputError(f"{run.path} has no batches in steps.csv")
    parts = _parts_of(environment, len(recorded), full)
    with _kernel_of(run.config, parts[0]["kernel"]) as config:
        model = build_model(config, run.layer_file)
        kernel = choose_kernel(config, model)
        exact = all(agrees_exactly(part, kernel.name) for part in parts)
        comparison = LossComparison(recorded, exact, config.steps_per_epoch)
        trained = make_trainable(model, config, kernel)
        # One stream of batches over all epochs: nothing of an epoch's end acts on training.
        stream = batches(data.read(config), config, 0).take(len(recorded))
        parted = None
        try:
            trained.fit(stream, steps_per_epoch=len(recorded), callbacks=[comparison], shuffle=False, verbose=0)
            swap_averages(trained.optimizer)  # as train does before it saves
        except Parted:
            parted = comparison.done + 1
    return Replay(comparison.done, parted, comparison.losses, comparison.largest, kernel.name, exact, model)


def _parts_of(environment: dict[str, Any], batches: int, full: bool) -> list[dict[str, Any]]:
    """Return the parts of a run that trained its first batches: its start, and those that resumed it before their end.

    Of a run that was ended before its first checkpoint, nothing but the resumed part counts. Resumed parts of older
    runs do not say at which step they began: after the first batches.
    """
    parts = [environment]
    for part in environment["resumed"]:
        first_step = part.get("first_step", batches)
        if first_step == 0:
            parts = [part]
        elif full or first_step < batches:
            parts.append(part)
    return parts


def agrees_exactly(environment: dict[str, Any], kernel: str) -> bool:
    """Return whether losses on this machine must be those of a run, to the last bit.

    The processor counts beside kernel and versions: with the same kernel, the mean over a batch came out with another
    last bit on an EPYC of family 25 than on one of family 26. Its name counts only with family and model. On stock
    Keras the number of threads counts too.
    """
    processor, versions = environment["machine"]["processor"], package_versions()
    return (
        environment["kernel"] == kernel
        and (kernel != "keras" or environment["threads"] == available_cores())
        and processor == describe_machine()["processor"]
        and "(family" in processor
        and environment["device"] == "CPU"
        and environment["onednn"] == os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default")
        and all(environment["versions"].get(name) == versions[name] for name in VERSIONS)
    )


def same_weights(run: RunDirectory, model: keras.Model, *, allow_code: bool = False) -> bool:
    """Return whether a model has the weights of a run's ``model.keras``, to the last bit."""
    published = load_final_model(run, allow_code=allow_code).get_weights()
    return all(np.array_equal(a, b) for a, b in zip(published, model.get_weights(), strict=True))


@contextlib.contextmanager
def _kernel_of(config: Config, recorded: str) -> Iterator[Config]:
    """Let ``config`` choose the kernel that a run recorded, if this machine has it, else the machine's own."""
    before = os.environ.get("SEQMNIST_ISA")
    isa = recorded.partition("-")[2]
    choice = replace(config, train=replace(config.train, kernel="keras" if recorded == "keras" else "auto"))
    try:
        if isa in native.ISAS:
            os.environ["SEQMNIST_ISA"] = isa
            try:
                native.instruction_set()
            except native.UnavailableError:
                del os.environ["SEQMNIST_ISA"]
        yield choice
    finally:
        os.environ.pop("SEQMNIST_ISA", None)
        if before is not None:
            os.environ["SEQMNIST_ISA"] = before


def replay_records(
    folder: Path, names: Sequence[str] = (), *, full: bool = False, write: bool = False, allow_code: bool = False
) -> list[str]:
    """Train records anew and say what came of each; return where they part from what was published.

    Args:
        folder: the results folder.
        names: experiments, such as ``strong``, and records, such as ``strong/seed1``; of trials ``trials``, or the
            beginning of ``trials/<config_id>/seed<k>``. Without names, all.
        full: train to the end, not only the first batches.
        write: note in ``record.json`` what was trained anew here.
        allow_code: run the code of ``layer.py`` of records.
    """
    records = [*all_records(folder), *all_trials(folder)]
    selected = [record for record in records if not names or any(_is_named(record, name) for name in names)]
    for name in names:
        if not any(_is_named(record, name) for record in selected):
            known = ", ".join(dict.fromkeys(record.name.split("/")[0] for record in records))
            raise InputError(f"no record {name!r} (allowed: {known or 'none is published'}, or NAME/seed<k>)")
    problems, data = [], TrainingData()
    for record in selected:
        losses = record.run.step_losses()
        number = len(losses) if full else min(REPLAYED_BATCHES, len(losses))
        note(f"{record.run.path}: training {number:,} batches anew")
        replay = replay_run(record.run, losses, data, full=full, allow_code=allow_code)
        same = None
        if full and replay.parted is None:
            same = same_weights(record.run, replay.model, allow_code=allow_code)
        say(f"{record.run.path}: {_outcome(record, replay, same)}")
        parts = replay.problems()
        if replay.exact and same is False:
            parts.append("trained anew, the weights are not those of model.keras")
        problems += [f"{record.run.path}: {problem}" for problem in parts]
        if write and not parts and replay.parted is None:
            with locked(folder):
                content = record_json([*read_replays(record.run.path), replay.entry()])
                set_files(folder, record.run.path, {REPLAYS_FILE: content})
    return problems


def _outcome(record: Record, replay: Replay, same: bool | None) -> str:
    """Return what came of a replay in words; ``same`` is whether the weights agree, None if they were not compared."""
    where = f"on {replay.kernel}"
    if replay.parted is not None:
        epoch = (replay.parted - 1) // record.config.steps_per_epoch + 1
        text = f"parts at batch {replay.parted:,}, in epoch {epoch}, {where}"
        return text if replay.problems() else text + ", which rounding may cause on another machine"
    text = f"{replay.batches:,} batches agree {agreement(replay.largest)}, {where}"
    if same is not None:
        text += ", and the weights are those of model.keras" if same else ", and the weights differ from model.keras"
    return text


def _is_named(record: Record, name: str) -> bool:
    return f"{record.name}/seed{record.seed}/".startswith(f"{name}/")
