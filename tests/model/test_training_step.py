"""The kernel of a run, and training steps of layers that are not an LSTM on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from seqmnist_tf import config as cfg
from seqmnist_tf.kernel import native
from seqmnist_tf.model import Kernel, build_model, choose_kernel, make_trainable
from seqmnist_tf.system import InputError
from tests.kernel.test_native import isas
from tests.model.test_layers import GOOD, HEAD, configure, write
from tests.toy import ROOT

needs_machine = pytest.mark.skipif(not isas(), reason="no native kernel")
LEM = f"{ROOT}/examples/lem.py:LEM"
SUMMING = HEAD + (
    "class Cell(keras.layers.SimpleRNNCell):\n"
    "    def call(self, x, states, training=False):\n"
    "        h, states = super().call(x, [ops.cumsum(states[0], axis=-1)])\n"
    "        return h, states\n"
    "def f(units):\n    return keras.layers.RNN(Cell(units))\n"
)


@needs_machine
def test_cells_run_as_programs_and_lstms_on_their_own_kernel(tmp_path: Path) -> None:
    isa = native.instruction_set()
    for layer, name in (("GRU", "machine2"), ("SimpleRNN", "machine2"), (LEM, "machine2"), ("LSTM", "native")):
        config = configure(layer, train__kernel="native")
        kernel = choose_kernel(config, build_model(config))
        assert (kernel, kernel.name) == (Kernel(isa, None, name == "machine2"), f"{name}-{isa}")
        assert choose_kernel(cfg.with_values(config, {"train.kernel": "keras"}), build_model(config)).name == "keras"
    assert choose_kernel(configure("GRU")) == Kernel(isa, None, True)  # before there is a model
    assert choose_kernel(configure(LEM)) == Kernel(None)


@needs_machine
def test_the_reason_for_stock_keras_names_operation_and_line(tmp_path: Path) -> None:
    config = configure(f"{write(tmp_path, SUMMING)}:f")
    kernel = choose_kernel(config, build_model(config))
    assert kernel.name == "keras" and kernel.reason is not None
    assert kernel.reason.startswith(f"model.layer is {config.model.layer}: ")
    line = 1 + SUMMING.splitlines().index("        h, states = super().call(x, [ops.cumsum(states[0], axis=-1)])")
    assert "cumsum" in kernel.reason.lower() and f"own.py, line {line}" in kernel.reason
    with pytest.raises(InputError, match=r"train.kernel must be auto or keras here \(got 'native'\): model.layer is "):
        choose_kernel(cfg.with_values(config, {"train.kernel": "native"}), build_model(config))
    config = configure(f"{write(tmp_path, GOOD)}:Last")
    assert "it has no recurrent layer of Keras" in str(choose_kernel(config, build_model(config)).reason)


@needs_machine
@pytest.mark.parametrize(("layer", "noise"), [("GRU", 0.0), (LEM, 0.3)])
def test_a_step_on_the_kernel_is_that_of_stock_keras(layer: str, noise: float) -> None:
    """With noise, each of the four parts of a batch has recurrent weights of its own."""
    values = {"optimizer__name": "SGD", "optimizer__weight_decay": 0.1, "train__recurrent_noise": noise}
    config = configure(layer, optimizer__lr=1.0, train__seed=3, train__batch_size=9, train__threads=2, **values)
    random = np.random.RandomState(1)
    x, y = random.standard_normal((9, 784, 1)).astype(np.float32), random.randint(0, 10, 9)
    weights, start = [], build_model(config).get_weights()
    for kernel in (Kernel(None), Kernel(native.instruction_set())):
        model = build_model(config)
        trained = make_trainable(model, config, kernel)
        assert [part.native.threads for part in trained.drop_ins] == [2][: bool(kernel.isa)]
        trained.train_on_batch(x, y)
        weights.append(model.get_weights())
        logits = trained.predict(x, verbose=0)
        np.testing.assert_allclose(logits, model.predict(x, verbose=0), atol=2e-6)
    for first, stock, ours in zip(start, *weights, strict=True):
        step = np.abs(stock - first).max()
        assert step > 1e-3
        np.testing.assert_allclose(ours, stock, atol=2e-5 * step + 1e-7)


class Pair(keras.layers.Layer):
    """Two recurrent matrices of different scales; it keeps the values that each call saw."""

    def build(self, shape: Any) -> None:
        self.seen: list[np.ndarray] = []
        draw = [keras.initializers.RandomNormal(stddev=scale, seed=0) for scale in (0.02, 3.0)]
        self.recurrent_weights = [self.add_weight(shape=(100, 100), initializer=one) for one in draw]

    def call(self, x: Any) -> Any:
        if tf.executing_eagerly():
            self.seen.append(np.stack([np.asarray(weight.value) for weight in self.recurrent_weights]))
        return x[:, 0] + 0 * sum(keras.ops.sum(weight) for weight in self.recurrent_weights)


def test_relative_noise_is_a_multiple_of_each_matrixs_initial_deviation() -> None:
    drawn = []
    for seed in range(5):
        model = keras.Sequential([keras.Input((784, 1)), layer := Pair()])
        config = configure("LSTM", train__recurrent_noise_relative=0.5, train__seed=seed)
        trained = make_trainable(model, config, Kernel(None))
        for weight in layer.recurrent_weights:  # as a checkpoint does
            weight.assign(weight * 7)
        trained._noisy_logits(tf.zeros((8, 784, 1)))
        noise = np.stack(layer.seen) - np.stack(layer.recurrent_weights)
        assert noise.shape == (4, 2, 100, 100)
        np.testing.assert_allclose(noise.std(axis=(2, 3)), [[0.01, 1.5]] * 4, rtol=0.04)
        drawn.append((noise / [[[[0.01]], [[1.5]]]]).reshape(8, -1))  # of each part of a batch and each matrix
    each = np.concatenate(drawn)
    np.testing.assert_allclose(np.corrcoef(each), np.eye(40), atol=0.06)
