"""Many runs: one after the other in this process, several at a time on this machine, or on a Ray cluster.

A job is a run directory that resumes. The caller is a :class:`Source`: ``take(slot)`` gives the next job (None: nothing
for now; it is asked again when a job has ended), ``epoch(job, history)`` hears of new epochs, and ``ended(slot, job,
end)`` of each job's end. All three are called in the command's own process and thread.

A job that fails by its own doing (:attr:`JobEnd.own`) does not stop the others. A failure of the machine, such as a
full disk or the death of Ray, ends all of them as RunError; the same call resumes them.

Example::

    class Two:
        jobs = [Job(path=Path("runs/a"), name="a", config=preset("quickstart")), ...]

        def take(self, slot): return self.jobs.pop() if self.jobs else None
        def epoch(self, job, history): print(job.name, history[-1]["test_accuracy"])
        def ended(self, slot, job, end): print(job.name, end.status, end.error)

    run_jobs(Two(), Path("runs"), workers=2)
"""

from ..system import open_door

__getattr__, __dir__, __all__ = open_door(__name__, __file__, light=("job",))
