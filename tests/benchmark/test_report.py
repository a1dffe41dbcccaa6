"""The benchmark's Markdown, on small documents."""

from __future__ import annotations

from typing import Any

from seqmnist_tf.benchmark import cells_report, training_report


def times(median: float, ratio: float, peak: float | None) -> dict[str, Any]:
    return {"median_ms": median, "ratio": ratio, "peak_mb": peak}


DOCUMENT: dict[str, Any] = {
    "isa": "avx512",
    "threads": 2,
    "versions": {"keras": "3.15.1", "tensorflow": "2.21.0"},
    "machine": {"processor": "EPYC"},
    "git": {"commit": "c0ffee0123456", "dirty": False},
    "measured": "2026-11-24T21:36:24+00:00",
}
ORIGIN = "EPYC, 2 threads, instruction set avx512; Keras 3.15.1; 2026-11-24, commit c0ffee0.\n\n"


def test_the_baseline() -> None:
    train = {"native": times(50, 4, None), "keras": times(200, 1, 1200)}
    evaluate = {"native": times(2250, 4, None), "keras": times(9000, 1, 1300.4)}
    assert training_report({"train_step": train, "evaluate": evaluate, **DOCUMENT}) == ORIGIN + (
        "| implementation | training step, ms | speed-up over stock Keras | evaluation, s | speed-up over stock Keras "
        "| peak memory, MB |\n"
        "|---|---:|---:|---:|---:|---:|\n"
        "| stock Keras | 200.0 | 1.00 | 9.00 | 1.00 | 1,300 |\n"
        "| Keras on the native kernel | 50.0 | 4.00 | 2.25 | 4.00 | - |"
    )


def test_cells() -> None:
    rows = [
        {"layer": "GRU", "keras": times(700, 1, 1200), "native": times(200, 3.5, None)},
        {"layer": "examples/mine.py:Mine", "keras": times(500, 1, 1100)},  # the kernel does not compute it
    ]
    assert cells_report({"cells": rows, **DOCUMENT}) == ORIGIN + (
        "| layer | stock Keras, ms | native kernel, ms | speed-up | memory, stock Keras, MB | native, MB |\n"
        "|---|---:|---:|---:|---:|---:|\n"
        "| GRU | 700.0 | 200.0 | 3.50 | 1,200 | - |\n"
        "| Mine | 500.0 | - | - | 1,100 | - |"
    )
