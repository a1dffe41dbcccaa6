"""Exported versions: their numbers, their signatures against Keras, complete at first sight."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from seqmnist_tf import config as cfg
from seqmnist_tf import data
from seqmnist_tf.export import main
from seqmnist_tf.model import build_model
from seqmnist_tf.serve import SavedModel, exported_versions, exporter, parity, read_description, signatures
from seqmnist_tf.serve.versions import DESCRIPTION_FILE, EXTRA_ASSETS
from seqmnist_tf.system import RunError
from seqmnist_tf.train import RunDirectory, load_final_model
from tests.conftest import Command
from tests.toy import ROOT, finished_run, toy_mnist

pytestmark = pytest.mark.usefixtures("toy")


class Exported(NamedTuple):
    """A run, its model, and the version that was exported of it."""

    run: RunDirectory
    model: keras.Sequential
    saved: SavedModel

    def inputs(self, n: int) -> dict[str, parity.Arrays]:
        """Return inputs of all signatures for n images."""
        return parity.example_inputs(images(n), self.model, self.run.config.task.normalization, self.run.pixel_order())


@pytest.fixture(scope="module", params=[1, 2], ids=["permuted", "plain"])
def exported(request: pytest.FixtureRequest, toy_versions: Path) -> Exported:
    """Return a run and the version that was exported of it."""
    run = RunDirectory(toy_versions.parent / f"run{request.param}")
    return Exported(run, load_final_model(run), SavedModel.load(toy_versions / str(request.param)))


def images(n: int) -> np.ndarray:
    """Return n images: digits of the toy set, a blank one, one with ink from the first pixel on, noise."""
    random = np.random.RandomState(7)
    special = [np.zeros((28, 28)), np.full((28, 28), 9), random.randint(0, 256, (28, 28))]
    return np.concatenate([toy_mnist()["test"].images, special]).astype(np.uint8)[::-1][:n]


def test_signatures_have_the_names_shapes_and_types_of_the_contract(exported: Exported) -> None:
    saved = exported.saved
    described = {
        name: [
            {key: (spec.dtype.name, tuple(spec.shape)) for key, spec in specs(name).items()}
            for specs in (saved.inputs, lambda name: saved.signatures[name].structured_outputs)
        ]
        for name in saved.signatures
    }
    answer = {"class_id": ("int64", (None,)), "probabilities": ("float32", (None, 10))}
    state = ("float32", (None, 8))
    unrolled = ("float32", (None, None, 10))
    assert described == {
        "serving_default": [{"images": ("uint8", (None, 28, 28))}, answer],
        "encoded_images": [{"image_bytes": ("string", (None,))}, answer],
        "logits": [{"sequence": ("float32", (None, 784, 1))}, {"logits": ("float32", (None, 10))}],
        "trace": [{"images": ("uint8", (None, 28, 28))}, {"probabilities": unrolled}],
        "step": [
            {"pixels": ("float32", (None, None, 1)), "h": state, "c": state},
            {"h_next": state, "c_next": state, "probabilities": unrolled},
        ],
    }


def test_signatures_are_the_keras_model_at_any_batch_size(exported: Exported) -> None:
    inputs = [exported.inputs(n) for n in (1, 8, 9, 17, 33, 63)]
    differences = parity.require_parity(exported.saved, exported.model, inputs)
    assert set(differences["difference_from_float64"]) == set(exported.saved.signatures)
    answers = exported.saved(images=images(63))
    np.testing.assert_array_equal(answers["class_id"], answers["probabilities"].argmax(axis=1))
    assert np.ptp(answers["probabilities"], axis=0).max() > 0.01  # digits do differ
    assert exported.saved(images=images(0))["probabilities"].shape == (0, 10)


def test_a_stream_of_single_pixels_is_the_trace(exported: Exported) -> None:
    saved, inputs = exported.saved, exported.inputs(3)
    h = c = np.zeros((3, 8), np.float32)
    parts = []
    cuts = [0, *range(1, 101), 101, 400, 400, 784]  # pixel by pixel, by many, none at all
    for start, end in itertools.pairwise(cuts):
        out = saved("step", pixels=inputs["logits"]["sequence"][:, start:end], h=h, c=c)
        h, c = out["h_next"], out["c_next"]
        parts.append(out["probabilities"])
    trace = saved("trace", images=images(3))["probabilities"]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), trace, atol=parity.RUN_TOLERANCE)
    np.testing.assert_allclose(trace[:, -1], saved(images=images(3))["probabilities"], atol=parity.RUN_TOLERANCE)


def test_encoded_images_are_png_or_jpeg_of_28x28(exported: Exported) -> None:
    saved = exported.saved
    grey = images(10)[9][..., None]
    png, jpeg = tf.io.encode_png(grey).numpy(), tf.io.encode_jpeg(grey, quality=100).numpy()
    for content in (png, tf.io.encode_png(np.repeat(grey, 3, axis=-1)).numpy(), jpeg):
        wanted = saved(images=tf.io.decode_image(content, channels=1)[None, ..., 0])
        answer = saved("encoded_images", image_bytes=[content])
        np.testing.assert_array_equal(answer["probabilities"], wanted["probabilities"])
    for bad in (b"", b"x" * 100, png[:60], png + bytes(2**16), tf.io.encode_png(grey[:, :27]).numpy()):
        with pytest.raises(tf.errors.InvalidArgumentError):
            saved("encoded_images", image_bytes=[bad])


def test_the_graph_is_stock_and_for_any_device(exported: Exported) -> None:
    document = (exported.saved.path / "saved_model.pb").read_bytes()
    (meta,) = saved_model_pb2.SavedModel.FromString(document).meta_graphs
    functions = meta.graph_def.library.function
    nodes = [*meta.graph_def.node, *(node for function in functions for node in function.node_def)]
    assert not {node.op for node in nodes} & {"PyFunc", "EagerPyFunc", "CudnnRNNV3", "XlaLaunch"}
    assert {node.op for node in nodes} >= {"BlockLSTMV2", "While"}
    assert {node.device for node in nodes} <= {"", "/device:CPU:0", "/device:CPU:*"}
    graph = exported.saved.signatures["logits"].graph
    used = {op.type for op in graph.get_operations()}
    used |= {node.op for f in graph.as_graph_def().library.function for node in f.node_def}
    assert "BlockLSTMV2" not in used and "MatMul" in used


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export versions that hold a description only."""

    def write(path: Path, _: keras.Model, described: dict[str, Any], *__: Any) -> None:
        time.sleep(0.2)
        (path / EXTRA_ASSETS).mkdir()
        (path / EXTRA_ASSETS / DESCRIPTION_FILE).write_text(json.dumps(described))

    monkeypatch.setattr(exporter, "_write_version", write)


