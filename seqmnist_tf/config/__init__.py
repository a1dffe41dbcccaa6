"""The experiment as a value: sections of keys, presets, JSON, validation, and command-line flags.

Standard library only.
"""

from .flags import Arguments, add_config_arguments, parse_arguments
from .option import Option
from .presets import PRESETS, Preset, preset
from .sections import (
    NOISY_PARTS,
    NUM_CLASSES,
    NUM_TEST,
    NUM_TIMESTEPS,
    NUM_TRAIN,
    OPTIONS,
    SECTIONS,
    Config,
    Data,
    Model,
    Optimizer,
    Task,
    Train,
)
from .values import (
    check_permutation,
    config_id,
    config_to_dict,
    config_to_json,
    contradictions,
    flatten,
    flatten_sections,
    layer_file,
    num_params,
    of_the_experiment,
    read_config,
    read_values,
    validate,
    value_text,
    with_values,
)

__all__ = [
    "NOISY_PARTS",
    "NUM_CLASSES",
    "NUM_TEST",
    "NUM_TIMESTEPS",
    "NUM_TRAIN",
    "OPTIONS",
    "PRESETS",
    "SECTIONS",
    "Arguments",
    "Config",
    "Data",
    "Model",
    "Optimizer",
    "Option",
    "Preset",
    "Task",
    "Train",
    "add_config_arguments",
    "check_permutation",
    "config_id",
    "config_to_dict",
    "config_to_json",
    "contradictions",
    "flatten",
    "flatten_sections",
    "layer_file",
    "num_params",
    "of_the_experiment",
    "parse_arguments",
    "preset",
    "read_config",
    "read_values",
    "validate",
    "value_text",
    "with_values",
]
