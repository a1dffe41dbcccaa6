"""Replay: a run trained anew from its configuration and seed, its first batches or all of them; ``results --replay``.

The losses of the batches that are trained anew must be the recorded ones, and after all of them the weights and what
the model says of all test images. Whatever differs is a problem, also where another machine's rounding may be the
cause: then nothing is confirmed.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_UP, Context
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..config import Config
from ..data import batches, pixel_order
from ..kernel import native
from ..model import Kernel, build_model, choose_kernel, make_trainable, swap_averages
from ..system import InputError, available_cores, describe_machine, json_bytes, note, package_versions, say, utc_now
from ..train import MAX_FLIPS, RunDirectory, load_final_model, weight_problem
from .model_check import is_example, recount, score_problems, training_splits
from .records import (
    REPLAYED_BATCHES,
    REPLAYS_FILE,
    Record,
    Search,
    all_records,
    all_searches,
    all_trials,
    read_document,
    with_replay,
)
from .store import locked, set_files

REPLAY_TOLERANCE = 5e-5  # relative; AMX against AVX-512 gave at most 1.2e-5 in the first 20 batches (sprint)
# Of weights, times the largest difference of a loss; AMX against AVX-512 gave less than 1 (strong, 100 batches).
WEIGHTS_TOLERANCE = 10.0
LEAST_ROUNDING = 1e-6  # relative: float32 has 6e-8, and a step adds many
VERSIONS = ("tensorflow", "keras", "numpy")  # of what computes a loss
HOW_TO_BUILD = "where the native kernel was not built, python -m pip install -e . builds it"


@dataclass(frozen=True)
class Replay:
    """What came of a replay.

    Attributes:
        batches: how many losses were compared and agree, up to where it parts.
        parted: the first step whose loss differs by more than is allowed; None where all agree.
        losses: this step's loss, anew and as recorded.
        largest: the largest difference of a loss that agrees, relative to the recorded one; 0 is bit for bit.
        kernel: what computed the LSTM, as in ``environment.json``.
        elsewhere: how the run's machine differs from this one, so that losses need not agree bit for bit; empty where
            they must.
        model: the trained model.
        diverged: whether a loss, or a weight in the end, is not finite.
    """

    batches: int
    parted: int | None
    losses: tuple[float, float]
    largest: float
    kernel: str
    elsewhere: str
    model: keras.Model
    diverged: bool = False

    def entry(self) -> dict[str, Any]:
        """Return the entry of ``replayed``."""
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
        """Return where the replay parts from the record, and whether rounding on another machine may be the cause."""
        if self.parted is None:
            return []
        loss, recorded = self.losses
        if not self.elsewhere:
            why = "they must agree bit for bit"
        elif self.parted <= REPLAYED_BATCHES:
            why = f"they must agree within {REPLAY_TOLERANCE:g}"
        else:
            why = f"rounding may be the cause, so nothing after it is confirmed: {self.elsewhere}"
        return [f"trained anew, batch {self.parted:,} has loss {loss!r} (recorded: {recorded!r}; {why})"]

    def weights_problems(self, distance: float) -> list[str]:
        """Return whether weights at a :func:`weights_distance` from those of ``model.keras`` are others."""
        allowed = WEIGHTS_TOLERANCE * max(self.largest, LEAST_ROUNDING) if self.elsewhere else 0.0
        if distance <= allowed:
            return []
        text = f"a relative difference of {distance:.1e}, at most {allowed:.0e} is allowed"
        return [f"trained anew, the weights are not those of model.keras ({text})"]

    @property
    def place(self) -> str:
        """What computed it, and why its losses need not be the recorded ones bit for bit."""
        if not self.elsewhere:
            return f"on {self.kernel}"
        return f"{self.elsewhere}: rounding differs, so losses must agree within {REPLAY_TOLERANCE:g}, not bit for bit"


def merged_entry(replays: Sequence[Replay]) -> dict[str, Any]:
    """Return one entry of ``replayed`` for all runs of a search."""
    largest = max(replay.largest for replay in replays)
    return {**replays[0].entry(), "batches": sum(one.batches for one in replays), "largest_difference": largest}


def agreement(largest: float) -> str:
    """Return in words how well losses agree, from their largest relative difference; its first digit is rounded up.

    Example:
        >>> agreement(0.0), agreement(2.07e-7), agreement(9.5e-8)
        ('bit for bit', 'within 3e-7', 'within 1e-7')
    """
    return f"within {Context(prec=1, rounding=ROUND_UP).create_decimal(largest):.0e}" if largest else "bit for bit"


class LossComparison(keras.callbacks.Callback):
    """Compares each batch's loss with the recorded one, reports after each epoch, and ends training where they part."""

    def __init__(self, recorded: list[float], exact: bool, per_epoch: int) -> None:
        super().__init__()
        self.recorded, self.tolerance, self.per_epoch = recorded, 0.0 if exact else REPLAY_TOLERANCE, per_epoch
        self.done, self.largest, self.losses, self.finite = 0, 0.0, (0.0, 0.0), True
        self.parted: int | None = None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        loss = float((logs or {})["loss"])
        self.finite &= math.isfinite(loss)
        recorded = self.recorded[self.done] if self.done < len(self.recorded) else loss
        same = np.array_equal(loss, recorded, equal_nan=True)  # NaN is where a run diverged
        difference = 0.0 if same else abs(loss - recorded) / (abs(recorded) or 1.0)
        if not difference <= self.tolerance:
            self.parted, self.losses = self.done + 1, (loss, recorded)
            self.model.stop_training = True
            return
        self.done, self.largest = self.done + 1, max(self.largest, difference)
        if self.done % self.per_epoch == 0:
            note(f"epoch {self.done // self.per_epoch} trained anew, {agreement(self.largest)}")


