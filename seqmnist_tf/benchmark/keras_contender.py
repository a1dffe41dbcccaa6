"""The baseline in Keras as a contender."""

from __future__ import annotations

from dataclasses import replace

import keras

from .. import lstm
from ..data import in_batches
from ..system import start_tensorflow
from .workload import TimedFunctions, Workload


def keras_model(workload: Workload, kernel: str = "keras", jit_compile: bool = False) -> TimedFunctions:
    """Return the functions of the baseline in Keras, its LSTM computed by ``kernel``, with or without XLA."""
    config = workload.config
    config = replace(config, train=replace(config.train, kernel=kernel))
    chosen = lstm.choose_kernel(config)
    start_tensorflow(config.train.threads, operations=1 if chosen.isa else 0)
    layers = lstm.MeasuredSequential.of(lstm.build_model(config), chosen, workload.threads).layers
    model = keras.Sequential([keras.Input((workload.steps, 1)), *layers])
    lstm.compile_model(model, config)
    if jit_compile:
        model.compile(optimizer=model.optimizer, loss=model.loss, jit_compile=True)
    return TimedFunctions(
        lambda x, y: float(model.train_on_batch(x, y, return_dict=True)["loss"]),
        lambda x: model.predict(in_batches(x, config.test.batch_size), verbose=0),
    )
