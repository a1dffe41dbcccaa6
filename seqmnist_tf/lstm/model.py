"""The model of a configuration: a Keras Sequential of an LSTM and a dense layer, with its initial weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from ..config import NUM_TIMESTEPS, Config


def build_model(config: Config) -> keras.Sequential:
    """Build the LSTM of a configuration: sequences float32 (n, 784, 1) to logits float32 (n, 10).

    A plain ``keras.Sequential`` of stock layers. Keras's global random seed is set to ``train.seed`` first, so that the
    initial weights depend on the configuration alone and equal those of plain Keras code with that seed.
    """
    keras.utils.set_random_seed(config.train.seed)
    units = config.model.hidden_size
    recipe: dict[str, Any] = {}
    dense: dict[str, Any] = {}
    if config.model.initializer == "torch":
        # torch.nn.LSTM and torch.nn.Linear: U(-k, k) with k = 1/sqrt(units) for every parameter.
        uniform = [keras.initializers.RandomUniform(-(units**-0.5), units**-0.5) for _ in range(4)]
        recipe = {"kernel_initializer": uniform[0], "recurrent_initializer": uniform[1], "unit_forget_bias": False}
        dense = {"kernel_initializer": uniform[2], "bias_initializer": uniform[3]}
    model = keras.Sequential(
        [
            keras.Input((NUM_TIMESTEPS, config.model.input_size)),
            keras.layers.LSTM(units, name="lstm", **recipe),
            keras.layers.Dense(config.model.output_size, name="logits", **dense),
        ]
    )
    bias = model.get_layer("lstm").cell.bias
    bias.assign(initial_bias(config, keras.ops.convert_to_numpy(bias)))
    return model


def initial_bias(config: Config, bias: np.ndarray) -> np.ndarray:
    """Return the LSTM's initial bias float32 (4 * units,), in the order of its gates: input, forget, candidate, output.

    Args:
        config: ``model.initializer``, ``model.forget_bias`` and ``train.seed`` are used.
        bias: Keras's own initial bias, returned where the configuration does not change it.
    """
    units = config.model.hidden_size
    random = np.random.RandomState(config.train.seed)
    if config.model.initializer == "torch":
        # PyTorch adds two bias vectors, each from U(-k, k); Keras has one, here their sum.
        bias = random.uniform(-(units**-0.5), units**-0.5, (2, 4 * units)).sum(axis=0)
    bias = bias.astype(np.float32)
    if config.model.forget_bias == "chrono":
        # Tallec & Ollivier 2018, section 3: b_f = log U(1, T - 1), b_i = -b_f.
        forget = np.log(random.uniform(1, NUM_TIMESTEPS - 1, units))
        bias[:units], bias[units : 2 * units] = -forget, forget
    elif config.model.forget_bias is not None:
        bias[units : 2 * units] = config.model.forget_bias
    return bias


def architecture_problems(model: keras.Model, config: Config) -> list[str]:
    """Return how a model differs from the model of a configuration, weights left out.

    The classes of its layers must be exactly the same: a subclass may compute anything.
    """
    expected = build_model(config)
    if type(model) is not keras.Sequential:
        return [f"it must be a keras.Sequential (got {type(model).__name__})"]
    classes = [[f"{type(layer).__module__}.{type(layer).__name__}" for layer in m.layers] for m in (model, expected)]
    if classes[0] != classes[1]:
        return [f"its layers must be {', '.join(classes[1])} (got {', '.join(classes[0]) or 'none'})"]
    if model.input_shape != expected.input_shape:
        return [f"its input must have the shape {expected.input_shape} (got {model.input_shape})"]
    problems = []
    for layer, reference in zip(model.layers, expected.layers, strict=True):
        for key, value in reference.get_config().items():
            if layer.get_config().get(key) != value:
                problems.append(
                    f"{key} of its layer {reference.name} must be {value} (got {layer.get_config().get(key)})"
                )
    if model.count_params() != expected.count_params():
        problems.append(f"it must have {expected.count_params():,} parameters (got {model.count_params():,})")
    return problems
