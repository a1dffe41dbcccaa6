"""Forged records: each case is a change of one file of an honest run, and the words of the line that refuses it."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras

import seqmnist_tf
from tests.changes import change_json, drop, put, replace, row, text

HONEST_COMMAND = "python -m seqmnist_tf.train strong --train.seed 1"
UNKNOWN_COMMIT = "c0ffee" * 6 + "c0ff"


class Forgery(NamedTuple):
    """One case.

    Attributes:
        name: of the case.
        change: changes its file.
        message: part of the line that refuses it.
        added: whether it is tried on ``results add``.
        checked: whether it is tried on ``results --check`` too, as those are that are not added.
        replayed: whether it is tried on ``results --replay full``, which alone finds it; then not on ``--check``.
        file: the file, set by :func:`of`.
    """

    name: str
    change: Callable[[Path], Any]
    message: str
    added: bool = True
    checked: bool = False
    replayed: bool = False
    file: str = ""


def of(file: str, *cases: Forgery) -> list[Forgery]:
    """Return cases of a file of the run; a published record has ``steps.csv`` compressed."""
    return [case._replace(file=file) for case in cases]


def resumed(**values: Any) -> Callable[[Path], None]:
    """Return a change that adds a resumed part, which differs from the first in some values."""

    def change(path: Path) -> None:
        def add(document: Any) -> None:
            part = {key: value for key, value in document.items() if key not in ("preset", "config_id", "resumed")}
            part["command"] = "python -m seqmnist_tf.train --run-dir runs/mine --resume"
            document["resumed"].append({**part, **values})

        change_json(path, add)

    return change


def endless_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def drop_last_line(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def other_weights(path: Path) -> None:
    model = keras.saving.load_model(path, compile=False)
    model.set_weights([-weights for weights in model.get_weights()])
    model.save(path)


def elsewhere(path: Path) -> None:
    """Name another processor, on which losses need not agree bit for bit."""
    change_json(path, lambda d: d.update(machine={"processor": "another (family 1, model 1)"}))


def tuned(path: Path) -> None:
    """Change the weights of the logits a little, as one who tunes them on the test set, on another processor."""
    model = keras.saving.load_model(path, compile=False)
    model.layers[-1].set_weights([0.999 * weights for weights in model.layers[-1].get_weights()])
    model.save(path)
    elsewhere(path.with_name("environment.json"))


def with_member(path: Path) -> None:
    """Add a file to the archive of a model."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "x")


def late_losses(factor: float) -> Callable[[Path], None]:
    """Return a change of the losses from batch 4 on, on another processor; no file contradicts another."""

    def change(path: Path) -> None:
        head, *rows = (line.split(",") for line in path.read_text().splitlines())
        for cells in rows[3:]:
            cells[1] = repr(factor * float(cells[1]))
        path.write_text("".join(",".join(cells) + "\n" for cells in [head, *rows]))
        row(1, train_loss=math.fsum(float(cells[1]) for cells in rows[3:]) / 3)(path.with_name("history.jsonl"))
        elsewhere(path.with_name("environment.json"))

    return change


def model(lstm: Callable[[], keras.Layer], activation: str | None = None, *between: str) -> Callable[[Path], Any]:
    """Return a change to another model; ``between`` are names of layers between its two."""

    def change(path: Path) -> None:
        layers = [lstm(), *(getattr(keras.layers, name)() for name in between)]
        dense = keras.layers.Dense(10, activation, name="logits")
        keras.Sequential([keras.Input((784, 1)), *layers, dense]).save(path)

    return change


def first_loss(path: Path) -> None:
    """Change the first loss, and the mean of its epoch in ``history.jsonl``: no file contradicts another."""
    head, first, *rest = path.read_text().splitlines()
    step, loss, norm = first.split(",")
    lines = [head, f"{step},{float(loss) + 0.001!r},{norm}", *rest]
    path.write_text("".join(line + "\n" for line in lines))
    losses = [float(line.split(",")[1]) for line in lines[1:4]]
    row(0, train_loss=math.fsum(losses) / 3)(path.with_name("history.jsonl"))


def other_prediction(path: Path) -> None:
    """Change the first prediction that is correct."""
    lines = path.read_text().splitlines()
    number = next(n for n, line in enumerate(lines[1:], 1) if line.split(",")[1] == line.split(",")[2])
    index, label, prediction, probability = lines[number].split(",")
    lines[number] = f"{index},{label},{(int(prediction) + 1) % 10},{probability}"
    path.write_text("".join(line + "\n" for line in lines))


def other_probability(number: int) -> Callable[[Path], Any]:
    """Return a change of the probability of one row."""
    return lambda path: path.write_text(re.sub(rf"(?m)^({number},\d,\d),.*$", r"\1,0.777", path.read_text()))


def one_digit_more(path: Path) -> None:
    """Raise the count of the last epoch, and leave out the table: no file contradicts another."""

    def raise_count(document: Any) -> None:
        final = document["final"]
        final["test_correct"] += 1
        final["test_accuracy"] = final["test_correct"] / final["test_total"]
        row(1, test_accuracy=final["test_accuracy"])(path.with_name("history.jsonl"))

    change_json(path, raise_count)
    path.with_name("predictions.csv").unlink()


