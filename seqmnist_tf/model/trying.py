"""A training step of a layer before hours are spent on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from ..config import NOISY_PARTS, NUM_TIMESTEPS, Config, has_stock_layer
from .kernel import choose_kernel
from .layers import LayerError, check_layer, describe_error
from .model import build_model
from .optimizer import make_trainable


def try_layer(config: Config, file: Path | None = None) -> None:
    """Raise InputError where the layer of a configuration, or the kernel that it asks for, cannot be used here.

    A layer of one's own is also trained for a step on eight sequences, with the recipe's noise and optimizer.

    Arguments as :func:`check_layer`.
    """
    check_layer(config, file)
    model = build_model(config, file)
    kernel = choose_kernel(config, model)
    if has_stock_layer(config):
        return
    random = np.random.RandomState(0)
    sequences = random.standard_normal((2 * NOISY_PARTS, NUM_TIMESTEPS, 1)).astype(np.float32)
    labels = np.arange(2 * NOISY_PARTS)
    batch = tf.data.Dataset.from_tensor_slices((sequences, labels)).batch(2 * NOISY_PARTS)
    try:
        make_trainable(model, config, kernel).fit(batch, shuffle=False, verbose=0)
    except (Exception, SystemExit) as error:
        raise LayerError(f"model.layer {config.model.layer}: in fit it raised {describe_error(error)}") from None
