"""The preset ``original`` beside PyTorch's arithmetic in NumPy: two bias vectors, and RMSprop's epsilon outside."""

from __future__ import annotations

import numpy as np
import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.model import Kernel, build_model, make_trainable
from tests.model.numpy_lstm import loss_and_gradients

STEPS, BATCH = 10, 8


def torch_losses(weights: list[np.ndarray], x: np.ndarray, labels: np.ndarray) -> list[float]:
    """Train as ``torch.optim.RMSprop(lr=0.001)`` does: v = 0.99 v + 0.01 g^2, p -= 0.001 g / (sqrt(v) + 1e-8).

    PyTorch's LSTM adds two bias vectors, which have the same gradient; each begins with half of the sum here.
    """
    kernel, recurrent, bias, dense, dense_bias = (array.astype(np.float64) for array in weights)
    parameters = [kernel, recurrent, bias / 2, bias / 2, dense, dense_bias]
    squares = [np.zeros_like(parameter) for parameter in parameters]
    losses = []
    for step in range(STEPS):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        joined = [*parameters[:2], parameters[2] + parameters[3], *parameters[4:]]
        loss, (dk, dr, db, dd, dc) = loss_and_gradients(joined, x[rows], labels[rows])
        for parameter, square, gradient in zip(parameters, squares, (dk, dr, db, db, dd, dc), strict=True):
            clipped = np.clip(gradient, -1, 1)
            square[:] = 0.99 * square + 0.01 * clipped**2
            parameter -= 0.001 * clipped / (np.sqrt(square) + 1e-8)
        losses.append(loss)
    return losses


@pytest.mark.parametrize(("rate", "agrees"), [(2.0, True), (1.0, False)])
def test_the_original_is_trained_as_pytorch_trains_it(rate: float, agrees: bool) -> None:
    config = cfg.with_values(cfg.preset("original"), {"model.hidden_size": 16, "optimizer.bias_rate": rate})
    random = np.random.RandomState(0)
    x = random.standard_normal((STEPS * BATCH, 784, 1)).astype(np.float32)
    labels = random.randint(0, 10, STEPS * BATCH)
    stock = build_model(config)
    expected = torch_losses([np.array(array) for array in stock.get_weights()], x, labels)
    trained = make_trainable(stock, config, Kernel(None))
    rows = [slice(step * BATCH, (step + 1) * BATCH) for step in range(STEPS)]
    losses = [float(trained.train_on_batch(x[r], labels[r], return_dict=True)["loss"]) for r in rows]
    assert np.allclose(losses, expected, rtol=0, atol=1e-4) is agrees, np.abs(np.subtract(losses, expected))
