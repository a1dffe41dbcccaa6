"""The baseline in Keras as a contender."""

from __future__ import annotations

from dataclasses import replace

import keras

from ..data import in_batches
from ..kernel import on_kernel
from ..model import choose_kernel, compile_model
from ..system import start_tensorflow
from .workload import TimedFunctions, Workload


def keras_model(
    workload: Workload, kernel: str = "keras", precision: str = "float32", jit_compile: bool = False
) -> TimedFunctions:
    """Return the functions of the baseline in Keras, its LSTM computed by ``kernel``, with or without XLA."""
    config = workload.config
    config = replace(config, train=replace(config.train, kernel=kernel, precision=precision))
    chosen = choose_kernel(config)
    start_tensorflow(config.train.threads, operations=1 if chosen.isa else 0)
    keras.utils.set_random_seed(config.train.seed)
    model = keras.Sequential([keras.Input((workload.steps, workload.features))])
    for layer in range(workload.layers):
        recurrent = keras.layers.LSTM(workload.units, return_sequences=layer < workload.layers - 1)
        model.add(on_kernel(recurrent, workload.threads, precision) if chosen.isa else recurrent)
    model.add(keras.layers.Dense(config.model.output_size))
    compile_model(model, config)
    model.jit_compile = jit_compile
    return TimedFunctions(
        lambda x, y: float(model.train_on_batch(x, y, return_dict=True)["loss"]),
        lambda x: model.predict(in_batches(x, config.test.batch_size), verbose=0),
    )