def replay_run(
    run: RunDirectory, recorded: list[float], *, steps: int | None = None, allow_code: bool = False
) -> Replay:
    """Train a run anew and compare the losses of its first batches.

    They are computed as ``train`` computes them, on the run's kernel and instruction set if this machine has them. On
    the processor, kernel and versions of the run, and of its resumed parts, they must agree bit for bit, elsewhere
    within REPLAY_TOLERANCE. ``recorded`` are the losses of all batches, or of the first; ``steps`` of them are trained,
    REPLAYED_BATCHES where it is None.
    """
    run.require_code_allowed(allow_code)
    if not recorded:
        raise InputError(f"{run.path} has no batches in steps.csv")
    recorded = recorded[: steps or REPLAYED_BATCHES]
    parts = _parts_of(run.environment, steps, len(recorded))
    steps = steps or len(recorded)
    with _kernel_of(run.config, parts[0]["kernel"]) as config:
        model = build_model(config, run.layer_file)
        kernel = choose_kernel(config, model)
        elsewhere = next(filter(None, (difference_of_machines(part, kernel) for part in parts)), "")
        comparison = LossComparison(recorded, not elsewhere, config.steps_per_epoch)
        trained = make_trainable(model, config, kernel)
        # One stream of batches over all epochs: nothing of an epoch's end acts on training.
        stream = batches(training_splits(config.task).train, config, 0).take(steps)
        trained.fit(stream, steps_per_epoch=steps, callbacks=[comparison], shuffle=False, verbose=0)
        if comparison.parted is None:
            swap_averages(trained.optimizer)  # as train does before it saves
    return Replay(
        batches=min(comparison.done, len(recorded)),
        parted=comparison.parted,
        losses=comparison.losses,
        largest=comparison.largest,
        kernel=kernel.name,
        elsewhere=elsewhere,
        model=model,
        diverged=not comparison.finite or weight_problem(model) is not None,
    )


