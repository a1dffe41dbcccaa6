"""One run: training, its run directory, its metrics and its summary.

Read ``run_directory`` (the files), ``training`` (from configuration to finished run), ``callbacks`` (what happens after
a batch and an epoch), ``metrics``, ``summary``; then ``overview``, ``figures``, ``terminal``, ``wandb_run`` and
``command_line``. It knows one run: seeds, arms and searches are above it.
"""

from typing import TYPE_CHECKING

from ..system import lazy_names

if TYPE_CHECKING:
    from .command_line import parse_train_arguments, train_command
    from .figures import draw_counts, new_figure, write_figure
    from .metrics import Metrics, evaluate_model, evaluate_run, load_final_model, score, weight_problem, wilson_interval
    from .overview import write_overview, write_predictions
    from .run_directory import PACKED_STEPS_FILE, PREDICTIONS_FILE, RunDirectory, load_run, lock_folder
    from .summary import MAX_FLIPS, Predictions, log_problems, losses_agree, summarize
    from .terminal import AT_CHANCE, note_above_bar
    from .training import require_trainable, resume, train
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__, without_tensorflow=("command_line", "run_directory", "summary")
    )
