"""What a configuration is as an experiment: its id, its layer, its parameters, and whether its runs can be published.

Standard library only.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from .layer_file import LayerFile, has_stock_layer, layer_file, read_layer, read_source
from .sections import NUM_TEST, NUM_TRAIN, OPTIONS, Config
from .values import flatten, value_text, with_values

SECTIONS_APART = ("data", "wandb", "tensorboard")  # where images come from and metrics go
KEYS_APART = ("train.seed", "train.threads", "train.kernel")
OWN_KEYS = {  # of section optimizer, that not every optimizer uses
    "RMSProp": ("rho", "epsilon", "epsilon_placement", "bias_rate", "momentum"),
    "SGD": ("momentum",),
    "Adam": ("beta_1", "beta_2", "epsilon"),
}


def constants_text(config: Config) -> str:
    """Return ``model.layer_options`` as arguments, with six digits; empty where there are none.

    Example:
        >>> constants_text(with_values(Config(), {"model.layer_options": {"dt": 0.2123456, "mode": "a", "on": True}}))
        'dt=0.212346, mode=a, on=true'
    """
    constants = config.model.layer_options
    texts = {name: f"{x:g}" if isinstance(x, float) else value_text(x) for name, x in constants.items()}
    return ", ".join(f"{name}={text}" for name, text in texts.items())


def arguments_text(config: Config) -> str:
    """Return the layer's units and constants, such as ``128, dt=0.21``."""
    return ", ".join(filter(None, [str(config.model.hidden_size), constants_text(config)]))


def is_trial(config: Config) -> bool:
    """Return whether runs of a configuration are trials: scored on held-out training images, without the test set.

    Example:
        >>> from seqmnist_tf.config import with_values
        >>> held_out = with_values(Config(), {"task.validation_size": 10000})
        >>> is_trial(held_out), is_trial(with_values(held_out, {"test.enabled": False}))
        (False, True)
    """
    return config.task.validation_size > 0 and not config.test.enabled


def publication_problems(config: Config) -> list[str]:
    """Return the values of a configuration that keep its runs from being published, as records or as trials."""
    layer, limit = config.model.layer, config.task.limit_train
    reasons = {
        f"it must be trained on all images that are not held out (task.limit_train 0, got {limit:,})": (
            not is_trial(config) and 0 < limit < NUM_TRAIN - config.task.validation_size
        ),
        "its pixel order must be reproducible (task.permutation seed:N, not file:PATH)": (
            config.task.permutation.startswith("file:")
        ),
        f"it must be tested on all {NUM_TEST:,} images (test.enabled true, task.limit_test 0), or be a trial "
        "(test.enabled false, task.validation_size above 0)": not (
            is_trial(config) or (config.test.enabled and config.num_test == NUM_TEST)
        ),
        f"its layer must be a stock layer or come from a file (got {layer})": (
            not has_stock_layer(config) and layer_file(config) is None
        ),
    }
    return [reason for reason, is_so in reasons.items() if is_so]


def of_the_experiment(key: str) -> bool:
    """Return whether a key counts in ``config_id``: not the seed, nor what says where and on what a run is computed.

    Example:
        >>> of_the_experiment("optimizer.lr"), of_the_experiment("train.threads"), of_the_experiment("wandb.mode")
        (True, False, False)
    """
    return key not in KEYS_APART and key.split(".")[0] not in SECTIONS_APART


def config_id(config: Config, layer: LayerFile | None = None, *, order_sha256: str | None = None) -> str:
    """Return the id of an experiment: 12 hexadecimal digits, equal for equal experiments.

    The id is a SHA-256 of the values that differ from their defaults, so that a key which is added later changes no
    id. Seed, threads, kernel, data, wandb and tensorboard are left out. For a pixel order or a layer from a file, the
    file's content counts, not its path; so does that of the modules of its own that a layer's file imports.

    Args:
        config: the experiment.
        layer: the layer's file; None reads it.
        order_sha256: the hash of the pixel order's file; None reads it.

    Raises:
        InputError: a file that the configuration names cannot be read.
    """
    values = {
        key: value for key, value in flatten(config).items() if value != OPTIONS[key].default and of_the_experiment(key)
    }
    if config.task.permutation.startswith("file:"):
        values["task.permutation"] = f"file:{order_sha256 or permutation_sha256(config)}"
    if layer_file(config) and (file := layer or read_layer(config)):
        values["model.layer"] = f"{hashlib.sha256(file.content).hexdigest()}:{config.model.layer.rpartition(':')[2]}"
    if constants := config.model.layer_options:
        whole = {name: int(value) for name, value in constants.items() if isinstance(value, float) and value % 1 == 0}
        values["model.layer_options"] = {**constants, **whole}  # 1.0 and 1 are one experiment
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def effective(config: Config) -> Config:
    """Return a configuration of the same experiment, in which what changes nothing has its default or usual form.

    These are the keys of another optimizer, limits at or above all images, the batches of evaluations, an LSTM's own
    forget bias, how the units were chosen, and other spellings of a pixel order. :func:`config_id` tells such
    configurations apart.

    Args:
        config: the experiment, with its final units.

    Example:
        >>> config = with_values(Config(), {"optimizer.name": "SGD", "optimizer.rho": 0.5})
        >>> effective(config).optimizer.rho
        0.9
    """
    own = OWN_KEYS[config.optimizer.name]
    idle = {f"optimizer.{key}" for keys in OWN_KEYS.values() for key in keys if key not in own}
    idle |= {"test.batch_size", "model.match_parameters"}
    if config.task.limit_train >= NUM_TRAIN - config.task.validation_size:
        idle.add("task.limit_train")
    if config.task.limit_test == NUM_TEST:
        idle.add("task.limit_test")
    if config.model.layer == "LSTM" and config.model.initializer == "keras" and config.model.forget_bias == 1:
        idle.add("model.forget_bias")
    values = {key: OPTIONS[key].default for key in idle}
    if config.task.permutation.startswith("seed:"):
        seed = int(config.task.permutation.removeprefix("seed:"))
        values["task.permutation"] = "urnn92916" if seed == 92916 else f"seed:{seed}"
    return with_values(config, values)


def permutation_sha256(config: Config) -> str | None:
    """Return the hash of the file of ``task.permutation``, or None where the pixel order is not from a file.

    Raises:
        InputError: the file cannot be read.
    """
    if not config.task.permutation.startswith("file:"):
        return None
    return hashlib.sha256(read_source("task.permutation", Path(config.task.permutation[5:])).content).hexdigest()


def num_params(config: Config) -> int | None:
    """Return the number of parameters of the model, or None for a layer that is not a stock one.

    An LSTM over one feature has four gates with a kernel, a recurrent kernel and one bias vector; Keras's GRU has three
    gates and two bias vectors, its SimpleRNN one gate. The dense layer follows.

    Example:
        >>> num_params(Config())
        67850
    """
    gates, biases = {"LSTM": (4, 1), "GRU": (3, 2), "SimpleRNN": (1, 1)}.get(config.model.layer, (None, None))
    if gates is None or biases is None:
        return None
    units, classes = config.model.hidden_size, config.model.output_size
    return gates * units * (config.model.input_size + units + biases) + units * classes + classes
