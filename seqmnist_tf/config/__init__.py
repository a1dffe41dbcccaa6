"""The experiment as a value: sections of keys, presets, JSON, validation, and command-line flags."""

from .experiment import (
    LAYER_FILE,
    LayerFile,
    arguments_text,
    config_id,
    constants_text,
    has_stock_layer,
    is_trial,
    layer_file,
    num_params,
    of_the_experiment,
    permutation_sha256,
    read_layer,
)
from .flags import Arguments, add_config_arguments, parse_arguments, read_flags
from .presets import PRESETS, Preset, preset
from .sections import (
    LAYER,
    NOISY_PARTS,
    NUM_CLASSES,
    NUM_TEST,
    NUM_TIMESTEPS,
    NUM_TRAIN,
    OPTIONS,
    SECTIONS,
    STOCK_LAYERS,
    Config,
    Data,
    Model,
    Optimizer,
    Task,
    Train,
    find_option,
)
from .values import (
    KEYS_OF_LAYERS,
    config_to_dict,
    config_to_json,
    contradictions,
    differences,
    flatten,
    flatten_sections,
    read_config,
    read_values,
    validate,
    value_text,
    with_values,
)
