"""One run: training, its run directory, its metrics and its summary.

The room can be called: ``seqmnist_tf.train(config, path)`` is :func:`train`.
"""

from ..system import call_room, open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__, light=("command_line", "run_directory", "summary"))
call_room(__name__, "train")
