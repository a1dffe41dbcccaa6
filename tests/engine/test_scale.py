"""A comparison of 500 runs on two hundred slots: real plan, engine and report; trainings that end at once."""

from __future__ import annotations

import functools
import time
from pathlib import Path

import pytest

from seqmnist_tf.compare import compare, comparing
from seqmnist_tf.engine import run_jobs
from tests.compare.test_compare import TINY_VALUES
from tests.engine.stand_in import ManySlots, memory


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_comparison_of_500_runs(
    tmp_path: Path, toy: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {**TINY_VALUES, "train.n_epochs": 3}
    seconds: dict[int, float] = {}
    for seeds in (50, 250):
        folder, before, started = tmp_path / str(seeds), memory(), time.monotonic()
        begun: list[float] = []

        def timed(*args: object, place: ManySlots, begun: list[float] = begun, **settings: object) -> None:
            begun.append(time.monotonic())
            run_jobs(*args, **settings, place=place)  # type: ignore[arg-type]
            begun.append(time.monotonic())

        monkeypatch.setattr(comparing, "run_jobs", functools.partial(timed, place=ManySlots(200)))
        comparison = compare(["adam", "sgd"], seeds=range(seeds), directory=folder, workers=200, overrides=values)
        first, last = begun
        report = time.monotonic() - last
        lines = capsys.readouterr().err.splitlines()
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        seconds[seeds] = (last - first) / (2 * seeds)
        with capsys.disabled():
            print(
                f"\n{2 * seeds} runs: plan {first - started:.1f} s, {1000 * seconds[seeds]:.1f} ms a job, report "
                f"{report:.1f} s, {size / 1e6:.2f} MB, {memory() - before:.0f} MB more memory, {len(lines)} lines"
            )
        assert [arm.n for arm in comparison.arms] == [seeds, seeds]
        assert len(lines) <= 502
        assert size < 5e6
        assert memory() - before < 500
    assert seconds[250] < 2 * seconds[50] + 0.02  # linear, and not a reading of all runs for each epoch