def test_two_exports_at_once_get_two_versions(in_tmp: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished_run(in_tmp / "run")
    model = load_final_model(run)
    monkeypatch.setattr(exporter, "load_final_model", lambda *_, **__: model)
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: exporter.export_run(run, in_tmp / "versions"), range(2)))
    assert sorted(path.name for path in paths) == ["1", "2"]
    assert all(str(read_description(path)["version"]) == path.name for path in paths)


@pytest.mark.parametrize("layer", ["LSTM", "GRU"])
def test_no_graph_is_built_with_cudnn(layer: str) -> None:
    model = build_model(cfg.with_values(cfg.Config(), {"model.layer": layer, "model.hidden_size": 8}))
    assert model.layers[0].use_cudnn == "auto"
    signatures.ServingFunctions(model, "standard", np.arange(784))
    assert model.layers[0].use_cudnn is False


def test_the_description_says_where_the_model_comes_from_and_warm_up_requests_replay(exported: Exported) -> None:
    run, described = exported.run, read_description(exported.saved.path)
    assert (described["model"], str(described["version"])) == ("seqmnist", exported.saved.path.name)
    assert cfg.with_values(cfg.Config(), cfg.flatten_sections(described["config"])) == run.config
    assert described["config_id"] == cfg.config_id(run.config)
    assert (described["commit"], described["test_accuracy"], described["test_correct"]) == ("c0ffee", 0.5, 5000)
    assert described["pixel_order"] == run.pixel_order().tolist()
    order = (run.path / "pixel_order.txt").read_bytes()
    assert described["pixel_order_sha256"] == hashlib.sha256(order).hexdigest()
    assert described["versions"]["tensorflow"] == tf.__version__
    saved = exported.saved
    assert set(described["difference_from_keras"]) == set(saved.signatures)
    replayed = [(name, len(next(iter(saved(name, **inputs).values())))) for name, inputs in saved.warm_up_requests()]
    assert sorted(replayed) == sorted((name, n) for name in saved.signatures for n in exporter.BATCH_SIZES)


