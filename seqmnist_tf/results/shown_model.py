"""The model that the pictures show, and its results on the test set."""

from __future__ import annotations

from functools import cached_property

import keras
import numpy as np
from scipy.special import softmax

from ..data import Split, in_batches, load_test
from ..train import load_final_model
from .board import Board, headline_record


class ShownModel:
    """The headline's model of the lowest seed. Images are read and the model is run when first needed.

    Attributes:
        record: its record.

    Raises:
        InputError: the record is not published.
    """

    def __init__(self, board: Board) -> None:
        self.record = headline_record(board)

    @cached_property
    def test(self) -> Split:
        """The test set."""
        return load_test(self.record.config, self.record.run.pixel_order())

    @cached_property
    def model(self) -> keras.Sequential:
        """The model, on stock Keras."""
        return load_final_model(self.record.run)

    @cached_property
    def logits(self) -> np.ndarray:
        """The model's logits for the test set, float32 (10000, 10)."""
        return self.model.predict(in_batches(self.test.sequences, self.record.config.test.batch_size), verbose=0)

    @property
    def probabilities(self) -> np.ndarray:
        """The model's probabilities for the test set, float64 (10000, 10)."""
        return softmax(self.logits.astype(np.float64), axis=-1)

    def probabilities_by_pixel(self, indices: np.ndarray) -> np.ndarray:
        """Return the probabilities after each pixel of some test images.

        Args:
            indices: int (n,), 0 to 9,999.

        Returns:
            float64 (n, 784, 10).
        """
        lstm, dense = self.model.layers
        states = keras.layers.RNN(lstm.cell, return_sequences=True)(self.test.sequences[indices])
        return softmax(keras.ops.convert_to_numpy(dense(states)).astype(np.float64), axis=-1)
