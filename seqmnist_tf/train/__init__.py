"""One run: training, its run directory, its metrics and its summary.

The room can be called: ``seqmnist_tf.train(config, path)`` is :func:`train`.
"""

from ..system import call_room, open_door

__getattr__, __dir__, __all__ = open_door(
    __name__,
    __file__,
    light=(
        "LOSS_AGREES",
        "MAX_FLIPS",
        "PACKED_STEPS_FILE",
        "PREDICTIONS_FILE",
        "TRAIN_COMMAND",
        "Predictions",
        "RunDirectory",
        "load_run",
        "lock_folder",
        "log_problems",
        "parse_train_arguments",
        "summarize",
        "train_command",
    ),
)
call_room(__name__, "train")
