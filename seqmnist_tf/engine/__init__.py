"""Many runs: one after the other in this process, several at a time on this machine, or on a Ray cluster.

A job is a run directory that resumes; the caller is a :class:`Source`. A job that fails by its own doing
(:attr:`JobEnd.own`) does not stop the others. A failure of the machine, such as a full disk or the death of Ray, ends
all of them as RunError; the same call resumes them.
"""

from ..system import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__, light=("job",))
