"""``optimizer.nonfinite skip``: norms that do not overflow, and steps that are left out."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from seqmnist_tf.kernel import native
from seqmnist_tf.model import Kernel, build_model, build_optimizer, make_trainable
from seqmnist_tf.model.optimizer import apply_if_finite
from tests.kernel.test_native import isas
from tests.model.test_model import configure, toy_batch

ADAM = {"optimizer__name": "Adam", "optimizer__lr": 0.01, "optimizer__weight_decay": 0.1}


@pytest.mark.parametrize(
    "values",
    [
        {**ADAM, "optimizer__grad_clip_norm": 0.05, "optimizer__ema_momentum": 0.9},
        {"optimizer__grad_clip_value": 0.01, "train__recurrent_noise": 0.1},
    ],
)
def test_finite_steps_have_the_bits_of_kerass_clipping(values: dict[str, Any]) -> None:
    x, y = toy_batch(8)
    trained = []
    for nonfinite in ("stop", "skip"):
        config = configure(**values, optimizer__nonfinite=nonfinite)
        model = make_trainable(build_model(config), config, Kernel(native.instruction_set() if isas() else None))
        norms = [model.train_on_batch(scale * x, y, return_dict=True)["gradient_norm"] for scale in (1, 9, 90, 900)]
        trained.append([*model.get_weights(), *(v.numpy() for v in model.optimizer.variables), np.array(norms)])
    (*stop, norms), (*skip, their_norms) = trained
    assert all(np.array_equal(a, b) for a, b in zip(stop, skip, strict=True))
    np.testing.assert_allclose(their_norms, norms, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-3, 1e18, 1e20, 1e30, 1e38])
def test_a_norm_whose_squares_overflow_clips_as_in_float64(size: float) -> None:
    config = configure(
        optimizer__name="SGD", optimizer__lr=1.0, optimizer__grad_clip_norm=0.5, optimizer__nonfinite="skip"
    )
    gradients = [size * np.random.RandomState(n).uniform(-1, 1, (n, 3)).astype(np.float32) for n in (4, 70)]
    variables = [keras.Variable(np.zeros_like(gradient)) for gradient in gradients]
    norm = apply_if_finite(build_optimizer(config), [*map(tf.constant, gradients)], variables, 0.5)
    exact = np.sqrt(sum((gradient.astype(np.float64) ** 2).sum() for gradient in gradients))
    assert float(norm) == (pytest.approx(exact, rel=1e-6) if exact < 3.4e38 else np.inf)
    for variable, gradient in zip(variables, gradients, strict=True):
        np.testing.assert_allclose(variable, -gradient * min(1, 0.5 / exact), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("first", [0, 2])
def test_a_step_with_a_gradient_that_is_not_finite_changes_nothing(bad: float, first: int) -> None:
    config = configure(**ADAM, optimizer__grad_clip_norm=1.0, optimizer__ema_momentum=0.9, optimizer__nonfinite="skip")
    model = make_trainable(build_model(config), config, Kernel(None))
    variables, optimizer = model.trainable_variables, model.optimizer
    step = tf.function(lambda gradients: apply_if_finite(optimizer, gradients, variables, 1.0), autograph=False)
    random = np.random.RandomState(0)
    gradients = [tf.constant(random.standard_normal(v.shape), tf.float32) for v in variables]
    for _ in range(first):
        step(gradients)
    before = [v.numpy() for v in [*variables, *optimizer.variables[2:]]]  # without iterations and learning rate
    spoilt = [tf.tensor_scatter_nd_update(gradients[0], [[0, 1]], [bad]), *gradients[1:]]
    assert np.isnan(step(spoilt))
    assert int(optimizer.iterations) == first + 1
    for variable, value in zip([*variables, *optimizer.variables[2:]], before, strict=True):
        assert variable.numpy().tobytes() == value.tobytes(), variable.path
    assert np.isfinite(step(gradients)) and not np.array_equal(variables[0], before[0])
    for average, weight in zip(optimizer._model_variables_moving_average, before, strict=False):
        np.testing.assert_allclose(average, weight, atol=0.05)  # it began as the weights, not as zeros
