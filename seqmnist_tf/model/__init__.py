"""The model: built from a configuration, its optimizer, the kernel that computes it, and the step that is measured."""

from typing import TYPE_CHECKING

from ..system import open_door

if TYPE_CHECKING:
    from .kernel_choice import Kernel, choose_kernel
    from .layer_check import check_layer
    from .layers import LayerError, build_model, match_units
    from .noise import recurrent_weights
    from .optimizer import build_optimizer, compile_model, learning_rate, swap_averages
    from .timing import Images, ModelProcess, Pace, Timed, measure_pace, serve_requests
    from .training_step import MeasuredSequential, make_trainable
else:
    __getattr__, __dir__, __all__ = open_door(__name__)
