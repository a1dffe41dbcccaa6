"""The process in which a model is timed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from seqmnist_tf.model import Images, Kernel, TimingProcess, measure_pace
from seqmnist_tf.system import InputError, RunError
from tests.model.test_layers import CELL, ON_STOCK_KERAS, configure, write

SMALL = {"train__batch_size": 2, "test__batch_size": 4, "task__limit_test": 12}


def test_the_pace_of_a_layer_that_prints(tmp_path: Path) -> None:
    config = configure(f"{write(tmp_path, CELL + 'print(1)')}:f", train__kernel="keras", **SMALL)
    pace = measure_pace(config)
    assert pace.kernel == Kernel(None) and 0 < pace.step < 60 and 0 < pace.evaluation < 60
    assert pace.peak_mb is None or 100 < pace.peak_mb < 5000


def test_what_a_process_cannot_do_is_told(tmp_path: Path) -> None:
    config = configure(f"{write(tmp_path, ON_STOCK_KERAS)}:f", train__kernel="native", **SMALL)
    images = Images(np.zeros((2, 784, 1), np.float32), np.zeros(2, np.int32), np.zeros((4, 784, 1), np.float32))
    with TimingProcess() as process, pytest.raises(InputError, match=r"train\.kernel"):
        process.call(config, None, images)
    with TimingProcess() as process:
        process.process.kill()
        with pytest.raises(RunError, match="status -9"):
            process.receive()
