"""Replay: a run retrained from its configuration and seed, its first batches or all of them; ``results --replay``.

The losses of the batches that are retrained must be the recorded ones, and after all of them the weights and what
the model says of all test images. Whatever differs is a problem, also where another machine's rounding may be the
cause: then nothing is confirmed.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from decimal import ROUND_UP, Context
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..config import with_values
from ..data import batches, pixel_order
from ..kernel import native
from ..model import Kernel, build_model, choose_kernel, make_trainable, swap_averages
from ..system import InputError, available_cores, describe_machine, note, package_versions, say
from ..train import MAX_FLIPS, RunDirectory, load_final_model, weight_problem
from .checks import is_example, recount, score_problems, training_splits
from .records import REPLAYED_BATCHES, Record, Search, all_records, all_searches, all_trials

REPLAY_TOLERANCE = 5e-5  # relative; AMX against AVX-512 gave at most 1.2e-5 in the first 20 batches (sprint)
# Of weights, times the largest difference of a loss; AMX against AVX-512 gave less than 1 (strong, 100 batches).
WEIGHTS_TOLERANCE = 10.0
LEAST_ROUNDING = 1e-6  # relative: float32 has 6e-8, and a step adds many
VERSIONS = ("tensorflow", "keras", "numpy")  # of what computes a loss


class Replay(keras.callbacks.Callback):
    """Compares each batch's loss with the recorded one, reports after each epoch, and ends training where they part.

    ``elsewhere`` says how the run's machine differs from this one; where it is empty, losses must agree bit for bit.
    """

    def __init__(
        self, recorded: list[float], per_epoch: int, stock: keras.Sequential, kernel: str, elsewhere: str
    ) -> None:
        super().__init__()
        self.recorded, self.per_epoch = recorded, per_epoch
        self.stock, self.kernel, self.elsewhere = stock, kernel, elsewhere
        self.batches = 0  # whose losses agree
        self.largest = 0.0  # difference of these, relative to the recorded loss; 0 is bit for bit
        self.parted: int | None = None  # the first step whose loss differs by more than is allowed
        self.step, self.loss, self.finite = 0, 0.0, True

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.step, self.loss = self.step + 1, float((logs or {})["loss"])
        self.finite &= math.isfinite(self.loss)
        if self.step <= len(self.recorded):
            recorded = self.recorded[self.step - 1]
            same = np.array_equal(self.loss, recorded, equal_nan=True)  # NaN is where a run diverged
            difference = 0.0 if same else abs(self.loss - recorded) / (abs(recorded) or 1.0)
            if not difference <= (REPLAY_TOLERANCE if self.elsewhere else 0.0):
                self.parted = self.step
                self.model.stop_training = True
                return
            self.batches, self.largest = self.step, max(self.largest, difference)
        if self.step % self.per_epoch == 0:
            note(f"epoch {self.step // self.per_epoch} retrained, {agreement(self.largest)}")

    @property
    def diverged(self) -> bool:
        """Whether a loss, or a weight in the end, is not finite."""
        return not self.finite or weight_problem(self.stock) is not None

    def problems(self) -> list[str]:
        """Return where the losses part, and whether rounding on another machine may be the cause."""
        if self.parted is None:
            return []
        if not self.elsewhere:
            why = "they must agree bit for bit"
        elif self.parted <= REPLAYED_BATCHES:
            why = f"they must agree within {REPLAY_TOLERANCE:g}: {self.elsewhere}"
        else:
            why = f"rounding may be the cause, so nothing after it is confirmed: {self.elsewhere}"
        batch = f"batch {self.parted:,} (epoch {(self.parted - 1) // self.per_epoch + 1})"
        return [f"retrained, {batch} has loss {self.loss!r} (recorded: {self.recorded[self.parted - 1]!r}; {why})"]

    def weights_problems(self, distance: float) -> list[str]:
        """Problems of weights at a :func:`weights_distance` from those of ``model.keras``."""
        allowed = WEIGHTS_TOLERANCE * max(self.largest, LEAST_ROUNDING) if self.elsewhere else 0.0
        if distance <= allowed:
            return []
        text = f"a relative difference of {distance:.1e}, at most {allowed:.0e} is allowed"
        return [f"retrained, the losses agree, but the weights are not those of model.keras ({text})"]

    @property
    def computed(self) -> str:
        """What computed it, and why its losses need not be the recorded ones bit for bit."""
        rounding = f"rounding differs, so losses must agree within {REPLAY_TOLERANCE:g}, not bit for bit"
        return f"{self.elsewhere}: {rounding}" if self.elsewhere else f"on {self.kernel}"


def agreement(largest: float) -> str:
    """Return in words how well losses agree, from their largest relative difference: 2.07e-7 is ``within 3e-7``."""
    return f"within {Context(prec=1, rounding=ROUND_UP).create_decimal(largest):.0e}" if largest else "bit for bit"


def replay_run(
    run: RunDirectory, recorded: list[float], *, steps: int | None = None, allow_code: bool = False
) -> Replay:
    """Retrain ``steps`` batches of a run, or the first REPLAYED_BATCHES, and compare their losses.

    They are computed as ``train`` does, on the run's kernel and instruction set if this machine has them. On the
    processor, kernel and versions of the run, and of its resumed parts, they must agree bit for bit.
    """
    run.require_code_allowed(allow_code)
    recorded = recorded[: steps or REPLAYED_BATCHES]
    parts = _parts_of(run.environment, steps, len(recorded))
    steps = steps or len(recorded)
    config = with_values(run.config, {"train.kernel": "keras" if parts[0]["kernel"] == "keras" else "auto"})
    with _instruction_set_of(parts[0]["kernel"]):
        model = build_model(config, run.layer_file)
        kernel = choose_kernel(config, model)
        different = [text for part in parts if (text := difference_of_machines(part, kernel))]
        replay = Replay(recorded, config.steps_per_epoch, model, kernel.name, different[0] if different else "")
        trained = make_trainable(model, config, kernel)
        # One stream of batches over all epochs: nothing of an epoch's end acts on training.
        stream = batches(training_splits(config.task).train, config, 0).take(steps)
        trained.fit(stream, steps_per_epoch=steps, callbacks=[replay], shuffle=False, verbose=0)
        if replay.parted is None:
            swap_averages(trained.optimizer)  # as train does before it saves
    return replay


def _parts_of(environment: dict[str, Any], steps: int | None, first: int) -> list[dict[str, Any]]:
    """Return the parts of a run that trained its ``first`` batches, or all: its start, and those that resumed it."""
    parts = [environment]
    for part in environment["resumed"]:
        first_step = part.get("first_step", first)  # older runs do not say: after the first batches
        if first_step == 0:  # the run was ended before its first checkpoint
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
    processor, versions = environment["machine"]["processor"], package_versions()
    there_and_here = {
        "kernel": (environment["kernel"], kernel.name),
        "processor": (processor, describe_machine()["processor"]),
        "device": (environment["device"], "CPU"),
        "onednn": (environment["onednn"], os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default")),
        **{name: (environment["versions"].get(name), versions[name]) for name in VERSIONS},
    }
    if kernel.name == "keras":
        there_and_here["threads"] = environment["threads"], available_cores()
    different = [key for key, (there, here) in there_and_here.items() if there != here]
    if not different and "(family" in processor:
        return ""
    keys = dict.fromkeys(["kernel", "processor", *different])
    recorded, now = (", ".join(f"{key} {there_and_here[key][place]}" for key in keys) for place in (0, 1))
    text = f"computed on {recorded}; here on {now}"
    if kernel.reason:
        text += f" (stock Keras computes: {kernel.reason}; python -m pip install -e . builds a missing kernel)"
    return text


def weights_distance(run: RunDirectory, model: keras.Model, *, allow_code: bool = False) -> float:
    """Return how far the weights of a model are from those of a run's ``model.keras``: 0 is bit for bit.

    It is the largest ratio, over the arrays of weights, of the norm of the difference to the norm of the array.
    """
    published = load_final_model(run, allow_code=allow_code).get_weights()
    pairs = [(a.astype(float), b.astype(float)) for a, b in zip(published, model.get_weights(), strict=True)]
    return float(np.max([np.linalg.norm(a - b) / (np.linalg.norm(a) or 1.0) for a, b in pairs]))  # NaN stays NaN


@contextlib.contextmanager
def _instruction_set_of(kernel: str) -> Iterator[None]:
    """Let the native kernel run on the instruction set of a recorded one, if this machine has it, else on its own."""
    before, isa = os.environ.get("SEQMNIST_ISA"), kernel.partition("-")[2]
    try:
        if isa in native.ISAS:
            os.environ["SEQMNIST_ISA"] = isa
            try:
                native.instruction_set()
            except native.UnavailableError:
                del os.environ["SEQMNIST_ISA"]
        yield
    finally:
        os.environ.pop("SEQMNIST_ISA", None)
        if before is not None:
            os.environ["SEQMNIST_ISA"] = before


def replay_records(
    folder: Path, names: Sequence[str] = (), *, full: bool = False, allow_code: bool = False
) -> list[str]:
    """Retrain records, to their end if ``full``, and say what came of each; return where they part from the record.

    ``names`` are experiments, such as ``strong``, and records, such as ``strong/seed1``; of trials ``trials``, or the
    beginning of ``trials/<config_id>/seed<k>``; ``searches``, and ``searches/lem``. Without names, all.
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
        try:
            if isinstance(one, Search):
                found = _retrain_search(one, full, allow_code)
            else:
                found = _retrain_record(one, full, allow_code)
        except InputError as error:  # the others are retrained all the same
            found = [str(error)]
        problems += [f"{folder / place}: {problem}" for problem in found]
    return problems