def test_versions_count_up_and_are_never_overwritten(command: Command, in_tmp: Path, quick: None) -> None:
    finished_run(in_tmp / "run")
    folder = in_tmp / "export" / "seqmnist"
    assert command(main, "run").out.splitlines()[-1] == "export/seqmnist/1"
    before = {path: path.read_bytes() for path in (folder / "1").rglob("*") if path.is_file()}
    for name in ("07", "notes", "-9", "1.5", ".new-3-abcd_123.part"):
        (folder / name).mkdir()
    (folder / "12").write_text("a file")
    result = command(main, "run", "--export_dir=export/seqmnist")
    assert (result.status, result.out.splitlines()[-1]) == (0, "export/seqmnist/8")
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(exported_versions(folder)) == [1, 7, 8]


def test_wrong_weights_and_states_are_noticed_though_the_model_magnifies_rounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within 28 steps, the LSTM of this record makes of rounding more than what is refused after one."""
    run = RunDirectory(ROOT / "results" / "adam" / "seed0")
    model, normalization = load_final_model(run), run.config.task.normalization
    noise = np.random.RandomState(3).randint(0, 256, (8, 28, 28)).astype(np.uint8)
    inputs = parity.example_inputs(noise, model, normalization, run.pixel_order())
    functions = signatures.ServingFunctions(model, normalization, run.pixel_order())
    lstm = functions.block_lstm
    weights, steps = lstm._weights.numpy(), lstm._steps

    @functools.cache
    def traced(name: str) -> Any:
        return tf.function(getattr(functions, name))

    def answers(name: str, **arrays: Any) -> dict[str, np.ndarray]:
        tensors = {key: tf.constant(array) for key, array in arrays.items()}
        return {key: value.numpy() for key, value in traced(name)(**tensors).items()}

    monkeypatch.setattr(parity, "keras_outputs", functools.cache(parity.keras_outputs))  # the model stays as it is

    def require_parity() -> None:
        parity.require_parity(answers, model, [inputs])  # type: ignore[arg-type]

    require_parity()
    one_off = weights.copy()
    one_off.flat[np.argsort(np.abs(weights), axis=None)[weights.size // 2]] *= 1.01
    swapped = np.concatenate([np.split(weights, 4, axis=1)[gate] for gate in (1, 0, 2, 3)], axis=1)
    for wrong in (one_off, swapped, np.nan * weights):
        lstm._weights.assign(wrong)
        with pytest.raises(RunError, match="signature step differs from the Keras model by "):
            require_parity()
    lstm._weights.assign(weights)
    monkeypatch.setattr(lstm, "_steps", lambda *args: (steps(*args)[0] + 3e-5, steps(*args)[1]))
    traced.cache_clear()
    with pytest.raises(RunError, match="signature step differs from the Keras model by "):
        require_parity()


def test_a_difference_is_noticed() -> None:
    expected = {"logits": np.array([[100.0, 0]], np.float32)}
    assert parity.largest_difference(expected, expected) == 0
    assert parity.largest_difference({"logits": expected["logits"] + 1}, expected) == pytest.approx(0.01)
    assert np.isnan(parity.largest_difference({"logits": np.array([[np.nan, 0]], np.float32)}, expected))


def foreign_model(run: RunDirectory) -> None:
    layers = [keras.Input((784, 1)), keras.layers.GRU(8), keras.layers.Dense(10)]
    keras.Sequential(layers).save(run.path / "model.keras")


@pytest.mark.parametrize(
    ("words", "spoil", "named"),
    [
        ("nowhere", None, "nowhere"),
        ("run --export-dir run/config.json", None, "run/config.json"),
        ("run --nonsense", None, "--nonsense"),
        ("", None, "RUN_DIR"),
        ("run", foreign_model, "model.keras"),
        ("run", lambda run: (run.path / "model.keras").unlink(), "model.keras"),
        ("run", lambda run: (run.path / "pixel_order.txt").write_text("0\n" * 784), "pixel_order.txt"),
        ("run", lambda run: (run.path / "environment.json").unlink(), "environment.json"),
    ],
)
def test_bad_input_is_one_line(
    command: Command, in_tmp: Path, words: str, spoil: Callable[[RunDirectory], Any] | None, named: str
) -> None:
    run = finished_run(in_tmp / "run")
    if spoil:
        spoil(run)
    result = command(main, *words.split())
    assert (result.status, result.out) == (2, "")
    *notes, error = result.err.splitlines()
    assert error.startswith("error: ") and named in error and "error" not in " ".join(notes)
    assert not list(in_tmp.glob("export/seqmnist/[!.]*"))


OTHER_ARGUMENTS = """
import keras