def _parts_of(environment: dict[str, Any], steps: int | None, first: int) -> list[dict[str, Any]]:
    """Return the parts of a run that trained its ``first`` batches, or all: its start, and those that resumed it.

    Of a run that was ended before its first checkpoint, nothing but the resumed part counts. Resumed parts of older
    runs do not say at which step they began: after the first batches.
    """
    parts = [environment]
    for part in environment["resumed"]:
        first_step = part.get("first_step", first)
        if first_step == 0:
            parts = [part]
        elif steps or first_step < first:
            parts.append(part)
    return parts


def difference_of_machines(environment: dict[str, Any], kernel: Kernel) -> str:
    """Return on what a run was computed and on what it is here, where this may round otherwise; else nothing.

    The processor counts beside kernel and versions: with the same kernel, the mean over a batch came out with another
    last bit on an EPYC of family 25 than on one of family 26. Its name counts only with family and model. On stock
    Keras the number of threads counts too.
    """
    processor = environment["machine"]["processor"]
    there = {"kernel": environment["kernel"], "processor": processor, "device": environment["device"]}
    here = {"kernel": kernel.name, "processor": describe_machine()["processor"], "device": "CPU"}
    if kernel.name == "keras":
        there["threads"], here["threads"] = environment["threads"], available_cores()
    there["onednn"], here["onednn"] = environment["onednn"], os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default")
    there |= {name: environment["versions"].get(name) for name in VERSIONS}
    here |= {name: package_versions()[name] for name in VERSIONS}
    if there == here and "(family" in processor:
        return ""
    keys = [key for key in here if there[key] != here[key] or key in ("kernel", "processor")]
    recorded, now = (", ".join(f"{key} {values[key]}" for key in keys) for values in (there, here))
    built = f" (stock Keras computes: {kernel.reason}; {HOW_TO_BUILD})" if kernel.reason else ""
    return f"computed on {recorded}; here on {now}{built}"


def weights_distance(run: RunDirectory, model: keras.Model, *, allow_code: bool = False) -> float:
    """Return how far the weights of a model are from those of a run's ``model.keras``: 0 is bit for bit.

    It is the largest ratio, over the arrays of weights, of the norm of the difference to the norm of the array.
    """
    published = load_final_model(run, allow_code=allow_code).get_weights()
    pairs = [(a.astype(float), b.astype(float)) for a, b in zip(published, model.get_weights(), strict=True)]
    return float(np.max([np.linalg.norm(a - b) / (np.linalg.norm(a) or 1.0) for a, b in pairs]))  # NaN stays NaN


@contextlib.contextmanager
def _kernel_of(config: Config, recorded: str) -> Iterator[Config]:
    """Let ``config`` choose the kernel that a run recorded, if this machine has it, else the machine's own."""
    before, isa = os.environ.get("SEQMNIST_ISA"), recorded.partition("-")[2]
    try:
        if isa in native.ISAS:
            os.environ["SEQMNIST_ISA"] = isa
            try:
                native.instruction_set()
            except native.UnavailableError:
                del os.environ["SEQMNIST_ISA"]
        yield replace(config, train=replace(config.train, kernel="keras" if recorded == "keras" else "auto"))
    finally:
        os.environ.pop("SEQMNIST_ISA", None)
        if before is not None:
            os.environ["SEQMNIST_ISA"] = before


