"""Several runs: layers and configurations side by side over seeds, with tests, a report and pictures.

The room can be called: ``seqmnist_tf.compare(["strong", MyLayer], seeds=range(6))`` is :func:`compare`.
"""

from ..system import call_room, open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__, light=("arms", "comparison", "runs"))
call_room(__name__, "compare")
