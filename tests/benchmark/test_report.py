"""The Markdown of both benchmarks, on small documents."""

from __future__ import annotations

from typing import Any

from seqmnist_tf.benchmark import serving_report, training_report
from seqmnist_tf.benchmark.report import cells_report

ORIGIN = {"git": {"commit": "c0ffee0123456", "dirty": False}, "measured": "2026-11-24T21:36:24+00:00"}


def times(median: float, ratio: float | None, peak: float | None) -> dict[str, Any]:
    return {"median_ms": median, "quartiles_ms": [median - 1, median + 1], "ratio": ratio, "peak_mb": peak}


def training_document() -> dict[str, Any]:
    limit = {"gflops": 512.3, "own_steps": 0.8, "products_ms": 48.7}
    return {
        "train_step": {"keras": times(200, 1, 1200), "earlier": times(1, 1, 1), "kernel": times(50, 4, None)},
        "evaluate": {"keras": times(9000, 1, 1300.4), "kernel": times(2250, 4, None)},
        "isa": "avx512",
        "limit": limit,
        "workload": {"batch": 100, "steps": 784, "units": 128},
        "threads": 2,
        "versions": {"keras": "3.15.1", "kernel": "2.4.6", "jax": "0.10.2"},
        "machine": {"processor": "EPYC"},
        **ORIGIN,
    }


def test_the_training_report() -> None:
    assert training_report(training_document()) == (
        "EPYC, 2 threads, instruction set avx512; Keras 3.15.1, JAX 0.10.2; 2026-11-24, commit c0ffee0.\n"
        "\n"
        "| implementation | training step, ms | speed-up over stock Keras | evaluation, s | speed-up over stock Keras "
        "| peak memory, MB |\n"
        "|---|---:|---:|---:|---:|---:|\n"
        "| stock Keras | 200.0 | 1.00 | 9.00 | 1.00 | 1,300 |\n"
        "| the native kernel alone | 50.0 | 4.00 | 2.25 | 4.00 | - |\n"
        "\n"
        "At the measured peak of these cores, 512 GFLOP/s, the matrix products of a step take 61 ms; 49 ms where, as "
        "on the native kernel, the blank first pixels are computed once for a batch."
    )


def test_the_training_report_with_scaling() -> None:
    document = training_document()
    document["git"] = {"commit": None, "dirty": None}
    document["scaling"] = [{"size": "batch", "value": 25, "keras": 120, "native": 30}]
    text = training_report(document)
    assert "2026-11-24, commit unknown." in text
    assert text.endswith(
        " once for a batch.\n"
        "\n"
        "| training step | stock Keras, ms | native kernel, ms | speed-up |\n"
        "|---|---:|---:|---:|\n"
        "| batch 25 | 120.0 | 30.0 | 4.00 |"
    )


def test_the_report_of_the_cells() -> None:
    rows = [
        {"layer": "GRU", "keras": times(700, 1, 1200), "native": times(200, 3.5, None)},
        {"layer": "examples/own.py:Own", "keras": times(500, 1, 1100)},  # the kernel does not compute it
    ]
    document = {**training_document(), "cells": rows}
    table = (
        "EPYC, 2 threads, instruction set avx512; Keras 3.15.1; 2026-11-24, commit c0ffee0.\n"
        "\n"
        "| layer | stock Keras, ms | native kernel, ms | speed-up | memory, stock Keras, MB | native, MB |\n"
        "|---|---:|---:|---:|---:|---:|\n"
        "| GRU | 700.0 | 200.0 | 3.50 | 1,200 | - |\n"
        "| Own | 500.0 | - | - | 1,100 | - |"
    )
    assert cells_report(document) == table


def test_the_serving_report() -> None:
    row = {"batch": 64, "rest_ms": 0, "stock_ms": 65.6, "serving_default_ms": 32.8, "trace_ms": 38.6, "ratio": 2.0}
    load = {"clients": 8, "answers": 9119, "errors": 1, "per_second": 455.7, "p50_ms": 17.2, "p95_ms": 23, "p99_ms": 27}
    document = {
        "version": 3,
        "bytes": 1391517,
        "latency": [row, {**row, "batch": 1, "rest_ms": 10}],
        "server": [load],
        "versions": {"tensorflow": "2.21.0", "keras": "3.15.1"},
        "machine": {"processor": "EPYC", "cores": 2},
        **ORIGIN,
    }
    assert serving_report(document) == (
        "EPYC, 2 cores; TensorFlow 2.21.0, Keras 3.15.1; 2026-11-24, commit c0ffee0. Version 3 has 1.4 MB.\n"
        "\n"
        "| images in a request | stock `model.export()`, ms | `serving_default`, ms | speed-up over stock export "
        "| `trace`, ms |\n"
        "|---:|---:|---:|---:|---:|\n"
        "| 64 | 65.6 | 32.8 | 2.00 | 38.6 |\n"
        "| 1, after 10 ms of rest | 65.6 | 32.8 | 2.00 | 38.6 |\n"
        "\n"
        "| clients of the local server | answers a second | median, ms | 95 %, ms | 99 %, ms | answers | errors |\n"
        "|---:|---:|---:|---:|---:|---:|---:|\n"
        "| 8 | 456 | 17.2 | 23.0 | 27.0 | 9,119 | 1 |"
    )


def test_the_report_without_stock_keras_and_native_kernel() -> None:
    document = training_document()
    for rows in (document["train_step"], document["evaluate"]):
        del rows["keras"]
        rows["kernel"]["ratio"] = None
    document.update(isa=None, limit=None, scaling=[{"size": "units", "value": 64, "keras": 100}])
    lines = training_report(document).splitlines()
    assert lines[0].startswith("EPYC, 2 threads, instruction set -; ")
    assert "| the native kernel alone | 50.0 | - | 2.25 | - | - |" in lines
    assert lines[-1] == "| units 64 | 100.0 | - | - |"
    assert "peak of these cores" not in "".join(lines)
