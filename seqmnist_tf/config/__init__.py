"""The experiment as a value: sections of keys, presets, JSON, validation, and command-line flags.

Read ``option`` (one key), ``sections`` (all keys), ``values`` (JSON, validation), ``presets``, then ``layer``,
``identity`` (``config_id``) and ``flags``. It knows neither data nor TensorFlow.
"""

from .flags import Arguments, add_config_arguments, parse_arguments, read_flags
from .identity import config_id, contradictions, differences, is_trial, of_the_experiment, permutation_sha256
from .layer import (
    LAYER_FILE,
    LayerFile,
    arguments_text,
    constants_text,
    has_stock_layer,
    layer_file,
    layer_name,
    num_params,
    read_layer,
)
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
    flatten,
    flatten_sections,
    read_config,
    read_values,
    validate,
    value_text,
    with_values,
)
