"""``results --replay``: published records trained anew, and noting in them where that was done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..system import InputError, note, say
from .layout import REPLAYS_FILE
from .records import Record, all_records, all_trials
from .replay import REPLAYED_BATCHES, Replay, TrainingData, replay_run, same_weights
from .replays import agreement, read_replays, record_json
from .store import locked, set_files


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

    Raises:
        InputError: there is no such record, or the code of its layer is not allowed.
        RunError: no source of MNIST could be reached.
    """
    problems, data = [], TrainingData()
    for record in _selected(folder, names):
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


def _selected(folder: Path, names: Sequence[str]) -> list[Record]:
    records = [*all_records(folder), *all_trials(folder)]
    for name in names:
        if not any(_is_named(record, name) for record in records):
            known = ", ".join(dict.fromkeys(record.name.split("/")[0] for record in records))
            raise InputError(f"no record {name!r} (allowed: {known or 'none is published'}, or NAME/seed<k>)")
    return [record for record in records if not names or any(_is_named(record, name) for name in names)]


def _is_named(record: Record, name: str) -> bool:
    return f"{record.name}/seed{record.seed}/".startswith(f"{name}/")