def replay_records(
    folder: Path, names: Sequence[str] = (), *, full: bool = False, write: bool = False, allow_code: bool = False
) -> list[str]:
    """Train records anew and say what came of each; return where they part from what was published.

    ``names`` are experiments, such as ``strong``, and records, such as ``strong/seed1``; of trials ``trials``, or the
    beginning of ``trials/<config_id>/seed<k>``; ``searches``, and ``searches/lem``. Without names, all. ``full`` trains
    to the end, ``write`` notes in ``record.json`` what was trained anew here. InputError is raised where a name is
    unknown.
    """
    everything: dict[str, Record | Search] = {
        **{f"{one.name}/seed{one.seed}/": one for one in (*all_records(folder), *all_trials(folder))},
        **{f"{one.name}/": one for one in all_searches(folder)},
    }
    for name in names:
        if not any(place.startswith(f"{name}/") for place in everything):
            known = ", ".join(dict.fromkeys(place.split("/")[0] for place in everything))
            raise InputError(f"no record {name!r} (allowed: {known or 'none is published'}, or NAME/seed<k>)")
    problems: list[str] = []
    for place, one in everything.items():
        if names and not any(place.startswith(f"{name}/") for name in names):
            continue
        path = one.path if isinstance(one, Search) else one.run.path
        try:
            if isinstance(one, Search):
                found, entry = _search_anew(one, full, allow_code)
            else:
                found, entry = _record_anew(one, full, allow_code or is_example(one.run.layer_file))
        except InputError as error:  # the others are trained anew all the same
            found, entry = [str(error)], {}
        problems += [f"{path}: {problem}" for problem in found]
        if write and not found:
            file = path if isinstance(one, Search) else path / REPLAYS_FILE
            with locked(folder):
                set_files(folder, file.parent, {file.name: json_bytes(with_replay(read_document(file), entry))})
    return problems


def _record_anew(record: Record, full: bool, allow_code: bool) -> tuple[list[str], dict[str, Any]]:
    """Train a record anew and say what came of it; return its problems, and the entry of ``replayed`` without them."""
    losses = record.run.step_losses()
    steps = len(losses) if full else None
    note(f"{record.run.path}: training {steps or min(REPLAYED_BATCHES, len(losses)):,} batches anew")
    replay = replay_run(record.run, losses, steps=steps, allow_code=allow_code)
    problems, entry = replay.problems(), replay.entry()
    if replay.parted:
        epoch = (replay.parted - 1) // record.config.steps_per_epoch + 1
        text = f"first differs at batch {replay.parted:,}, in epoch {epoch}"
    else:
        text = f"{replay.batches:,} batches agree {agreement(replay.largest)}"
    if full and not problems and record.diverged:
        if not replay.diverged:
            problems = ["trained anew, it does not diverge (summary.json says diverged)"]
    elif full and not problems:
        entry["weights"] = weights_distance(record.run, replay.model, allow_code=allow_code)
        problems = replay.weights_problems(entry["weights"])
        text += ", but the weights do not" if problems else f", and the weights {agreement(entry['weights'])}"
        problems = problems or recount(record.run, allow_code=allow_code, flips=MAX_FLIPS if replay.elsewhere else 0)[0]
    say(f"{record.run.path}: {text}, {replay.place}")
    return problems, entry


def _search_anew(search: Search, full: bool, allow_code: bool) -> tuple[list[str], dict[str, Any]]:
    """Train the runs of a search anew, as :func:`_record_anew`; ``full``: to their end, and score them."""
    problems, replays = [], []
    for row in search.ended:
        config = search.config(row)
        layer = search.layer(config)
        name = f"trial {row['trial']} with seed {row['seed']}"
        note(f"{search.path}: training {name} anew")
        diverged = row["status"] == "diverged"  # in the epoch after its last
        with tempfile.TemporaryDirectory() as temporary:
            place, order = Path(temporary, "run"), pixel_order(config.task.permutation)
            run = RunDirectory.create(place, config, search.environment(row), order, layer)
            steps = (row["epochs"] + diverged) * run.config.steps_per_epoch if full else None
            replay = replay_run(run, row["losses"], steps=steps, allow_code=allow_code or is_example(layer))
            replays.append(replay)
            found = replay.problems()
            if full and not found and not diverged:
                found = score_problems(run, replay.model, row["score"])
            elif full and not found and not replay.diverged:
                found = ["trained anew, it does not diverge"]
        problems += [f"{name}: {problem}" for problem in found]
    if problems:
        return problems, {}
    entry = merged_entry(replays) | ({"scores": True} if full else {})
    scores = ", and each, trained to its end, diverges or has the score as in the search" if full else ""
    text = f"{entry['batches']:,} batches of {len(replays)} runs agree {agreement(entry['largest_difference'])}{scores}"
    say(f"{search.path}: {text}, {replays[0].place}")
    return [], entry
