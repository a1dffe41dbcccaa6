"""The benchmark's JSON documents as Markdown, for the terminal and docs/speed.md."""

from __future__ import annotations

from typing import Any

from ..config import layer_name
from ..system import markdown_table

PACKAGES = {"keras": "Keras", "pytorch": "PyTorch", "jax": "JAX"}
TITLES = {
    "keras": "stock Keras",
    "native": "Keras on the native kernel",
    "pytorch": "PyTorch nn.LSTM",
    "pytorch_flush": "PyTorch, denormals flushed",
    "jax": "JAX lax.scan",
}


def benchmark_report(document: dict[str, Any]) -> str:
    """Return a JSON document of the benchmark as Markdown."""
    if "models" in document:
        return f"{_origin(document)}\n\n{_models_table(document)}"
    if "cells" in document:
        return f"{_origin(document)}\n\n{_cells_table(document)}"
    return f"{_origin(document)}\n\n{_training_table(document)}"


def _training_table(document: dict[str, Any]) -> str:
    """Return the document of the baseline's training step and evaluation as Markdown."""
    rows = []
    for name in [name for name in TITLES if name in document["train_step"]]:
        step, evaluation = document["train_step"][name], document["evaluate"][name]
        step_times = [_number(step["median_ms"], ".1f"), _number(step["ratio"], ".2f")]
        times = [_number(evaluation["median_ms"] / 1e3, ".2f"), _number(evaluation["ratio"], ".2f")]
        rows.append((TITLES[name], *step_times, *times, _number(evaluation["peak_mb"], ",.0f")))
    speed_up = ">speed-up over stock Keras"
    head = ("implementation", ">training step, ms", speed_up, ">evaluation, s", speed_up, ">peak memory, MB")
    return markdown_table(head, rows)


def _cells_table(document: dict[str, Any]) -> str:
    """Return the document of the layers' training steps as Markdown."""
    rows = []
    for row in document["cells"]:
        keras, native = row["keras"], row.get("native", {})
        times = [_number(each.get("median_ms"), ".1f") for each in (keras, native)]
        memory = [_number(each.get("peak_mb"), ",.0f") for each in (keras, native)]
        rows.append((layer_name(row["layer"]), *times, _number(native.get("ratio"), ".2f"), *memory))
    head = ("layer", ">stock Keras, ms", ">native kernel, ms", ">speed-up", ">memory, stock Keras, MB", ">native, MB")
    return markdown_table(head, rows)


def _models_table(document: dict[str, Any]) -> str:
    """Return the document of everyday models as Markdown."""
    rows = []
    for row in document["models"]:
        times = []
        for action in ("train", "evaluate"):
            keras, native = row[action]["keras"], row[action]["native"]
            times += [f"{keras['median_ms']:.1f}", f"{native['median_ms']:.1f}", f"**{native['ratio']:.1f}**"]
        rows.append((row["model"], row["about"], row["steps"], row["batch"], *times))
    step, batch = ">training step: stock, ms", ">`predict`, a batch: stock, ms"
    head = ("model", "layers", ">steps", ">batch", step, ">fast, ms", ">speed-up", batch, ">fast, ms", ">speed-up")
    return markdown_table(head, rows)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _origin(document: dict[str, Any]) -> str:
    versions = document["versions"]
    named = ", ".join(f"{title} {versions[name]}" for name, title in PACKAGES.items() if name in versions)
    return (
        f"{document['machine']['processor']}, {document['threads']} threads, instruction set {document['isa'] or '-'}; "
        f"{named}; {document['measured'][:10]}, commit {(document['git']['commit'] or 'unknown')[:7]}."
    )
