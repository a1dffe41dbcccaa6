"""Training in lower precision: what it changes, what it does not, and where it is refused."""

from __future__ import annotations

import re
import signal
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from seqmnist_tf import config as cfg
from seqmnist_tf import load_sequences
from seqmnist_tf.config import Config, config_id
from seqmnist_tf.kernel import LSTM, native
from seqmnist_tf.kernel.layer import why_not_native
from seqmnist_tf.model import Kernel, build_model, choose_kernel
from seqmnist_tf.system import InputError
from seqmnist_tf.train import RunDirectory
from seqmnist_tf.train.__main__ import main as train_main
from tests.kernel.test_native import NATIVE, digits, isas, random_weights, relative_error
from tests.toy import ROOT, run_train


def available() -> bool:
    try:
        return native.instruction_set("tf32") == "vnni"
    except native.UnavailableError:
        return False


vnni = pytest.mark.skipif(not available(), reason="no AVX-512 with VNNI")
TF32 = cfg.with_values(Config(), {"train.precision": "tf32"})


@vnni
@pytest.mark.parametrize("all_steps", [False, True])
@pytest.mark.parametrize(("n", "features", "units"), [(33, 1, 128), (26, 3, 74), (100, 1, 64), (9, 70, 272)])
def test_results_are_near_those_of_float32(n: int, features: int, units: int, all_steps: bool) -> None:
    random = np.random.RandomState(units)
    x = random.standard_normal((n, 60, features)).astype(np.float32)
    x[:, :20] = x[0, 0]  # all rows begin with the same steps
    lstm = keras.layers.LSTM(units)
    lstm.build((None, 60, features))
    weights = lstm.get_weights()
    upstream = random.standard_normal((n, 60, units) if all_steps else (n, units)).astype(np.float32)

    def both(precision: str, threads: int) -> list[np.ndarray]:
        options: dict[str, Any] = {"threads": threads, "keep": True, "all_steps": all_steps}
        states, kept = native.forward(x, weights, precision=precision, **options)
        assert kept is not None
        return [states, *native.backward(x, weights, kept, upstream, threads=threads, want_sequences=True)]

    exact, lower = both("float32", 2), both("tf32", 2)
    errors = [relative_error(a, b) for a, b in zip(lower, exact, strict=True)]
    assert max(errors) < 2e-3 and min(errors) > 1e-6  # it is lower, and was used in all
    for threads in (1, 3):
        for a, b in zip(both("tf32", threads), lower, strict=True):
            np.testing.assert_array_equal(a, b)


@vnni
def test_a_long_sequence_stays_near_float32() -> None:
    weights, x = random_weights(128), digits(50)
    exact = native.forward(x, weights, threads=2, keep=False)[0]
    lower = native.forward(x, weights, threads=2, keep=False, precision="tf32")[0]
    assert 1e-6 < relative_error(lower, exact) < 5e-4  # 784 steps; 1e-4 was seen


@vnni
@pytest.mark.network
def test_published_models_differ_from_float32_as_the_page_says() -> None:
    text = " ".join((ROOT / "docs/speed.md").read_text().split())
    _, (x, _) = load_sequences(limit_test=100)
    upstream = np.random.RandomState(0).standard_normal((100, 128)).astype(np.float32)
    for name in ("strong", "baseline"):
        documented = re.search(rf"`{name}`, seed 0,.*? differ by (\S+) and gradients by (\S+);", text) or re.search(
            rf"`{name}`, seed 0, which magnifies any rounding, by (\S+) and (\S+)\. After", text
        )
        assert documented
        weights = keras.saving.load_model(ROOT / f"results/{name}/seed0/model.keras").get_weights()[:3]
        results = []
        for precision in ("float32", "tf32"):
            states, kept = native.forward(x, weights, threads=2, keep=True, precision=precision)
            assert kept is not None
            results.append((states, native.backward(x, weights, kept, upstream, threads=2)[:3]))
        (exact, exact_gradients), (lower, lower_gradients) = results
        gradients = max(map(relative_error, lower_gradients, exact_gradients))
        found = (relative_error(lower, exact), gradients)
        assert found == pytest.approx([float(number) for number in documented.groups()], rel=0.5), found


@vnni
def test_large_weights_do_not_overflow() -> None:
    x = np.ones((5, 40, 1), np.float32)
    for value in (1.0, 1e3, 1e30, -1e30, 3e36):  # all of one sign: the largest sums that there can be
        weights = [np.ones((1, 512), np.float32), np.full((128, 512), value, np.float32), np.zeros(512, np.float32)]
        exact = native.forward(x, weights, threads=1, keep=False)[0]
        lower = native.forward(x, weights, threads=1, keep=False, precision="tf32")[0]
        np.testing.assert_allclose(lower, exact, atol=2e-3)


@vnni
def test_the_largest_sums_of_gradients_do_not_overflow() -> None:
    x = np.ones((100, 12, 1), np.float32)  # all rows and steps alike: all gates' gradients of a column are the largest
    weights = [np.zeros((1, 512), np.float32), np.full((128, 512), 1e-3, np.float32), np.full(512, 2, np.float32)]
    upstream = np.ones((100, 128), np.float32)
    both = []
    for precision in ("float32", "tf32"):
        kept = native.forward(x, weights, threads=1, keep=True, precision=precision)[1]
        assert kept is not None
        both.append(native.backward(x, weights, kept, upstream, threads=1, want_sequences=True)[:3])
    for exact, lower in zip(*both, strict=True):
        assert relative_error(lower, exact) < 2e-3