def Softsign(units):
    return keras.layers.LSTM(units, activation="softsign", use_bias=False, go_backwards=True)
"""


def test_another_layer_has_the_signatures_that_mean_something_for_it(command: Command, in_tmp: Path) -> None:
    Path("other_arguments.py").write_text(OTHER_ARGUMENTS)
    run = finished_run(in_tmp / "run", model__layer="other_arguments.py:Softsign")
    (run.path / "layer.py").write_text(OTHER_ARGUMENTS)
    refused = command(main, "run")
    assert (refused.status, refused.out) == (2, "") and "then give --allow-code" in refused.err
    result = command(main, "run", "--allow-code")
    assert result.status == 0, result.err
    assert "the signatures trace and step are left out: they need the states of a stock LSTM\n" in result.err
    saved = SavedModel.load(in_tmp / "export" / "seqmnist" / "1")
    assert set(saved.signatures) == {"serving_default", "encoded_images", "logits"}
    logits = load_final_model(run, allow_code=True).predict(data.encode(images(17), "standard", np.arange(784)))
    np.testing.assert_array_equal(saved(images=images(17))["class_id"], logits.argmax(axis=1))
    assert len(list(saved.warm_up_requests())) == 6


def test_a_run_from_elsewhere(command: Command, in_tmp: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own pixel order counts; its places and accounts are ignored and not published."""
    order = np.random.RandomState(3).permutation(784)
    (in_tmp / "order.txt").write_text("".join(f"{pixel}\n" for pixel in order))
    run = finished_run(
        in_tmp / "run",
        model__layer=f"{ROOT}/examples/min_lstm.py:MinLSTM",
        task__permutation=f"file:{in_tmp / 'order.txt'}",
        data__dir="/home/other/data",
        data__source="pypi",
        wandb__entity="me",
        wandb__project="mine",
    )
    (run.path / "layer.py").write_bytes((ROOT / "examples" / "min_lstm.py").read_bytes())
    (run.path / "summary.json").unlink()
    order_sha256 = cfg.permutation_sha256(run.config)
    run.write_json("environment.json", {**run.environment, "permutation_sha256": order_sha256})
    config_id = run.config_id
    (in_tmp / "order.txt").write_text("".join(f"{pixel}\n" for pixel in order[::-1]))  # changed since
    asked: list[tuple[Any, ...]] = []

    def load(*args: Any) -> dict[str, data.Examples]:
        asked.append(args)
        return toy_mnist()

    monkeypatch.setattr(exporter, "load_mnist", load)
    result = command(main, "run", "--export-dir", "versions", "--data-dir", "data", "--allow-code")
    assert "exported run as version 1; test accuracy unknown\n" in result.err
    described, plain = read_description(in_tmp / "versions" / "1"), cfg.config_to_dict(cfg.Config())
    assert asked == [("auto", "data", ("train",))]
    assert (described["pixel_order"], described["config_id"]) == (order.tolist(), config_id)
    assert {key: described["config"][key] for key in ("data", "wandb")} == {
        key: plain[key] for key in ("data", "wandb")
    }
    assert described["config"]["model"]["layer"] == "min_lstm.py:MinLSTM"
    assert described["config"]["task"]["permutation"] == "file:order.txt"
