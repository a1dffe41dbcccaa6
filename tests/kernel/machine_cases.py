"""Writes programs of cells and what TensorFlow computes for them, for the kernel's own test in C++."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from seqmnist_tf.kernel.tracing import trace
from seqmnist_tf.kernel.translation import by_the_graph, program_of

STEPS = 9


class ManyOperationsCell(keras.layers.Layer):
    """A cell with every operation of the machine, and an output that is no state."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = self.state_size = units
        self.output_size = 2 * units

    def build(self, input_shape: Any) -> None:
        u = self.units
        self.kernel = self.add_weight(shape=(input_shape[-1], u), initializer="glorot_uniform", name="kernel")
        self.recurrent = self.add_weight(shape=(u, u), initializer="orthogonal", name="recurrent")
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.out = self.add_weight(shape=(u, 2 * u), initializer="glorot_uniform", name="out")

    def call(self, inputs: Any, states: Any) -> Any:
        z = ops.matmul(inputs, self.kernel) + ops.matmul(states[0], self.recurrent)
        smooth = ops.softplus(z) * self.scale + ops.log1p(z * z) + ops.erf(z) + ops.sin(z) * ops.cos(z)
        bent = ops.where(z > 0.1, ops.relu(z), ops.abs(z) * ops.exp(-ops.square(z))) + ops.elu(z)
        row = ops.mean(z, axis=-1, keepdims=True) + ops.max(z, axis=-1, keepdims=True) * ops.min(
            z, axis=-1, keepdims=True
        )
        steps = 0.1 * ops.floor(z) + 0.1 * ops.round(z) + 0.1 * ops.cast(ops.greater_equal(z, 0.3), "float32")
        roots = ops.sqrt(1 + z * z) + ops.power(ops.sigmoid(z), 1.7) + ops.log(2 + ops.tanh(z)) + ops.arctan(z)
        mixed = ops.maximum(smooth, bent) - ops.minimum(roots, 1.3) / (1 + ops.square(row)) + steps
        h = ops.tanh(0.3 * mixed + ops.flip(z, axis=-1)) + 0 * ops.cast(ops.equal(z, 0.5), "float32")
        return ops.matmul(h, self.out), [h]


def cells() -> list[tuple[keras.layers.Layer, int]]:
    """Return cells and numbers of features: few units and many, in one piece and in several."""
    layers = keras.layers
    stack = layers.StackedRNNCells([layers.GRUCell(24), layers.LSTMCell(13)])
    return [
        (layers.SimpleRNNCell(3), 1),
        (layers.GRUCell(37), 1),
        (layers.GRUCell(20, reset_after=False), 17),
        (layers.LSTMCell(48), 3),
        (stack, 2),
        (ManyOperationsCell(21), 2),
    ]


def write_cases(path: Path) -> int:
    """Write all cases, with states of their own and as zeros, and return how many there are."""
    keras.utils.set_random_seed(0)
    random = np.random.RandomState(0)
    count = 0
    with path.open("wb") as file:
        for cell, features in cells():
            cell.build((None, features))
            weights = [np.asarray(weight) for weight in cell.variables]
            rows = 29
            step = trace(cell, features, rows, training=True)
            program = program_of(step, {})
            parameters = np.concatenate([*map(np.ravel, program.weights_to_parameters(*weights))])
            for initial in (False, True):
                x = random.standard_normal((STEPS, rows, features)).astype(np.float32)
                x[:3] = x[:3, :1]  # all rows begin with the same steps
                states = [0.5 * initial * random.standard_normal((rows, n)) for n in program.states]
                states = [state.astype(np.float32) for state in states]
                upstream = random.standard_normal((STEPS, rows, program.units)).astype(np.float32)
                outputs, wrt_x, *rest = by_the_graph(step, program, weights, x, states, upstream)
                wrt_states, wrt_parameters = rest[: len(states)], np.concatenate([*map(np.ravel, rest[len(states) :])])
                missing = parameters.size - wrt_parameters.size
                sizes = [program.numbers.size, program.constants.size, rows, STEPS, features, program.units]
                sizes += [sum(program.states), parameters.size, program.kept, 1, int(initial)]
                np.array(sizes, np.int64).tofile(file)
                program.numbers.tofile(file)
                by_row = [np.ascontiguousarray(a.transpose(1, 0, 2)) for a in (x, upstream, outputs, wrt_x)]
                arrays = [program.constants, by_row[0], parameters, np.concatenate(states, axis=1), *by_row[1:]]
                arrays += [wrt_parameters, np.zeros(missing), np.concatenate(wrt_states, axis=1)]
                for array in arrays:
                    np.asarray(array, np.float32).tofile(file)
                count += 1
    return count