def other_labels(path: Path) -> None:
    """Give the last two rows the labels 0 and 1, right or wrong as before."""
    lines = path.read_text().splitlines()
    for number, label in ((-2, 0), (-1, 1)):
        index, old, prediction, probability = lines[number].split(",")
        hit = old == prediction
        lines[number] = f"{index},{label},{label if hit else label + 1},{probability}"
    path.write_text("".join(line + "\n" for line in lines))


def command(words: str) -> Callable[[Path], None]:
    return put("command", value=words)


FORGERIES = [
    *of(
        "summary.json",
        Forgery("diverged", put("status", value="diverged"), "final in summary.json does not match"),
        Forgery("other seed", put("seed", value=7), "seed in summary.json does not match"),
        Forgery("parameters", put("num_params", value=1), "num_params in summary.json does not match", checked=True),
        Forgery("count", put("final", "test_correct", value=1), "is not test_correct / 10,000"),
        Forgery("no final", drop("final"), "not in the format of a run directory (KeyError: 'final')"),
        Forgery("NaN", put("final", "test_loss", value=math.nan), "numbers must be finite (got NaN)"),
    ),
    *of(
        "history.jsonl",
        Forgery("short", drop_last_line, "must have epochs 1 to 2"),
        Forgery("train loss", row(0, train_loss=1.0), "train_loss of epoch 1 is not the mean", checked=True),
        Forgery("infinite", replace('"test_loss": [0-9.]+', '"test_loss": 1e999'), "numbers must be finite"),
        Forgery("twice", replace('"epoch": 1', '"epoch": 1, "epoch": 1'), "key 'epoch' is given twice"),
        Forgery("huge", replace('"seconds": [0-9.]+', '"seconds": 1' + "0" * 400), "seconds of epoch 1|format"),
    ),
    *of(
        "steps.csv",
        Forgery("changed", replace(r"\n3,.*\n", "\n3,2.5\n"), "is not the mean", checked=True),
        Forgery("missing", Path.unlink, "steps.csv.gz is missing"),
        # Nothing but training it anew finds these; two differ after the batches that are always trained.
        Forgery("first loss", first_loss, "trained anew, batch 1 has loss"),
        Forgery("late losses", late_losses(0.2), "rounding makes no such step", added=False, replayed=True),
        Forgery(
            "losses that drift",
            late_losses(1.00008),
            "rounding may be the cause, so nothing after it is confirmed",
            added=False,
            replayed=True,
        ),
    ),
    *of(
        "config.json",
        Forgery("epochs", put("train", "n_epochs", value=3), "its command gives train.n_epochs 2"),
        Forgery("beta", put("optimizer", "beta_1", value=0.8), "its command gives optimizer.beta_1 0.9", checked=True),
        Forgery("no test", put("test", "enabled", value=False), "tested on all 10,000"),
        Forgery("order", put("task", "permutation", value="file:/x"), "pixel order must be reproducible"),
        Forgery("unknown key", put("train", "speed", value=1), "unknown key train.speed"),
        Forgery("NaN", put("optimizer", "lr", value=math.nan), "numbers must be finite (got NaN)|> 0 (got NaN)"),
        Forgery("module", put("model", "layer", value="os:x"), "model.layer"),
    ),
    *of(
        "pixel_order.txt",
        Forgery(
            "reversed", lambda p: p.write_text("\n".join(map(str, range(783, -1, -1)))), "not the order", checked=True
        ),
        Forgery("missing", Path.unlink, "pixel_order.txt is missing"),
    ),
    *of(
        "environment.json",
        Forgery("id", put("config_id", value="0" * 12), "config_id in environment.json does not match"),
        Forgery("seed", put("seed", value=7), "seed in environment.json does not match"),
        Forgery("dirty", put("git", "dirty", value=True), "trained from a commit"),
        Forgery("short commit", put("git", "commit", value="c0ffee"), "40 hexadecimal digits"),
        Forgery("unknown", put("git", "commit", value=UNKNOWN_COMMIT), "is not a commit of this clone"),
        Forgery("other parts", resumed(git={"commit": UNKNOWN_COMMIT, "dirty": False}), "c0ffeec"),
        Forgery("dirty part", resumed(git={"commit": "ab", "dirty": True}), "trained from a commit"),
        Forgery("part of code", resumed(sources="0" * 64), "sources in environment.json is not"),
        Forgery("part's first step", resumed(first_step=-1), "first_step in environment.json must be an integer >= 0"),
        Forgery("part's command", resumed(command="python -m seqmnist_tf.train"), "must have --resume"),
        Forgery("no git", put("git", value={}), "not in the format of a run directory"),
        Forgery("missing", Path.unlink, "environment.json is missing"),
        Forgery("program", command("python train.py"), "it must be python -m seqmnist_tf.train"),
        Forgery("quote", command("python -m seqmnist_tf.train 'x"), "its command is not one of train"),
        Forgery("help", command("python -m seqmnist_tf.train strong -h"), "it trains nothing"),
        Forgery("preset", command("python -m seqmnist_tf.train sgd --train.seed 0"), "is of preset sgd"),
        Forgery("other seed", command("python -m seqmnist_tf.train strong --train.seed 9"), "train.seed 9"),
        Forgery("file", command("python -m seqmnist_tf.train --config /dev/zero"), "names a file that is not"),
        Forgery("cell", put("machine", "processor", value="x |\n<!-- end -->"), "no control characters", checked=True),
        Forgery("direction", put("device", value="a\u202eb"), "no control characters"),
        Forgery("surrogate", put("device", value="\ud800"), "no control characters"),
        Forgery("a key", put("<b>", value=1), "no control characters"),
        Forgery("long", put("started", value="x" * 9_999), "no text of more than 2,000"),
        Forgery("no year", put("started", value="May 2026"), "must begin with a year (got 'May 2026')"),
        Forgery("number", put("threads", value="2"), "threads is missing in environment.json"),
        Forgery("nested", put("machine", "processor", value=["x"]), "must have processor, a text"),
        Forgery("no version", put("versions", value={}), "must have seqmnist_tf, a text"),
        Forgery("parts", put("resumed", value=[1]), "must be a list of objects"),
    ),
    *of("summary.json", Forgery("summary", put("reason", value="<script>"), "no control characters")),
    *of("config.json", Forgery("project", put("wandb", "project", value="a|b"), "no control characters")),
    *of(
        "model.keras",
        Forgery("weights", other_weights, "is not what model.keras gives|test digits correctly", checked=True),
        Forgery("units", model(lambda: keras.layers.LSTM(32, name="lstm")), "units of its layer lstm must be 16"),
        Forgery("native layer", model(lambda: seqmnist_tf.LSTM(16, name="lstm")), "its layers must be"),
        Forgery("a member", with_member, "model.weights.h5, as Keras writes them (got ["),
        Forgery("tuned", tuned, "the weights are not those of model.keras", added=False, replayed=True),
        Forgery("cut", lambda path: path.write_bytes(path.read_bytes()[:1000]), "give a whole Keras model"),
        Forgery("missing", Path.unlink, "has no model.keras|model.keras is missing", checked=True),
    ),
    *of(
        "predictions.csv",
        Forgery("table's count", other_prediction, "test images correctly, but summary.json says", checked=True),
        Forgery("table's probability", other_probability(7), "is not what model.keras gives for 1 of"),
        Forgery("table's labels", other_labels, "does not have the labels of the test images"),
        Forgery("table's head", replace("index", "number"), "its first line must be"),
        Forgery("table's digit", replace(r"\n5,\d,\d,", "\n5,12,12,"), "must be 0 to 9"),
        Forgery("table's NaN", replace(r"\n5,(\d),(\d),.*", "\n5,1,2,nan"), "probabilities must be 0.1 to 1"),
        # The model on all images finds these, not on the first of them alone.
        Forgery(
            "table's late row", other_probability(9000), "is not what model.keras gives for 1 of 10,000", replayed=True
        ),
    ),
    *of("summary.json", Forgery("a digit more", one_digit_more, "test digits correctly (summary.json says")),
    *of("notes.txt", Forgery("stray", text("x"), "notes.txt does not belong to a record", added=False)),
    *of("summary.json", Forgery("a link", endless_link, "must be a file", added=False)),
    *of("predictions.csv", Forgery("a folder", folder, "must be a file", added=False)),
    *of(
        "layer.py",
        Forgery("layer", text("1"), "does not belong to a run whose layer is not from a file", checked=True),
        Forgery("layer's bytes", text(b"\xff"), "layer.py must be UTF-8 text"),
        Forgery("layer's terminal", text("x = '\x1b[2J'"), "layer.py must have no control characters"),
        Forgery("layer's text", text("x = '<!-- end -->'"), "must not have a comment of HTML"),
    ),
    *of(
        "record.json",
        Forgery("schema", put("schema", value=2), "has schema 2 (this version reads 1)", added=False),
        Forgery("replays", put("replayed", value=[{}]), "date of a replay is missing", added=False),
        Forgery(
            "more batches",
            put("replayed", 0, "batches", value=7),
            "a replay of 7 batches, more than steps.csv",
            added=False,
        ),
        Forgery(
            "far apart",
            put("replayed", 0, "largest_difference", value=0.1),
            "largest_difference 0 to 5e-05",
            added=False,
        ),
        Forgery("replay's date", put("replayed", 0, "date", value="today"), "must be ISO 8601", added=False),
        Forgery(
            "replay's weights", put("replayed", 0, "weights", value=1), "weights of a replay must be 0", added=False
        ),
        Forgery("replay's text", put("replayed", 0, "processor", value="|"), "no control characters", added=False),
    ),
    *of(
        "environment.json",
        Forgery("path", command(f"{HONEST_COMMAND} --run-dir /home/x"), "no absolute path", added=False),
    ),
    *of("config.json", Forgery("home", put("data", "dir", value="/home/x"), "no absolute path", added=False)),
]
