"""The model of a configuration, and how it is trained: layer, optimizer, kernel, step.

Read ``layers`` (the model), ``layer_check``, ``optimizer``, ``kernel_choice``, ``noise``, ``training_step``, then
``timing`` (how long a step takes here). It knows no data, no files of a run and no epochs.
"""

from typing import TYPE_CHECKING

from ..system import lazy_names

if TYPE_CHECKING:
    from .kernel_choice import Kernel, choose_kernel
    from .layer_check import check_layer
    from .layers import LayerError, build_model, match_units
    from .noise import recurrent_weights
    from .optimizer import build_optimizer, compile_model, learning_rate, learning_rates, swap_averages
    from .timing import Images, Pace, Timed, TimedModel, TimingProcess, measure_pace, serve_requests
    from .training_step import MeasuredSequential, make_trainable
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__)
