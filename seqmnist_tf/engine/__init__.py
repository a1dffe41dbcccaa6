"""Many runs: one after the other in this process, several at a time on this machine, or on a Ray cluster.

A job is a run directory that resumes; the caller is a :class:`Source`. A job that fails by its own doing
(:attr:`JobEnd.own`) does not stop the others. A failure of the machine, such as a full disk or the death of Ray, ends
all of them as RunError; the same call resumes them.
"""

from typing import TYPE_CHECKING

from ..system import lazy_names

if TYPE_CHECKING:
    from .engine import Source, run_jobs, train_job
    from .job import Job, JobEnd, add_engine_options, require_answer, require_engine_options, threads_here
    from .progress import Stopwatch, note_epoch
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, without_tensorflow=("job",))
