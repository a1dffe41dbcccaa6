"""Draws what the steps of a cell draw anew each time: zoneout, noise, ``keras.layers.Dropout``.

The machine draws nothing. All steps' numbers are drawn before the loop, in stock Keras's order, and enter the program
as further features.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from .tracing import Step


class Noise:
    """What one traced step draws, for any number of rows and steps.

    An operation of TensorFlow draws from a key, a counter and the name of an algorithm. The graph computes these from
    the states of the cell's seed generators, which are weights of the step; also their states after the step.
    """

    def __init__(self, step: Step) -> None:
        operations = [tensor.op for tensor in step.noise]
        self._widths = [int(tensor.shape[1]) for tensor in step.noise]
        self._draw = [getattr(tf.raw_ops, operation.type) for operation in operations]
        self._sources = [step.cut(step.weights, list(operation.inputs[1:])) for operation in operations]
        self._changed = list(step.seeds)
        self._new_seeds = step.cut(step.weights, list(step.seeds.values()))
        self._all_steps = tf.function(self._one_after_another, autograph=False)

    def beside(self, sequences: tf.Tensor, cell: keras.Layer) -> tf.Tensor:
        """Return float32 sequences (n, T, features) with what each step draws beside its features.

        The cell's seed generators have the states then that they have after T steps of stock Keras.
        """
        rows, steps = tf.unstack(tf.shape(sequences)[:2])
        weights = [tf.convert_to_tensor(variable) for variable in cell.variables]
        drawn, weights = self._all_steps(rows, steps, weights)
        for which in self._changed:
            cell.variables[which].assign(weights[which])
        # Without stop_gradient, TensorFlow would go back through all steps, to find that nothing has a gradient.
        return tf.concat([sequences, tf.stop_gradient(drawn)], axis=2)

    def _one_after_another(
        self, rows: tf.Tensor, steps: tf.Tensor, weights: list[tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        def one_step(step: tf.Tensor, weights: list[tf.Tensor], drawn: tf.TensorArray) -> tuple[object, ...]:
            return step + 1, self._after_a_step(weights), drawn.write(step, self._drawn(rows, weights))

        # Stock Keras computes the first step twice: the first time for its shapes alone.
        start = (0, self._after_a_step(weights), tf.TensorArray(tf.float32, steps))
        _, weights, drawn = tf.while_loop(lambda step, *_: step < steps, one_step, start)
        return tf.transpose(drawn.stack(), (1, 0, 2)), weights

    def _drawn(self, rows: tf.Tensor, weights: list[tf.Tensor]) -> tf.Tensor:
        """Return what a step draws, float32 (rows, width)."""
        parts = [tf.zeros((rows, 0))]
        for width, draw, sources in zip(self._widths, self._draw, self._sources, strict=True):
            key, counter, algorithm = sources(*weights)
            parts.append(draw(shape=[rows, width], key=key, counter=counter, alg=algorithm))
        return tf.concat(parts, axis=1)

    def _after_a_step(self, weights: list[tf.Tensor]) -> list[tf.Tensor]:
        """Return the weights with the seed generators' states after a step."""
        new = dict(zip(self._changed, self._new_seeds(*weights), strict=True))
        return [new.get(which, weight) for which, weight in enumerate(weights)]
