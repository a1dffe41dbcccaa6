"""Whether ``model.keras`` is the model of its record: on the test images, all or the first, or on held-out ones."""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from ..config import NUM_TEST, Config, Data, LayerFile, Model, Task, has_stock_layer, is_trial, with_values
from ..data import Split, Splits, load_splits, load_test, pixel_order
from ..model import choose_kernel, make_trainable, match_units
from ..train import (
    LOSS_AGREES,
    MAX_FLIPS,
    PREDICTIONS_FILE,
    Predictions,
    RunDirectory,
    evaluate_model,
    evaluate_run,
    load_final_model,
)
from .records import is_former_example

LOSS_TOLERANCE = 1e-5  # relative: another machine adds the float32 losses in another order
PROBABILITY_TOLERANCE = 1e-4  # absolute: rounding of 784 steps, which another machine does in another order
MAX_OTHER_CLASSES = 0.01  # share of images whose two highest logits are so near that another machine swaps them
EXAMPLES = Path(__file__).parents[2] / "examples"  # of a clone; a wheel has none
FIRST_IMAGES = 100  # these alone tell a model from any other: each has a probability of six digits


def evaluation_problems(run: RunDirectory, *, allow_code: bool = False, flips: int = 0) -> tuple[list[str], bytes]:
    """Evaluate ``model.keras`` of a run or record on all test images.

    Return how the results contradict ``summary.json`` and ``predictions.csv``, and the content of ``predictions.csv``.
    ``allow_code`` admits, and runs, the code of ``layer.py``; ``flips`` digits more or fewer may be correct.
    """
    (split, metrics), final = evaluate_run(run, allow_code=allow_code, show_progress=True), (run.summary or {})["final"]
    problems: list[str] = []
    if abs(metrics.correct - final["test_correct"]) > flips:
        problems.append(
            f"model.keras classifies {metrics.correct:,} test digits correctly (summary.json says "
            f"{final['test_correct']:,})"
        )
    if not math.isclose(metrics.loss, final["test_loss"], rel_tol=LOSS_TOLERANCE):
        problems.append(f"model.keras has test loss {metrics.loss:.6f} (summary.json says {final['test_loss']:.6f})")
    if (run.path / PREDICTIONS_FILE).exists():
        problems += _table_problems(run, split.labels, metrics.predictions, metrics.probabilities)
        return problems, (run.path / PREDICTIONS_FILE).read_bytes()
    return problems, Predictions(split.labels, metrics.predictions, metrics.probabilities).to_csv()


def score_problems(run: RunDirectory, model: keras.Model, score: float, loss: float | None = None) -> list[str]:
    """Return whether a model has another accuracy (0 to 1) or loss than was recorded on the held-out images of a run.

    The kernel of this machine computes it, as a kernel scored it; images between two classes may differ.
    """
    here = run.config.train  # where there is no native kernel, a run on it is scored on stock Keras
    here = replace(here, kernel="keras" if here.kernel == "keras" else "auto")
    config, held_out = replace(run.config, data=Data(), train=here), run.config.task.validation_size
    trained = make_trainable(model, config, choose_kernel(config, model))
    split = training_splits(config.task).validation
    metrics = evaluate_model(trained, split, config.test.batch_size)  # type: ignore[arg-type]  # of a trial, not None
    correct = round(score * held_out)
    same_loss = loss is None or math.isclose(metrics.loss, loss, rel_tol=LOSS_AGREES, abs_tol=1e-4)
    if abs(metrics.correct - correct) <= MAX_FLIPS and same_loss:
        return []
    recorded = f"{correct:,}" if loss is None else f"{correct:,} and {loss:.6f}"
    return [
        f"its model classifies {metrics.correct:,} of {held_out:,} held-out digits correctly, with loss "
        f"{metrics.loss:.6f} (recorded: {recorded})"
    ]


