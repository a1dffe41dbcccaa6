"""The benchmark's JSON documents as Markdown, for the terminal and docs/speed.md."""

from __future__ import annotations

from typing import Any

from ..system import markdown_table

PACKAGES = {"keras": "Keras", "pytorch": "PyTorch", "jax": "JAX"}
TITLES = {  # results/benchmark.json has more of them than the command measures today
    "keras": "stock Keras",
    "jit_compile": "stock Keras, jit_compile=True",
    "native": "Keras on the native kernel",
    "kernel": "the native kernel alone",
    "pytorch": "PyTorch nn.LSTM",
    "pytorch_flush": "PyTorch, denormals flushed",
    "jax": "JAX lax.scan",
}


def training_report(document: dict[str, Any]) -> str:
    """Return the document of the baseline's training step and evaluation as Markdown."""
    rows = []
    for name in [name for name in TITLES if name in document["train_step"]]:
        step, evaluation = document["train_step"][name], document["evaluate"][name]
        step_times = [_number(step["median_ms"], ".1f"), _number(step["ratio"], ".2f")]
        times = [_number(evaluation["median_ms"] / 1e3, ".2f"), _number(evaluation["ratio"], ".2f")]
        rows.append((TITLES[name], *step_times, *times, _number(evaluation["peak_mb"], ",.0f")))
    speed_up = ">speed-up over stock Keras"
    head = ("implementation", ">training step, ms", speed_up, ">evaluation, s", speed_up, ">peak memory, MB")
    return f"{_origin(document)}\n\n{markdown_table(head, rows)}"


def cells_report(document: dict[str, Any]) -> str:
    """Return the document of the layers' training steps as Markdown."""
    rows = []
    for row in document["cells"]:
        keras, native = row["keras"], row.get("native", {})
        times = [_number(each.get("median_ms"), ".1f") for each in (keras, native)]
        memory = [_number(each.get("peak_mb"), ",.0f") for each in (keras, native)]
        rows.append((row["layer"].rpartition(":")[2], *times, _number(native.get("ratio"), ".2f"), *memory))
    head = ("layer", ">stock Keras, ms", ">native kernel, ms", ">speed-up", ">memory, stock Keras, MB", ">native, MB")
    return f"{_origin(document)}\n\n{markdown_table(head, rows)}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _origin(document: dict[str, Any]) -> str:
    versions = document["versions"]
    named = ", ".join(f"{title} {versions[name]}" for name, title in PACKAGES.items() if name in versions)
    return (
        f"{document['machine']['processor']}, {document['threads']} threads, instruction set {document['isa'] or '-'}; "
        f"{named}; {document['measured'][:10]}, commit {(document['git']['commit'] or 'unknown')[:7]}."
    )
