"""The model and its optimizers against formulas written out here."""

from __future__ import annotations

import zipfile
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from seqmnist_tf.config import Config
from seqmnist_tf.model import Kernel, MeasuredSequential, build_model, build_optimizer, compile_model, swap_averages
from seqmnist_tf.model.noise import RecurrentNoise
from tests import toy
from tests.model import numpy_lstm
from tests.model.numpy_lstm import relative_error

ROUNDING = 3e-7  # of a weight below 1 after a step: a few units in its last place, 6e-8 each


def configure(**values: object) -> Config:
    """Return a configuration with ``section__key`` replaced; no clipping unless asked for."""
    return toy.configure(**{"optimizer__grad_clip_value": None, "model__hidden_size": 8, **values})


def toy_batch(n: int = 5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(1)
    return random.standard_normal((n, 784, 1)).astype(np.float32), random.randint(0, 10, n).astype(np.int32)


def loss_and_gradients(model: keras.Sequential, x: np.ndarray, y: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """Return a model's mean loss and its gradients in training, by TensorFlow's own differentiation of a graph."""

    @tf.function(autograph=False)
    def compute() -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x=x, y=y, y_pred=model(x, training=True))
        return loss, tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    loss, gradients = compute()
    return float(loss), [np.asarray(gradient) for gradient in gradients]


def test_the_baseline_has_67850_parameters_and_stock_layers() -> None:
    model = build_model(Config())
    assert model.count_params() == 67_850
    assert [type(part) for part in (model, *model.layers)] == [keras.Sequential, keras.layers.LSTM, keras.layers.Dense]
    assert (model.input_shape, model.output_shape) == ((None, 784, 1), (None, 10))


@pytest.mark.parametrize(("initializer", "forget_bias"), [("keras", None), ("torch", "chrono")])
def test_outputs_and_gradients_are_those_of_a_float64_lstm(initializer: str, forget_bias: str | None) -> None:
    config = configure(model__hidden_size=16, model__initializer=initializer, model__forget_bias=forget_bias)
    model = build_model(config)
    compile_model(model, config)
    x, y = toy_batch()
    loss, gradients = loss_and_gradients(model, x, y)
    logits = model.predict(x, verbose=0)
    weights = model.get_weights()
    expected_loss, expected = numpy_lstm.loss_and_gradients(weights, x, y)
    # float32 over 784 steps: errors of some 1e-6 were seen; a wrong gate or term gives errors of order 1.
    assert relative_error(logits, numpy_lstm.forward(weights, x)[0]) < 2e-5
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for variable, gradient, wanted in zip(model.trainable_variables, gradients, expected, strict=True):
        assert relative_error(gradient, wanted) < 5e-5, variable.path


def test_the_numpy_gradients_are_those_of_finite_differences() -> None:
    weights = build_model(configure(model__hidden_size=3)).get_weights()
    x, y = toy_batch(2)
    x = x[:, :12]
    _, gradients = numpy_lstm.loss_and_gradients(weights, x, y)
    for k, gradient in enumerate(gradients):
        index = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        moved = []
        for sign in (1, -1):
            shifted = [w.astype(np.float64) for w in weights]
            shifted[k][index] += sign * 1e-6
            moved.append(numpy_lstm.loss_and_gradients(shifted, x, y)[0])
        assert (moved[0] - moved[1]) / 2e-6 == pytest.approx(gradient[index], rel=1e-6)


def test_keras_initializer_is_kerass_own_of_the_seed() -> None:
    keras.utils.set_random_seed(5)
    plain = keras.Sequential([keras.Input((784, 1)), keras.layers.LSTM(8), keras.layers.Dense(10)])
    ours, other = (build_model(configure(train__seed=seed)).get_weights() for seed in (5, 4))
    assert all(np.array_equal(a, b) for a, b in zip(plain.get_weights(), ours, strict=True))
    assert not np.array_equal(ours[1], other[1])
    assert ours[2].tolist() == [0] * 8 + [1] * 8 + [0] * 16


def test_torch_initializer_draws_everything_from_one_uniform() -> None:
    kernel, recurrent, bias, dense, dense_bias = build_model(
        configure(model__initializer="torch", model__hidden_size=64)
    ).get_weights()
    bound = 64**-0.5
    for weights in (kernel, recurrent, dense, dense_bias):
        assert np.abs(weights).max() <= bound
        assert weights.std() == pytest.approx(bound / 3**0.5, rel=0.35)
    assert not np.array_equal(kernel[0, :64], recurrent[0, :64])
    assert bound < np.abs(bias).max() <= 2 * bound  # the sum of two
    assert bias.std() == pytest.approx(bound * (2 / 3) ** 0.5, rel=0.15)


def test_chrono_bias_is_the_log_of_a_uniform_time() -> None:
    bias = build_model(configure(model__forget_bias="chrono", model__hidden_size=256)).get_weights()[2]
    i, f, g, o = np.split(bias, 4)
    times = np.exp(f)
    assert times.min() >= 1 and times.max() <= 783
    assert times.mean() == pytest.approx(392, rel=0.1)
    np.testing.assert_allclose(times, np.random.RandomState(0).uniform(1, 783, 256), rtol=1e-5)
    assert np.array_equal(i, -f)
    assert not g.any() and not o.any()


def one_step(config: Config) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Return weights, their gradients, and the weights after one training step."""
    model = MeasuredSequential.of(build_model(config), Kernel(None))
    compile_model(model, config)
    x, y = toy_batch()
    before = model.get_weights()
    loss, gradients = loss_and_gradients(model, x, y)
    logs = model.train_on_batch(x, y, return_dict=True)
    assert float(logs["loss"]) == pytest.approx(loss, rel=1e-6)
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients))
    assert float(logs["gradient_norm"]) == pytest.approx(norm, rel=1e-4)
    return before, gradients, model.get_weights()


def test_a_step_weighs_its_samples_where_weights_are_given() -> None:
    config = configure(optimizer__name="SGD", optimizer__lr=1.0)
    x, y = toy_batch()
    trained = []
    for rows, weights in ((slice(None), [2.0] * 4 + [0.0] * (len(x) - 4)), (slice(4), None)):
        model = MeasuredSequential.of(build_model(config), Kernel(None))
        compile_model(model, config)
        model.train_on_batch(x[rows], y[rows], None if weights is None else np.array(weights, np.float32))
        trained.append(model.get_weights())
    scale = 8 / len(x)  # the mean is over all samples
    start = build_model(config).get_weights()
    for first, weighted, alone in zip(start, *trained, strict=True):
        np.testing.assert_allclose(weighted - first, scale * (alone - first), atol=ROUNDING)
        assert np.abs(alone - first).max() > 1e-4


def test_clipping_by_value_is_of_each_number() -> None:
    config = configure(optimizer__name="SGD", optimizer__lr=1.0, optimizer__grad_clip_value=0.002)
    before, gradients, after = one_step(config)
    assert sum(int((np.abs(g) > 0.002).sum()) for g in gradients) > 10
    for w, g, w_next in zip(before, gradients, after, strict=True):
        np.testing.assert_allclose(w_next - w, -np.clip(g, -0.002, 0.002), atol=ROUNDING, rtol=1e-4)


def test_the_averages_of_the_weights_are_the_formula_and_are_exchanged_exactly() -> None:
    config = configure(optimizer__name="SGD", optimizer__lr=1.0, optimizer__ema_momentum=0.75)
    model = MeasuredSequential.of(build_model(config), Kernel(None))
    compile_model(model, config)
    x, y = toy_batch()
    expected: list[np.ndarray] = []
    for _ in range(3):
        model.train_on_batch(x, y)
        weights = model.get_weights()
        expected = [0.75 * a + 0.25 * w for a, w in zip(expected or weights, weights, strict=True)]
    swap_averages(model.optimizer)
    for average, formula, weight in zip(model.get_weights(), expected, weights, strict=True):
        np.testing.assert_allclose(average, formula, atol=1e-6)
        assert np.abs(average - weight).max() > 1e-4
    swap_averages(model.optimizer)
    for again, weight in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(again, weight)


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("SGD", {"momentum": 0.8}),
        ("Adam", {"beta_1": 0.6, "beta_2": 0.95, "epsilon": 0.003}),
        ("RMSProp", {"rho": 0.7, "momentum": 0.8, "epsilon": 0.003}),
        ("RMSProp", {"rho": 0.7, "momentum": 0.8, "epsilon": 0.003, "epsilon_placement": "outside"}),
    ],
)
def test_the_keys_of_an_optimizer_act_over_several_steps(name: str, keys: dict[str, Any]) -> None:
    values = {f"optimizer__{key}": value for key, value in keys.items()}
    optimizer = build_optimizer(configure(optimizer__name=name, optimizer__lr=0.01, **values))
    variable = keras.Variable(np.zeros(4, np.float32))
    gradients = np.random.RandomState(0).standard_normal((5, 4)) * [1, 1e-1, 1e-2, 0]
    w = v = m = np.zeros(4)
    for step, g in enumerate(gradients, 1):
        optimizer.apply([tf.constant(g, tf.float32)], [variable])
        if name == "SGD":
            m = 0.8 * m - 0.01 * g
            w = w + m
        elif name == "Adam":
            m = 0.6 * m + 0.4 * g
            v = 0.95 * v + 0.05 * g**2
            w = w - 0.01 * (1 - 0.95**step) ** 0.5 / (1 - 0.6**step) * m / (np.sqrt(v) + 0.003)
        else:
            v = 0.7 * v + 0.3 * g**2
            root = np.sqrt(v) + 0.003 if "epsilon_placement" in keys else np.sqrt(v + 0.003)
            m = 0.8 * m + 0.01 * g / root
            w = w - m
    np.testing.assert_allclose(np.asarray(variable), w, rtol=1e-4)
    assert w[2] != 0


def test_weight_decay_is_decoupled_and_spares_biases() -> None:
    plain, decayed = (
        one_step(configure(optimizer__name="SGD", optimizer__lr=0.1, optimizer__weight_decay=decay))
        for decay in (0.0, 0.5)
    )
    for w, w_plain, w_decayed in zip(plain[0], plain[2], decayed[2], strict=True):
        np.testing.assert_allclose(w_plain - w_decayed, 0.1 * 0.5 * w if w.ndim == 2 else 0, atol=ROUNDING)


@pytest.mark.parametrize(("schedule", "warmup"), [("cosine", 0), ("cosine", 3), ("constant", 3), ("cosine", 20)])
def test_the_rate_rises_and_the_schedule_runs_over_the_rest(schedule: str, warmup: int) -> None:
    values = {"optimizer__schedule": schedule, "optimizer__warmup_steps": warmup}
    config = configure(**values, optimizer__lr=0.02, train__n_epochs=4, task__limit_train=200)  # 8 steps
    optimizer, steps, rates = build_optimizer(config), np.arange(9), []
    for _ in steps:
        rates.append(float(optimizer.learning_rate))
        optimizer.iterations.assign_add(1)
    later = 0.01 * (1 + np.cos(np.pi * (steps - warmup) / max(8 - warmup, 1))) if schedule == "cosine" else 0.02
    expected = np.where(steps < warmup, 0.02 * (steps + 1) / max(warmup, 1), later)
    np.testing.assert_allclose(rates, expected, atol=1e-8)


def test_a_step_measures_the_accuracy_before_it_and_the_weights_after_it() -> None:
    config = configure(optimizer__name="SGD", optimizer__lr=10.0)
    model = MeasuredSequential.of(build_model(config), Kernel(None))
    compile_model(model, config)
    x, _ = toy_batch(8)
    before = model.predict(x, verbose=0).argmax(axis=1)
    labels = np.where(np.arange(8) < 5, before, (before + 1) % 10).astype(np.int32)
    logs = model.train_on_batch(x, labels, return_dict=True)
    assert float(logs["accuracy"]) == 5 / 8
    assert np.mean(model.predict(x, verbose=0).argmax(axis=1) == labels) != 5 / 8
    norm = np.sqrt(sum((w.astype(np.float64) ** 2).sum() for w in model.get_weights()))
    assert float(logs["weight_norm"]) == pytest.approx(norm, rel=1e-5)


def test_noise_on_recurrent_weights_is_of_the_step_alone() -> None:
    n = 9  # parts of two and of three rows
    config = configure(optimizer__name="SGD", optimizer__lr=0.1, train__seed=2**32 - 1)
    x, y = toy_batch(n)
    steps = []
    for std in (0.3, 0.3, 0.0):
        model = MeasuredSequential.of(build_model(config), Kernel(None))
        model.noise = RecurrentNoise((std,) if std else (), config.train.seed)
        compile_model(model, config)
        model.optimizer.iterations.assign(7)
        first = [np.asarray(w) for w in model.get_weights()]
        model.train_on_batch(x, y)
        steps.append([before - after for before, after in zip(first, model.get_weights(), strict=True)])
    assert all(np.array_equal(a, b) for a, b in zip(steps[0], steps[1], strict=True))
    assert relative_error(steps[0][1], steps[2][1]) > 0.01

    # By hand: each quarter of the batch with weights of its own, and the mean of the gradients.
    noise = 0.3 * tf.random.stateless_normal((4, *first[1].shape), [config.train.seed, 7]).numpy()
    assert noise.std() == pytest.approx(0.3, rel=0.1) and len({part.tobytes() for part in noise}) == 4
    expected = [np.zeros_like(w) for w in first]
    for part in range(4):
        rows = slice(n * part // 4, n * (part + 1) // 4)
        noisy = [first[0], first[1] + noise[part], *first[2:]]
        _, gradients = numpy_lstm.loss_and_gradients(noisy, x[rows], y[rows])
        expected = [e + g * len(y[rows]) / n for e, g in zip(expected, gradients, strict=True)]
    for step, gradient in zip(steps[0], expected, strict=True):
        np.testing.assert_allclose(step, 0.1 * gradient, rtol=1e-3, atol=1e-6)


def test_a_saved_model_loads_without_this_package(tmp_path: Any) -> None:
    config = configure(model__initializer="torch", model__forget_bias="chrono")
    model = build_model(config)
    model.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        assert b"seqmnist" not in archive.read("config.json")
    reloaded = keras.saving.load_model(tmp_path / "model.keras")
    x, _ = toy_batch()
    assert np.array_equal(model.predict(x, verbose=0), reloaded.predict(x, verbose=0))
