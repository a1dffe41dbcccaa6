"""An LSTM classifier in NumPy float64, forward and backward, written from the equations and from nothing else.

    i, f, o = sigmoid(.), g = tanh(.) of x W + h U + b;  c' = f c + i g;  h' = o tanh(c');  logits = h_T V + d

(Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000; gates in the order i, f, g, o.)
"""

from __future__ import annotations

import numpy as np

Arrays = list[np.ndarray]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def forward(weights: Arrays, x: np.ndarray) -> tuple[np.ndarray, list[Arrays]]:
    """Return logits (n, 10) of sequences (n, T, 1) and what the backward pass needs of each step."""
    W, U, b, V, d = (w.astype(np.float64) for w in weights)
    h = c = np.zeros((len(x), len(U)))
    steps = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ W + h @ U + b, 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        c_next = f * c + i * g
        steps.append([i, f, g, o, c, c_next, h])
        c, h = c_next, o * np.tanh(c_next)
    return h @ V + d, [*steps, [h]]


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the mean cross-entropy and its gradient with respect to the logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -np.log(p[rows, labels]).mean()
    p[rows, labels] -= 1
    return float(loss), p / len(labels)


def loss_and_gradients(weights: Arrays, x: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays]:
    """Return the loss and its gradients with respect to W, U, b, V, d."""
    W, U, b, V = weights[:4]
    logits, steps = forward(weights, x)
    loss, dlogits = cross_entropy(logits, labels)
    (h_last,) = steps.pop()
    _, *gradients = backward([W, U, b], x, steps, dlogits @ V.T)
    return loss, [*gradients, h_last.T @ dlogits, dlogits.sum(axis=0)]


def backward(weights: Arrays, x: np.ndarray, steps: list[Arrays], dh: np.ndarray) -> Arrays:
    """Return the gradients of x, W, U, b from that of the last hidden state, (n, units)."""
    W, U, b = (w.astype(np.float64) for w in weights)
    dx, dW, dU, db = np.zeros(x.shape), np.zeros_like(W), np.zeros_like(U), np.zeros_like(b)
    dc: np.ndarray | float = 0.0
    for t in reversed(range(x.shape[1])):
        i, f, g, o, c, c_next, h = steps[t]
        tanh_c = np.tanh(c_next)
        dc = dc + dh * o * (1 - tanh_c**2)
        dz = np.concatenate(
            [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g**2), dh * tanh_c * o * (1 - o)], axis=1
        )
        dW += x[:, t].T @ dz
        dU += h.T @ dz
        db += dz.sum(axis=0)
        dx[:, t] = dz @ W.T
        dh, dc = dz @ U.T, dc * f
    return [dx, dW, dU, db]