class ModelCheck:
    """Checks the models of records one after the other: their architecture, and the first test images, or all.

    Of trials, which were not tested, it scores all held-out images.

    ``allow_code`` admits, and runs, the code of ``layer.py``; that of examples is always admitted. With ``flips``, all
    images are classified, and that many digits more or fewer may be correct.
    """

    def __init__(self, allow_code: bool = False, flips: int | None = None) -> None:
        self.allow_code, self.flips = allow_code, flips
        self._traced: dict[tuple[str, int], keras.Model] = {}

    def check(self, run: RunDirectory) -> tuple[list[str], str]:
        """Return how the model of a record contradicts its other files, and :func:`weights_digest` of it."""
        allow_code = self.allow_code or is_example(run.layer_file)
        model = load_final_model(run, allow_code=allow_code)
        problems, summary = units_problems(run), run.summary or {}
        recorded = summary["num_params"]
        if model.count_params() != recorded:
            problems.append(f"model.keras has {model.count_params():,} parameters (summary.json says {recorded:,})")
        if is_trial(run.config):
            problems += score_problems(run, model, summary["final"]["val_accuracy"], summary["final"]["val_loss"])
        elif self.flips is not None:
            problems += evaluation_problems(run, allow_code=allow_code, flips=self.flips)[0]
        elif (run.path / PREDICTIONS_FILE).exists():
            split = _test_split(run.config.task)
            first = Split(split.images[:FIRST_IMAGES], split.sequences[:FIRST_IMAGES], split.labels[:FIRST_IMAGES])
            metrics = evaluate_model(self._with_function(run, model), first, FIRST_IMAGES)
            problems += _table_problems(run, split.labels, metrics.predictions, metrics.probabilities)
        return problems, weights_digest(model)

    def _with_function(self, run: RunDirectory, model: keras.Model) -> keras.Model:
        """Return a model that computes the same, and whose function TensorFlow has traced before, if there is one.

        Tracing takes longer than the images, and TensorFlow warns of functions that are traced again and again.
        """
        if not has_stock_layer(run.config):
            return model
        traced = self._traced.setdefault((run.config.model.layer, run.config.model.hidden_size), model)
        traced.set_weights(model.get_weights())
        return traced


@functools.lru_cache(maxsize=1)
def _test_split(task: Task) -> Split:
    """Return the test split of a task. Records of one task follow each other."""
    return load_test(Config(task=task), pixel_order(task.permutation))


@functools.lru_cache(maxsize=1)
def training_splits(task: Task) -> Splits:
    """Return the training and the held-out images of a task; the test set is not read, and ``test`` is None."""
    return load_splits(with_values(Config(task=task), {"test.enabled": False}), pixel_order(task.permutation))


def is_example(layer: LayerFile | None) -> bool:
    """Return whether a layer's code is, or was, a file of this project's ``examples/``: no stranger's code."""
    if layer is None:
        return False
    return is_former_example(layer) or any(layer.content == path.read_bytes() for path in EXAMPLES.glob("*.py"))


_MATCHED: dict[tuple[Model, bytes], int] = {}  # units by layer: all seeds of an experiment share them


def units_problems(run: RunDirectory) -> list[str]:
    """Return whether the units are not those that ``model.match_parameters`` finds; this builds the layer."""
    layer = run.layer_file
    key = run.config.model, layer.content if layer else b""
    if key not in _MATCHED:
        _MATCHED[key] = match_units(run.config, layer).model.hidden_size
    units = _MATCHED[key]
    if units == run.config.model.hidden_size:
        return []
    return [f"model.match_parameters gives {units} units (config.json has {run.config.model.hidden_size})"]


def weights_digest(model: keras.Model) -> str:
    """Return a hash of the weights of a model; saving it again does not change them."""
    return hashlib.sha256(b"".join(array.tobytes() for array in model.get_weights())).hexdigest()


def _table_problems(run: RunDirectory, labels: np.ndarray, classes: np.ndarray, probabilities: np.ndarray) -> list[str]:
    """Return whether ``predictions.csv`` has other labels, or in its first rows other predictions than the model."""
    table, n = Predictions.from_csv(run.path / PREDICTIONS_FILE, NUM_TEST), len(classes)
    if not np.array_equal(table.labels, labels):
        return [f"{PREDICTIONS_FILE} does not have the labels of the test images"]
    differs = np.abs(table.probabilities[:n] - probabilities) > PROBABILITY_TOLERANCE
    other_class = table.classes[:n] != classes
    if other_class.sum() > MAX_OTHER_CLASSES * n:
        differs |= other_class
    if differs.any():
        return [f"{PREDICTIONS_FILE} is not what model.keras gives for {differs.sum():,} of {n:,} test images"]
    return []
