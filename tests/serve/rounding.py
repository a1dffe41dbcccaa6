"""How far the float32 answers of an engine may be from float64's, on any processor."""

from __future__ import annotations

import keras
import numpy as np

from seqmnist_tf.serve.parity import Arrays, keras_outputs, largest_difference

ROUNDING = 2.0**-24  # of a float32, relative
FUNCTIONS = 8  # roundings of a gate's function and the state, or of a softmax


def limits(model: keras.Sequential, inputs: dict[str, Arrays]) -> dict[str, float]:
    """Return the largest difference from float64 that rounding explains, by signature.

    A float32 product over n terms is about the exact one of weights that are off by sqrt(n) roundings (Higham and Mary
    2019). So an answer may be as far off as that of weights which are off by so many, and by those of the functions,
    each with one random sign for all steps.
    """
    random, exact = np.random.default_rng(0), keras_outputs(model, float64=True)(inputs)
    largest = dict.fromkeys(exact, 0.0)
    for _ in range(2):
        off = keras.models.clone_model(model)
        sizes = [
            (np.sqrt(len(w)) + FUNCTIONS) * ROUNDING * random.choice([-1, 1], w.shape) for w in model.get_weights()
        ]
        off.set_weights([w * (1 + size) for w, size in zip(model.get_weights(), sizes, strict=True)])
        for name, outputs in keras_outputs(off, float64=True)(inputs).items():
            largest[name] = max(largest[name], largest_difference(outputs, exact[name]))
    return {name: difference + FUNCTIONS * ROUNDING for name, difference in largest.items()}


def assert_near_float64(answers: dict[str, Arrays], model: keras.Sequential, inputs: dict[str, Arrays]) -> None:
    """Assert that answers of signatures are as near to the model in float64 as rounding allows."""
    exact, allowed = keras_outputs(model, float64=True)(inputs), limits(model, inputs)
    for name, outputs in answers.items():
        difference = largest_difference(outputs, exact[name])
        assert difference <= allowed[name], f"{name}: {difference:.1e}, allowed {allowed[name]:.1e}"
