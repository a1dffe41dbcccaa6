"""The reports of both benchmarks, from their JSON documents."""

from __future__ import annotations

from typing import Any

from ..system import markdown_table
from .contenders import CONTENDERS

PACKAGE_TITLES = {"keras": "Keras", "pytorch": "PyTorch", "jax": "JAX"}  # of the contenders whose versions are shown


def training_report(document: dict[str, Any]) -> str:
    """Return the training benchmark's document as Markdown, for the terminal and docs/speed.md.

    Rows of contenders that earlier versions had are left out.
    """
    versions = document["versions"]
    named = ", ".join(f"{title} {versions[name]}" for name, title in PACKAGE_TITLES.items() if name in versions)
    origin = (
        f"{document['machine']['processor']}, {document['threads']} threads, instruction set {document['isa'] or '-'}; "
        f"{named}; {_origin(document)}."
    )
    parts = [origin, _contender_table(document)]
    if top := document["limit"]:
        parts.append(
            f"At the measured peak of these cores, {top['gflops']:.0f} GFLOP/s, the matrix products of a step take "
            f"{top['products_ms'] / top['own_steps']:.0f} ms; {top['products_ms']:.0f} ms where, as on the native "
            "kernel, the blank first pixels are computed once for a batch."
        )
    if "scaling" in document:
        parts.append(_scaling_table(document["scaling"]))
    return "\n\n".join(parts)


def cells_report(document: dict[str, Any]) -> str:
    """Return the document of the cells as Markdown."""
    rows = []
    for row in document["cells"]:
        times = [row.get(name, {}).get("median_ms") for name in ("keras", "native")]
        speed_up = times[0] / times[1] if all(times) else None
        memory = [row.get(name, {}).get("peak_mb") for name in ("keras", "native")]
        figures = [_or_dash(time, ".1f") for time in times] + [_or_dash(speed_up, ".2f")]
        rows.append((row["layer"].rpartition(":")[2], *figures, *(_or_dash(mb, ",.0f") for mb in memory)))
    head = ("layer", ">stock Keras, ms", ">native kernel, ms", ">speed-up", ">memory, stock Keras, MB", ">native, MB")
    origin = (
        f"{document['machine']['processor']}, {document['threads']} threads, instruction set {document['isa'] or '-'}; "
        f"Keras {document['versions']['keras']}; {_origin(document)}."
    )
    return "\n\n".join([origin, markdown_table(head, rows)])


def serving_report(document: dict[str, Any]) -> str:
    """Return the serving benchmark's document as Markdown."""
    machine, packages = document["machine"], document["versions"]
    origin = (
        f"{machine['processor']}, {machine['cores']} cores; TensorFlow {packages['tensorflow']}, Keras "
        f"{packages['keras']}; {_origin(document)}. Version {document['version']} has {document['bytes'] / 1e6:.1f} MB."
    )
    parts = [
        origin,
        _latency_table(document["latency"]),
        _load_table(document["server"], "clients of the local server"),
    ]
    if other := document.get("other"):
        parts += [f"The server at {other['url']}:", _load_table(other["load"], "clients of this server")]
    return "\n\n".join(parts)


def _or_dash(number: float | None, form: str) -> str:
    """Return a number in a format; a dash where it was not measured."""
    return "-" if number is None else f"{number:{form}}"


def _origin(document: dict[str, Any]) -> str:
    return f"{document['measured'][:10]}, commit {(document['git']['commit'] or 'unknown')[:7]}"


def _contender_table(document: dict[str, Any]) -> str:
    rows = []
    for name, contender in CONTENDERS.items():
        if (step := document["train_step"].get(name)) is None:
            continue
        evaluation = document["evaluate"][name]
        memory = "-" if step["peak_mb"] is None else f"{max(step['peak_mb'], evaluation['peak_mb']):,.0f}"
        times = [f"{step['median_ms']:.1f}", _or_dash(step["ratio"], ".2f")]
        times += [f"{evaluation['median_ms'] / 1e3:.2f}", _or_dash(evaluation["ratio"], ".2f")]
        rows.append((contender.title, *times, memory))
    speed_up = ">speed-up over stock Keras"
    head = ("implementation", ">training step, ms", speed_up, ">evaluation, s", speed_up, ">peak memory, MB")
    return markdown_table(head, rows)


def _scaling_table(scaling: list[dict[str, Any]]) -> str:
    rows = []
    for row in scaling:
        keras, native = row.get("keras"), row.get("native")
        speed_up = keras / native if keras and native else None
        times = (_or_dash(keras, ".1f"), _or_dash(native, ".1f"), _or_dash(speed_up, ".2f"))
        rows.append((f"{row['size']} {row['value']}", *times))
    return markdown_table(("training step", ">stock Keras, ms", ">native kernel, ms", ">speed-up"), rows)


def _latency_table(latency: list[dict[str, Any]]) -> str:
    rows = []
    for row in latency:
        request = f"{row['batch']}, after {row['rest_ms']} ms of rest" if row["rest_ms"] else row["batch"]
        stock, default, trace = (f"{row[f'{name}_ms']:.1f}" for name in ("stock", "serving_default", "trace"))
        rows.append((request, stock, default, f"{row['ratio']:.2f}", trace))
    head = (">images in a request", ">stock `model.export()`, ms", ">`serving_default`, ms")
    return markdown_table((*head, ">speed-up over stock export", ">`trace`, ms"), rows)


def _load_table(load: list[dict[str, Any]], clients: str) -> str:
    rows = []
    for row in load:
        times = (f"{row[key]:.1f}" for key in ("p50_ms", "p95_ms", "p99_ms"))
        rows.append((row["clients"], f"{row['per_second']:.0f}", *times, f"{row['answers']:,}", row["errors"]))
    head = (f">{clients}", ">answers a second", ">median, ms", ">95 %, ms", ">99 %, ms")
    return markdown_table((*head, ">answers", ">errors"), rows)
