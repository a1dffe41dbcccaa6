"""How long a model's training steps and evaluations take here, each model in a process of its own."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..config import NUM_TIMESTEPS, Config, LayerFile
from ..system import InputError, RunError, peak_mb, start_tensorflow
from .kernel_choice import Kernel, choose_kernel
from .layers import build_model
from .training_step import make_trainable

TIMED_STEPS, TIMED_SECONDS = 3, 20.0  # the fastest of three steps, or of as many as begin within 20 s


class Images(NamedTuple):
    """The images on which a model is timed."""

    x: np.ndarray  # float32 (n, 784, 1), at least a batch
    y: np.ndarray  # int (n,)
    test: np.ndarray  # float32 (m, 784, 1)


class Timed(NamedTuple):
    """The time of a step or an evaluation, and the peak memory of its process so far (None except on Linux)."""

    seconds: float
    peak_mb: float | None


def random_images(config: Config) -> Images:
    """Return a batch for training and a batch for evaluation."""
    random, size = np.random.RandomState(0), config.train.batch_size
    x = random.standard_normal((size, NUM_TIMESTEPS, 1)).astype(np.float32)
    test = np.zeros((min(config.test.batch_size, config.num_test), NUM_TIMESTEPS, 1), np.float32)
    return Images(x, random.randint(config.model.output_size, size=size), test)


class TimedModel:
    """A configuration's model in the process that times it. Its first step traces it, and is not timed."""

    def __init__(self, config: Config, file: LayerFile | None = None, images: Images | None = None) -> None:
        start_tensorflow(config.train.threads, operations=1 if choose_kernel(config).isa else 0)
        self.config, self.images = config, images or random_images(config)
        self.stock = build_model(config, file)
        self.kernel = choose_kernel(config, self.stock)
        self.trained = make_trainable(self.stock, config, self.kernel)
        self.steps = 0
        self.time_step()

    def time_step(self) -> Timed:
        """Do one training step, on the next batch."""
        x, y, _ = self.images
        size = self.config.train.batch_size
        first = self.steps * size % (len(x) - size + 1)
        self.steps += 1
        start = time.perf_counter()
        self.trained.train_on_batch(x[first : first + size], y[first : first + size])
        return Timed(time.perf_counter() - start, peak_mb())

    def fastest_step(self) -> Timed:
        """Return the fastest of a few training steps."""
        steps = [self.time_step()]
        while len(steps) < TIMED_STEPS and sum(step.seconds for step in steps) < TIMED_SECONDS:
            steps.append(self.time_step())
        return min(steps)

    def time_evaluation(self, on: str) -> Timed:
        """Evaluate the test images, on ``stock`` Keras or as the model that is ``trained``."""
        model, size = getattr(self, on), self.config.test.batch_size
        model.predict_on_batch(self.images.test[:size])  # traces the model
        start = time.perf_counter()
        for first in range(0, len(self.images.test), size):
            model.predict_on_batch(self.images.test[first : first + size])
        return Timed(time.perf_counter() - start, peak_mb())


class TimingProcess:
    """A new process for a model that is timed, so that its memory is that model's alone. It ends with ``with``.

    ``code`` is the Python program that the process runs: it calls :func:`serve_requests`. ``multiprocessing`` would
    import the user's script once more.
    """

    def __init__(self, code: str = "from seqmnist_tf.model import serve_requests; serve_requests()") -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        words = [sys.executable, "-c", code]
        self.process = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> TimingProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def send(self, *request: Any) -> None:
        """Send what the model is made from; after that, the name of a method of it, and its arguments."""
        requests: Any = self.process.stdin
        pickle.dump(request, requests)
        requests.flush()

    def receive(self) -> Any:
        """Return the answer to a request: to the first the model's kernel, if it has one, to others a method's result.

        An InputError of the other process is raised here.
        """
        results: Any = self.process.stdout
        try:
            result = pickle.load(results)
        except EOFError:
            raise RunError(f"a process that timed a model ended with status {self.process.wait()}") from None
        if isinstance(result, InputError):
            raise result
        return result

    def call(self, *request: Any) -> Any:
        """Send a request, and return its result."""
        self.send(*request)
        return self.receive()


def serve_requests(make: Callable[..., Any] = TimedModel) -> None:
    """Make the model that is timed from the first request and answer the others, until this process is killed."""
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a layer's code prints
    try:
        model = make(*pickle.load(sys.stdin.buffer))
        result: Any = getattr(model, "kernel", None)
    except InputError as error:
        result = error
    while True:
        pickle.dump(result, results)
        results.flush()
        name, *arguments = pickle.load(sys.stdin.buffer)
        result = getattr(model, name)(*arguments)


@dataclass(frozen=True)
class Pace:
    """How fast the runs of a configuration are trained here."""

    kernel: Kernel
    step: float  # seconds
    evaluation: float  # seconds of the final one, which is on stock Keras
    peak_mb: float | None  # peak memory of the process

    def epoch(self, config: Config) -> float:
        """Return the seconds of an epoch; an evaluation takes about a third of a step's time for as many images."""
        evaluated = config.task.validation_size + (config.num_test if config.test.enabled else 0)
        return self.step * (config.steps_per_epoch + evaluated / config.train.batch_size / 3)

    def hours(self, config: Config) -> float:
        """Return the hours of a run."""
        return (self.epoch(config) * config.train.n_epochs + self.evaluation) / 3600


def measure_pace(config: Config, file: LayerFile | None = None) -> Pace:
    """Return the pace of a configuration, measured on random sequences. Arguments as ``build_model``."""
    with TimingProcess() as process:
        kernel, step = process.call(config, file), process.call("fastest_step")
        evaluation = process.call("time_evaluation", "stock").seconds
    batches = config.num_test / min(config.test.batch_size, config.num_test)
    return Pace(kernel, step.seconds, evaluation * batches, step.peak_mb)