def _retrain_record(record: Record, full: bool, allow_code: bool) -> list[str]:
    """Retrain a record and say what came of it; return its problems."""
    run, losses = record.directory, record.directory.step_losses()
    allow_code = allow_code or is_example(run.layer_file)
    note(f"{run.path}: retraining {len(losses) if full else min(REPLAYED_BATCHES, len(losses)):,} batches")
    replay, problems = _retrain(run, losses, len(losses) if full else None, record.diverged, allow_code)
    text = f"{replay.batches:,} batches agree {agreement(replay.largest)}"
    if full and not problems and not record.diverged:
        distance = weights_distance(run, replay.stock, allow_code=allow_code)
        text += f", and the weights {agreement(distance)}"
        problems = replay.weights_problems(distance)
        problems += recount(run, allow_code=allow_code, flips=MAX_FLIPS if replay.elsewhere else 0)
    if not problems:
        say(f"{run.path}: {text}, {replay.computed}")
    return problems


def _retrain_search(search: Search, full: bool, allow_code: bool) -> list[str]:
    """Retrain the runs of a search, as :func:`_retrain_record`; ``full``: to their end, and score them."""
    problems, replays = [], []
    for row in search.rows_with_score:
        config = search.config(row)
        layer = search.layer(config)
        name = f"trial {row['trial']} with seed {row['seed']}"
        note(f"{search.path}: retraining {name}")
        diverged = row["status"] == "diverged"  # in the epoch after its last
        steps = (row["epochs"] + diverged) * config.steps_per_epoch if full else None
        with tempfile.TemporaryDirectory() as folder:
            order = pixel_order(config.task.permutation)
            run = RunDirectory.create(Path(folder, "run"), config, search.environment(row), order, layer)
            replay, found = _retrain(run, row["losses"], steps, diverged, allow_code or is_example(layer))
            if full and not found and not diverged:
                found = score_problems(run, replay.stock, row["score"])
        replays.append(replay)
        problems += [f"{name}: {problem}" for problem in found]
    if not problems:
        number, largest = sum(one.batches for one in replays), max(one.largest for one in replays)
        scores = ", and each, trained to its end, diverges or has the score as in the search" if full else ""
        text = f"{number:,} batches of {len(replays)} runs agree {agreement(largest)}{scores}"
        say(f"{search.path}: {text}, {replays[0].computed}")
    return problems


def _retrain(
    run: RunDirectory, losses: list[float], steps: int | None, diverged: bool, allow_code: bool
) -> tuple[Replay, list[str]]:
    """Replay a run, as :func:`replay_run`; return its problems too. One that ``diverged`` must diverge again."""
    replay = replay_run(run, losses, steps=steps, allow_code=allow_code)
    problems = replay.problems()
    if steps and diverged and not problems and not replay.diverged:
        problems = ["retrained, it does not diverge (recorded: diverged)"]
    return replay, problems
