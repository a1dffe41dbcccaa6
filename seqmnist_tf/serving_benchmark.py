"""Speed of an exported version: its signatures beside stock ``model.export()``, and the local server under load.

python -m seqmnist_tf.serving_benchmark [--model-dir DIR] [--seconds 20] [--json]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import cli, data, environment, runtime
from . import config as cfg
from .config import Config
from .errors import InputError, RunError
from .mnist import load_mnist
from .saved_model import DEFAULT_FOLDER, MODEL_NAME, SavedModel, versions

SITUATIONS = ((1, 0), (8, 0), (64, 0), (256, 0), (1, 10))  # images in a request, milliseconds of rest before it
ROUNDS = 50  # at most; each contender has one turn a round
CALLS = 5  # in a turn, each on other digits
SECONDS_PER_SIZE = 10.0  # after which no further round begins
CLIENTS = (1, 8, 32)


def stock_export(saved: SavedModel, folder: Path) -> SavedModel:
    """Export the Keras model of a version, with its weights, by ``model.export()`` and return that."""
    import tensorflow as tf

    from .model import build_model

    sections = saved.description["config"]
    values = {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}
    model = build_model(cfg.with_values(Config(), values))
    model.set_weights([variable.numpy() for variable in tf.saved_model.load(str(saved.path)).trainable_variables])
    model.export(str(folder), verbose=False)
    return SavedModel.load(folder)


def measure_latency(saved: SavedModel, images: np.ndarray) -> list[dict[str, Any]]:
    """Measure one answer at several batch sizes, contenders in turns; return a row for each.

    One row is of requests that come after a rest, when caches and processor are cold.

    Args:
        saved: an exported version.
        images: uint8 (n, 28, 28), digits, n at least 256.
    """
    import tensorflow as tf

    described = saved.description
    order = np.array(described["pixel_order"])
    sequences = data.encode(images, described["config"]["task"]["normalization"], order)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stock = stock_export(saved, Path(folder) / "stock")
        (stock_input,) = stock.inputs("serving_default")
        for size, rest_ms in SITUATIONS:
            parts = [slice(n, n + size) for n in range(0, len(images) - size + 1, size)]
            asked = [(tf.constant(images[part]), tf.constant(sequences[part])) for part in parts[: CALLS * ROUNDS]]
            contenders: dict[str, Callable[[Any, Any], Any]] = {
                "stock": lambda _, numbers: stock.signatures["serving_default"](**{stock_input: numbers}),
                "serving_default": lambda pixels, _: saved.signatures["serving_default"](images=pixels),
                "trace": lambda pixels, _: saved.signatures["trace"](images=pixels),
            }
            times: dict[str, list[float]] = {name: [] for name in contenders}
            end = time.perf_counter() + SECONDS_PER_SIZE
            for turn in range(ROUNDS + 1):
                for name, call in contenders.items():
                    for n in range(CALLS):
                        time.sleep(rest_ms / 1e3)
                        start = time.perf_counter()
                        next(iter(call(*asked[(CALLS * turn + n) % len(asked)]).values())).numpy()
                        if turn and n:  # a turn's first call finds the caches full of another's data
                            times[name].append(1e3 * (time.perf_counter() - start))
                if time.perf_counter() > end:
                    break
            medians = {f"{name}_ms": statistics.median(each) for name, each in times.items()}
            ratio = medians["stock_ms"] / medians["serving_default_ms"]
            rows.append({"batch": size, "rest_ms": rest_ms, **medians, "ratio": ratio})
    return rows


def measure_server(folder: Path, images: np.ndarray, seconds: float) -> list[dict[str, Any]]:
    """Measure the local server under 1, 8 and 32 clients, each of which asks for one image after the other.

    Raises:
        RunError: the server does not start.
    """
    command = [sys.executable, "-m", "seqmnist_tf.serve", "--model-dir", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if " at http" not in line:
                raise RunError("the local server did not start")
            url = line.split(" at ")[1].strip()
            return [load(url, images, clients, seconds) for clients in CLIENTS]
        finally:
            process.terminate()


def load(url: str, images: np.ndarray, clients: int, seconds: float) -> dict[str, Any]:
    """Let some clients ask a server for ``seconds``; return how many answers came, how many errors, and how fast."""
    import requests

    bodies = [json.dumps({"instances": [image.tolist()]}) for image in images[:256]]
    times: list[float] = []
    errors: list[str] = []
    end = time.perf_counter() + seconds

    def ask(first: int) -> None:
        n = first
        with requests.Session() as session:
            while (start := time.perf_counter()) < end:
                n += 1
                try:
                    answer = session.post(f"{url}/v1/models/{MODEL_NAME}:predict", bodies[n % len(bodies)], timeout=30)
                    answer.raise_for_status()
                    times.append(1e3 * (time.perf_counter() - start))
                except requests.RequestException as error:
                    errors.append(str(error))

    threads = [threading.Thread(target=ask, args=(97 * client,)) for client in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    if not times:
        raise RunError(f"the local server answered nothing: {errors[0]}")
    p50, p95, p99 = np.percentile(times, (50, 95, 99))
    percentiles = {"p50_ms": float(p50), "p95_ms": float(p95), "p99_ms": float(p99)}
    per_second = len(times) / elapsed
    return {"clients": clients, "seconds": seconds, "answers": len(times), "errors": len(errors),
            "per_second": per_second, **percentiles}  # fmt: skip


def measure(folder: Path, seconds: float) -> dict[str, Any]:
    """Measure the newest version in a folder; return the command's JSON document.

    Raises:
        InputError: there is no version in ``folder``.
    """
    found = versions(folder) if folder.is_dir() else {}
    if not found:
        raise InputError(f"{folder} holds no version (give --model-dir a folder that seqmnist_tf.export wrote to)")
    runtime.start_tensorflow()
    images = load_mnist("auto", None, ("test",))["test"].images[:1000]
    saved = SavedModel.load(found[max(found)])
    return {
        "version": max(found),
        "bytes": sum(path.stat().st_size for path in saved.path.rglob("*") if path.is_file()),
        "latency": measure_latency(saved, images),
        "server": measure_server(folder, images, seconds),
        "versions": environment.versions(),
        "machine": environment.machine(),
        "git": environment.git_state(),
        "measured": environment.utc_now(),
    }


def to_markdown(document: dict[str, Any]) -> str:
    """Return a benchmark's document as tables in Markdown."""
    machine, packages = document["machine"], document["versions"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores; TensorFlow {packages['tensorflow']}, Keras "
        f"{packages['keras']}; {document['measured'][:10]}, commit {(document['git']['commit'] or 'unknown')[:7]}. "
        f"Version {document['version']} has {document['bytes'] / 1e6:.1f} MB.",
        "",
        "| images in a request | stock `model.export()`, ms | `serving_default`, ms | stock / it | `trace`, ms |",
        "|---:|---:|---:|---:|---:|",
    ]
    for row in document["latency"]:
        times = [f"{row[key]:.1f}" for key in ("stock_ms", "serving_default_ms")]
        what = f"{row['batch']}, after {row['rest_ms']} ms of rest" if row["rest_ms"] else row["batch"]
        lines.append(f"| {what} | {' | '.join(times)} | {row['ratio']:.2f} | {row['trace_ms']:.1f} |")
    lines += [
        "",
        "| clients of the local server | answers a second | median, ms | 95 %, ms | 99 %, ms | answers | errors |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in document["server"]:
        times = [f"{row[key]:.1f}" for key in ("p50_ms", "p95_ms", "p99_ms")]
        counts = f"{row['answers']:,} | {row['errors']}"
        lines.append(f"| {row['clients']} | {row['per_second']:.0f} | {' | '.join(times)} | {counts} |")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Run the command; return its exit status."""
    parser = cli.Parser(
        prog="python -m seqmnist_tf.serving_benchmark",
        description="Measure the newest exported version beside stock model.export(), and the local server\n"
        "under load. Some two minutes.",
    )
    parser.add_argument(
        "--model-dir", type=Path, default=DEFAULT_FOLDER, metavar="DIR", help=f"versions (default: {DEFAULT_FOLDER})"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of load for each number of clients (default: 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args(argv)
    if not 0 < args.seconds <= 3600:
        raise InputError(f"--seconds must be above 0 and at most 3600 (got {args.seconds:g})")
    document = measure(args.model_dir, args.seconds)
    print(json.dumps(document) if args.json else to_markdown(document))
    return cli.EXIT_DONE


if __name__ == "__main__":
    cli.run(main)
