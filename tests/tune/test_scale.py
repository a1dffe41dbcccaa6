"""A search of thousands of trials: what it costs the command's own process, and how much it prints."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from seqmnist_tf.engine import Job, JobEnd
from seqmnist_tf.tune import DEFAULT_SPACE, report
from seqmnist_tf.tune import search as search_module
from seqmnist_tf.tune.search import SearchJobs, run_search
from tests.engine.stand_in import memory
from tests.tune.toy_search import ToySlots, toy_search

TRIALS, SLOTS = 2000, 200


class TimedSlots(ToySlots):
    """Measures the CPU time of the made-up trainings, which is not the search's."""

    seconds = 0.0

    def train(self, job: Job) -> JobEnd:
        started = time.process_time()
        try:
            return super().train(job)
        finally:
            self.seconds += time.process_time() - started


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("toys")
def test_a_search_of_two_thousand_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reports: list[float] = []
    finish = SearchJobs.finish

    def timed_finish(jobs: SearchJobs) -> None:
        started = time.process_time()
        finish(jobs)
        reports.append(time.process_time() - started)

    monkeypatch.setattr(search_module, "draw_search", report.draw_search)
    monkeypatch.setattr(SearchJobs, "finish", timed_finish)
    search = toy_search(tmp_path, values={"train.n_epochs": 1}, space=DEFAULT_SPACE)
    place, before, started = TimedSlots(SLOTS), memory(), time.process_time()
    run_search(search, TRIALS, place=place)
    seconds = time.process_time() - started - place.seconds - reports[0]
    grown, lines = memory() - before, sum(stream.count("\n") for stream in capsys.readouterr())
    text = (tmp_path / "report.md").read_text()
    started = time.process_time()
    run_search(search, TRIALS, place=place)
    again = time.process_time() - started
    figures = {
        "ms a job": 1000 * seconds / TRIALS,
        "MB of memory": grown,
        "MB of oracle.json": (tmp_path / "oracle.json").stat().st_size / 1e6,
        "lines printed": lines,
        "lines of the report": text.count("\n"),
        "bytes of the report": len(text),
        "seconds of the report": reports[0],
        "seconds to read an ended search": again,
    }
    with capsys.disabled():
        print(json.dumps({name: round(value, 1) for name, value in figures.items()}))
    assert len(json.loads((tmp_path / "trials.json").read_text())) == TRIALS
    assert lines < 1200 and figures["lines of the report"] < 100
    assert figures["ms a job"] < 80 and grown < 200 and reports[0] < 30 and again < 50
