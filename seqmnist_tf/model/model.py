"""The model of a configuration: a Keras Sequential of a recurrent and a dense layer, with its initial weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from ..config import NUM_TIMESTEPS, Config, LayerFile
from ..system import InputError
from .layers import make_layer


def build_model(config: Config, file: LayerFile | None = None) -> keras.Sequential:
    """Build the model of a configuration: sequences float32 (n, 784, 1) to logits float32 (n, 10).

    A plain ``keras.Sequential`` of stock layers, or of a custom layer (from ``file``, else from where the configuration
    says) and a dense layer. Keras's global random seed is set to ``train.seed`` first, so that the initial weights
    depend on the configuration alone and equal those of plain Keras code with that seed.
    """
    if (policy := keras.config.dtype_policy().name) != "float32":
        raise InputError(f"Keras must compute in float32 (got {policy}: see keras.config.set_dtype_policy)")
    keras.utils.set_random_seed(config.train.seed)
    units = config.model.hidden_size
    recipe: dict[str, Any] = {}
    dense: dict[str, Any] = {}
    if config.model.initializer == "torch":
        # torch.nn.LSTM and torch.nn.Linear: U(-k, k) with k = 1/sqrt(units) for every parameter.
        uniform = [keras.initializers.RandomUniform(-(units**-0.5), units**-0.5) for _ in range(4)]
        recipe = {"kernel_initializer": uniform[0], "recurrent_initializer": uniform[1], "unit_forget_bias": False}
        dense = {"kernel_initializer": uniform[2], "bias_initializer": uniform[3]}
    inputs, is_lstm = keras.Input((NUM_TIMESTEPS, config.model.input_size)), config.model.layer == "LSTM"
    layer = keras.layers.LSTM(units, name="lstm", **recipe) if is_lstm else make_layer(config, file)
    logits = keras.layers.Dense(config.model.output_size, name="logits", **dense)
    model = keras.Sequential([inputs, layer, logits])
    if config.model.layer in ("LSTM", "GRU"):
        _set_initial_bias(config, layer.cell.bias)
    return model


def _set_initial_bias(config: Config, variable: keras.Variable) -> None:
    """Set the bias of an LSTM or a GRU to what the configuration says, if it says anything.

    An LSTM's is (4 * units,), in the order of its gates: input, forget, candidate, output. A GRU's is (2, 3 * units),
    biases of input and of state: update, reset, candidate. Its update gate z has the part of the forget gate, for
    h' = z h + (1 - z) candidate. ``chrono`` follows Tallec & Ollivier 2018, section 3, for T = 784; for a GRU it is
    their rule applied to z.
    """
    units, bias = config.model.hidden_size, keras.ops.convert_to_numpy(variable)
    drawn = np.random.RandomState(config.train.seed)
    if config.model.initializer == "torch":
        # PyTorch adds two bias vectors, each from U(-k, k); Keras has one, here their sum.
        bias = drawn.uniform(-(units**-0.5), units**-0.5, (2, 4 * units)).sum(axis=0)
    bias = bias.astype(np.float32)
    is_gru, forget = config.model.layer == "GRU", config.model.forget_bias
    gate = bias[0, :units] if is_gru else bias[units : 2 * units]  # a view
    if forget == "chrono":
        # b_f = log U(1, T - 1), b_i = -b_f
        gate[:] = np.log(drawn.uniform(1, NUM_TIMESTEPS - 1, units))
        if not is_gru:
            bias[:units] = -gate
    elif forget is not None:
        gate[:] = forget
    variable.assign(bias)