@vnni
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_becomes_nan(value: float) -> None:
    weights, x = random_weights(32), digits(9, 40)
    x[3, 20] = value
    states, kept = native.forward(x, weights, threads=2, keep=True, precision="tf32")
    assert kept is not None
    assert [bool(np.isnan(row).all()) for row in states] == [row == 3 for row in range(9)]
    assert not np.isnan(np.delete(states, 3, axis=0)).any()
    gradients = native.backward(x, weights, kept, np.ones_like(states), threads=2)
    assert all(np.isnan(gradient).all() for gradient in gradients[:3])
    for number in range(3):
        bad = [weight.copy() for weight in weights]
        bad[number].flat[5] = value
        assert np.isnan(native.forward(digits(9, 40), bad, threads=2, keep=False, precision="tf32")[0]).all()


@vnni
def test_only_training_is_in_lower_precision() -> None:
    stock = keras.layers.LSTM(32)
    stock.build((None, 784, 1))
    lower, x = LSTM.sharing(stock, precision="tf32"), tf.constant(digits(20))
    exact = LSTM.sharing(stock)
    np.testing.assert_array_equal(lower(x, training=False), exact(x, training=False))
    assert relative_error(lower(x, training=True).numpy(), exact(x, training=True).numpy()) > 1e-6
    assert LSTM.from_config(lower.get_config()).precision == "tf32"


@vnni
def test_a_killed_run_in_lower_precision_resumes_to_the_same_end(command: Any, in_tmp: Path, toy: None) -> None:
    words = [*NATIVE, "--train.precision=tf32"]
    whole, killed = Path("whole").absolute(), Path("killed").absolute()
    result = command(train_main, *words, f"--run-dir={whole}")
    assert result.status == 0
    exact_isa = native.instruction_set()
    assert f"LSTM on the native kernel (vnni in tf32, {exact_isa} in evaluations)\n" in result.out
    assert "this run cannot be published as a record: train.precision must be float32 (got 'tf32')\n" in result.out
    assert run_train(*words, f"--run-dir={killed}", KILL="step:5").returncode == -signal.SIGKILL
    assert run_train("--resume", f"--run-dir={killed}").returncode == 0
    assert (killed / "steps.csv").read_text() == (whole / "steps.csv").read_text()
    assert RunDirectory(whole).environment["kernel"] == f"native-vnni-{exact_isa}"
    command(train_main, *NATIVE, "--run-dir=exact")
    assert (whole / "steps.csv").read_text() != Path("exact/steps.csv").read_text()


@pytest.mark.skipif(not isas(), reason="no native kernel")
def test_a_layer_in_lower_precision_evaluates_on_the_kernel_without_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    instruction_set = native.instruction_set

    def without_vnni(precision: str = "float32") -> str:
        if precision == "tf32":
            raise native.UnavailableError("no VNNI")
        return instruction_set()

    monkeypatch.setattr(native, "instruction_set", without_vnni)
    layer, x = LSTM(16, precision="tf32"), tf.constant(digits(3, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        states = layer(x, training=False)
    with pytest.warns(UserWarning, match="stock Keras is used, because the native kernel is not available: no VNNI"):
        np.testing.assert_allclose(layer(x, training=True), states, atol=1e-6)


def test_it_is_another_experiment() -> None:
    assert config_id(TF32) != config_id(Config())
    assert config_id(cfg.with_values(Config(), {"train.precision": "float32"})) == "44136fa355b3"  # the published one


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"train.kernel": "keras"}, "train.kernel keras"),
        ({"model.layer": "GRU"}, "model.layer GRU"),
    ],
)
def test_it_is_refused_where_the_kernel_does_not_compute(
    values: dict[str, Any], reason: str, command: Any, in_tmp: Path
) -> None:
    words = [f"--{key}={value}" for key, value in values.items()]
    refused = command(train_main, *NATIVE, "--train.precision=tf32", *words, "--run-dir=run")
    which = "which the native kernel does not compute (got 'tf32')"
    assert (refused.status, refused.err) == (2, f"error: train.precision must be float32 with {reason}, {which}\n")
    assert not Path("run").exists()


def test_it_is_refused_without_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def seqmnist_lstm_supported(self, number: int) -> bool:
            return number == 1

    monkeypatch.setattr(native, "_library", Library)
    monkeypatch.delenv("SEQMNIST_ISA", raising=False)
    with pytest.raises(
        InputError, match=r"train\.precision must be float32 here \(got 'tf32'\): .* no AVX-512 with VNNI"
    ):
        choose_kernel(TF32)
    assert choose_kernel(Config()) == Kernel("avx512")
    assert why_not_native() is None and "VNNI" in (why_not_native("tf32") or "")
    with pytest.raises(ValueError, match="precision must be 'float32' or 'tf32'"):
        LSTM(8, precision="bfloat16")
    assert build_model(TF32).count_params() == build_model(Config()).count_params()
