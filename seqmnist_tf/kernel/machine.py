"""Runs the program of a cell's step over sequences, in TensorFlow's graphs."""

from __future__ import annotations

import keras
import tensorflow as tf

from .translation import StepProgram, Untranslatable


def rnn_outputs(
    program: StepProgram, cell: keras.Layer, sequences: tf.Tensor, *, all_steps: bool, threads: int, training: bool
) -> tf.Tensor:
    """Return the outputs of a cell, float32 (n, units) of the last step or, of all steps, (n, steps, units).

    Differentiable once with respect to the sequences and the cell's weights.

    Args:
        program: what ``translate`` returned for the cell.
        sequences: float32 (n, steps, features).
        all_steps: whether to return the outputs of all steps.
        threads: CPU threads; 0 is all cores. The result does not depend on it, to the last bit.
        training: keep what the backward pass reads. If false, a gradient computes the forward pass again.
    """
    raise Untranslatable(f"{cell.name}: there is no machine yet")
