"""The native kernel against an LSTM in float64, against stock Keras, and against what processes do to it."""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from seqmnist_tf import config as cfg
from seqmnist_tf.config import Config
from seqmnist_tf.data import load_sequences
from seqmnist_tf.kernel import GRU, LSTM, native
from seqmnist_tf.kernel.layer import sharing
from seqmnist_tf.model import Kernel, MeasuredSequential, build_model, choose_kernel, compile_model
from seqmnist_tf.model.noise import RecurrentNoise
from seqmnist_tf.system import InputError
from seqmnist_tf.train import RunDirectory, load_final_model
from seqmnist_tf.train.__main__ import main as train_main
from tests.kernel.machine_cases import write_cases
from tests.model import numpy_lstm
from tests.model.numpy_lstm import relative_error
from tests.toy import ROOT, SMALL, toy_mnist

Weights = list[np.ndarray]


def isas() -> list[str]:
    """Return the instruction sets of this machine."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        for isa in native.ISAS:
            patch.setenv("SEQMNIST_ISA", isa)
            try:
                found.append(native.instruction_set())
            except native.UnavailableError:
                continue
    return found


pytestmark = pytest.mark.skipif(not isas(), reason="the native kernel was not compiled, or not for this processor")


@pytest.fixture(params=native.ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param not in isas():
        pytest.skip(f"no {request.param} on this machine")
    monkeypatch.setenv("SEQMNIST_ISA", request.param)
    return request.param


def digits(n: int, steps: int = 784) -> np.ndarray:
    """Return float32 (n, steps, 1): toy digits, whose background above the ink is that of real ones, with grain."""
    images = np.concatenate([examples.images for examples in toy_mnist().values()]).reshape(-1, 784)
    random = np.random.RandomState(n)
    x = images[random.randint(0, len(images), n)] * random.uniform(0.5, 1, (n, 784))
    return (x[:, :steps, None] / 255 / 0.3081 - 0.4242).astype(np.float32)


def random_weights(units: int, seed: int = 0, forget_bias: str | None = None) -> Weights:
    values = {"model.hidden_size": units, "train.seed": seed, "model.forget_bias": forget_bias}
    return build_model(cfg.with_values(Config(), values)).get_weights()[:3]


@pytest.fixture(scope="module")
def trained_weights() -> Weights:
    """Weights of an LSTM(128) after 15 steps: later ones magnify rounding so that stock Keras is off by 1e-5 too."""
    config = cfg.with_values(cfg.preset("quickstart"), {"optimizer.schedule": "constant"})
    stock = build_model(config)
    before = stock.get_weights()[1]
    model = MeasuredSequential.of(stock, Kernel(native.instruction_set()))
    compile_model(model, config)
    examples = toy_mnist()["train"]
    x = (examples.images.reshape(-1, 784, 1) / 255 / 0.3081 - 0.4242).astype(np.float32)
    model.fit(x, examples.labels.astype(np.int32), batch_size=40, epochs=3, verbose=0)
    assert np.abs(stock.get_weights()[1] - before).max() > 0.05
    return stock.get_weights()[:3]


def results(outputs: Callable[..., tf.Tensor], weights: list[Any], x: tf.Tensor, wrt_x: bool) -> list[np.ndarray]:
    """Return outputs and the gradients of weights and perhaps of x, for random gradients of the outputs."""

    def compute(x: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            if wrt_x:
                tape.watch(x)
            found = outputs(x)
            weighting = np.random.RandomState(1).standard_normal(found.shape).astype(np.float32)
            loss = tf.reduce_sum(found * weighting)
        sources = [*weights, *([x] if wrt_x else [])]
        gradients = tape.gradient(loss, sources)  # None of weights that a step does not read
        return [found, *(tf.zeros(w.shape) if g is None else g for w, g in zip(sources, gradients, strict=True))]

    # In a graph, gradients of x that nobody asks for are not computed; rows then share their first steps' gradients.
    return [np.asarray(result) for result in (compute if wrt_x else tf.function(compute, autograph=False))(x)]


def both_passes(x: np.ndarray, weights: Weights, upstream: np.ndarray, threads: int = 2) -> Weights:
    """Return states and the gradients of weights, then those of sequences with the weights' beside them once more."""
    states, kept = native.forward(x, weights, threads=threads, keep=True)
    assert kept is not None
    first = native.backward(x, weights, kept, upstream, threads=threads)
    second = native.backward(x, weights, kept, upstream, threads=threads, want_sequences=True)
    assert first[3] is None
    return [states, *first[:3], *second]


BATCHES = (1, 7, 33, 70)


@pytest.fixture(scope="module")
def reference(trained_weights: Weights) -> tuple[Weights, np.ndarray, np.ndarray, dict[int, Weights]]:
    """Return weights, digits and upstream gradients of 70 rows, and the results in float64 for the first n of them.

    The gradients of weights are sums over rows: each row is computed once, and counts for all n that it is within.
    """
    weights, x = trained_weights, digits(BATCHES[-1])
    upstream = np.random.RandomState(0).standard_normal((len(x), 128)).astype(np.float32)
    results: dict[int, Weights] = {}
    states, wrt_x = np.zeros((0, 128)), np.zeros((0, 784, 1))
    sums: Weights = [np.zeros_like(w, np.float64) for w in weights]
    for first, n in zip((0, *BATCHES), BATCHES, strict=False):
        part = x[first:n]
        more, steps = numpy_lstm.forward([*weights, np.eye(128), np.zeros(128)], part)
        steps.pop()
        pixels, *gradients = numpy_lstm.backward(weights, part, steps, upstream[first:n])
        states, wrt_x = np.concatenate([states, more]), np.concatenate([wrt_x, pixels])
        sums = [total + gradient for total, gradient in zip(sums, gradients, strict=True)]
        results[n] = [states, *sums, wrt_x]
    return weights, x, upstream, results


@pytest.mark.parametrize("n", BATCHES)
def test_states_and_gradients_are_those_of_a_float64_lstm(n: int, isa: str, reference: Any) -> None:
    weights, x, upstream, results = reference
    states, kernel, recurrent, bias, wrt_x = results[n]
    expected = [states, kernel, recurrent, bias, kernel, recurrent, bias, wrt_x]
    got = both_passes(x[:n], weights, upstream[:n])
    # float32: some 5e-6 were seen, a wrong term gives errors of order 1.
    assert max(relative_error(a, b) for a, b in zip(got, expected, strict=True)) < 2e-5


@pytest.mark.network  # MNIST itself, where it is not prepared
def test_states_of_published_lstms_are_near_those_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bounds that docs/speed.md gives."""
    digits = {name: load_sequences(normalization=name, limit_test=20)[1][0] for name in ("standard", "unit")}
    runs = [RunDirectory(path) for path in sorted(ROOT.glob("results/*/seed0"))]
    for run in runs:
        if run.config.model.layer != "LSTM":
            continue
        *weights, _, _ = load_final_model(run).get_weights()
        sequences = digits[run.config.task.normalization][:, run.pixel_order()]
        expected, _ = numpy_lstm.forward([*weights, np.eye(128), np.zeros(128)], sequences)
        for isa in isas():
            monkeypatch.setenv("SEQMNIST_ISA", isa)
            states, _ = native.forward(sequences, weights, threads=2, keep=False)
            assert relative_error(states, expected) < (1.5e-4 if isa == "amx" else 3e-5), (run.path, isa)


@pytest.mark.parametrize("n", [1, 24, 57])
def test_every_bit_is_the_same_each_time_and_for_any_number_of_threads(n: int, isa: str) -> None:
    x, weights = digits(n, 300), random_weights(64)
    upstream = np.random.RandomState(n).standard_normal((n, 64)).astype(np.float32)
    once = both_passes(x, weights, upstream, threads=2)
    for threads in (1, 2, 4):
        again = both_passes(x, weights, upstream, threads=threads)
        assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))


def test_a_backward_pass_runs_on_what_its_forward_pass_ran_on(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weights, upstream = digits(9, 100), random_weights(32), np.ones((9, 32), np.float32)
    for first in isas():
        monkeypatch.setenv("SEQMNIST_ISA", first)
        _, kept = native.forward(x, weights, threads=1, keep=True)
        assert kept is not None
        expected = native.backward(x, weights, kept, upstream, threads=1)
        for then in isas():
            monkeypatch.setenv("SEQMNIST_ISA", then)
            got = native.backward(x, weights, kept, upstream, threads=1)
            assert all(np.array_equal(a, b) for a, b in zip(got[:3], expected[:3], strict=True))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_does_not_become_one(value: float, isa: str) -> None:
    x, weights = digits(30, 200), random_weights(32)
    upstream = np.ones((30, 32), np.float32)
    assert np.isfinite(both_passes(x, weights, upstream)[0]).all()
    x[4, 150] = value
    states, kernel, recurrent, bias, *_ = both_passes(x, weights, upstream)
    assert np.isnan(states[4]).all()
    assert np.isfinite(np.delete(states, 4, axis=0)).all()
    assert all(np.isnan(gradient).all() for gradient in (kernel, recurrent, bias))
    for position in range(3):
        broken = [w.copy() for w in weights]
        broken[position].flat[5] = value
        assert np.isnan(both_passes(digits(30, 200), broken, upstream)[0]).all()


def test_other_features_than_those_of_the_weights_are_left_to_keras() -> None:
    layer = LSTM(16)
    layer(digits(2, 10))
    with pytest.warns(UserWarning, match="another number of features"), pytest.raises(Exception, match=r"(?i)mat.?mul"):
        layer(np.zeros((2, 10, 3), np.float32))


def test_numbers_of_threads_that_do_not_fit_are_refused() -> None:
    for threads in (-1, 1025, 1.5):
        with pytest.raises(ValueError, match="threads must be an integer from 0 to 1,024"):
            LSTM(16, threads=threads)  # type: ignore[arg-type]


def run_python(code: str) -> str:
    """Run code with ``native`` and numpy, without TensorFlow, and return what it prints."""
    start = """
import os, resource, sys
import numpy as np
from seqmnist_tf.kernel import native
random = np.random.RandomState(0)
def weights(units):
    shapes = ((1, 4 * units), (units, 4 * units), 4 * units)
    return [random.uniform(-0.1, 0.1, shape).astype(np.float32) for shape in shapes]
x = random.standard_normal((100, 784, 1)).astype(np.float32)
w = weights(128)
def states(**options): return native.forward(x, w, threads=2, **{"keep": False, **options})[0]
"""
    done = subprocess.run([sys.executable, "-c", start + code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_memory_there_is_a_memory_error() -> None:
    out = run_python("""
states()
large = weights(2048)
limit = 4096 * int(open("/proc/self/statm").read().split()[0]) + 2**26
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for attempt in (lambda: states(keep=True), lambda: native.forward(x[:1], large, threads=2, keep=False)):
    try:
        attempt()
    except MemoryError as error:
        print(error)
states()
""")
    assert "MB for the states of a recurrent layer" in out
    assert "the lstm forward pass ran out of memory" in out


def test_no_thread_is_left_and_a_fork_goes_on() -> None:
    out = run_python("""
before = len(os.listdir("/proc/self/task"))
first = states()
print("threads", len(os.listdir("/proc/self/task")) - before)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(states(), first) else 3)
print("child", os.waitpid(child, 0)[1], np.array_equal(states(), first))
""")
    assert out.split() == ["threads", "0", "child", "0", "True"]


def kernel_test(folder: Path, build: list[str], *runner: str) -> tuple[str, int]:
    """Compile the kernel's own test, run it, and return what it says and the number of the machine's cases."""
    program, source = folder / "kernel_test", ROOT / "tests" / "kernel" / "kernel_test.cpp"
    subprocess.run([*build, source, "-o", program], check=True, timeout=900)
    cases = write_cases(folder / "cases")
    command = [*runner, str(program), "quick", str(folder / "cases")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0 and not done.stderr and done.stdout.endswith("right\n"), done.stdout + done.stderr
    return done.stdout, cases


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no compiler")
def test_the_kernels_own_test_is_clean_under_sanitizers(tmp_path: Path) -> None:
    # AMX's tiles and bfloat16 are emulated: their code is tested on every processor that has AVX-512.
    build = ["g++", "-std=c++17", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-pthread"]
    out, cases = kernel_test(tmp_path, [*build, "-DLSTM_EMULATE_AMX"])
    if "avx512bw" in Path("/proc/cpuinfo").read_text():
        assert "\namx: largest relative error" in out
        assert re.search(rf"\namx: largest relative error of the machine \S+ in {cases} cases\n", out)


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-g++") and shutil.which("qemu-aarch64")),
    reason="no cross compiler and emulator of ARM64 (Debian: g++-aarch64-linux-gnu and qemu-user)",
)
def test_the_kernels_own_test_passes_on_arm(tmp_path: Path) -> None:
    build = ["aarch64-linux-gnu-g++", "-std=c++17", "-O3", "-Wall", "-Werror", "-pthread", "-static"]
    out, _ = kernel_test(tmp_path, build, "qemu-aarch64")
    for what in ("", " of the machine"):
        assert re.search(rf"^neon: largest relative error{what} \d\.\de-0[67]", out, re.MULTILINE), out


def stock_and_native() -> tuple[keras.layers.LSTM, LSTM]:
    stock = keras.layers.LSTM(32)
    stock.build((None, 50, 1))
    ours = sharing(stock)
    assert type(ours) is LSTM
    return stock, ours


def test_rows_of_the_states_may_be_selected() -> None:
    # TensorFlow then hands the gradient on as slices.
    stock, ours = stock_and_native()
    x = tf.constant(digits(9, 150)[:, 100:])

    def gradients(lstm: keras.layers.LSTM) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(keras.ops.take(lstm(x, training=True), [2, 5], axis=0) ** 2)
        return list(tape.gradient(loss, lstm.trainable_variables))

    expected = gradients(stock)
    for found in (gradients(ours), tf.function(lambda: gradients(ours), autograph=False)()):
        for a, b in zip(found, expected, strict=True):
            assert relative_error(a.numpy(), b.numpy()) < 1e-5


@pytest.mark.parametrize(
    ("n", "features", "units", "all_steps"),
    [(33, 3, 48, True), (5, 64, 32, False), (9, 130, 16, True), (26, 1, 48, False), (7, 3, 20, True), (7, 1, 1, False),
     (7, 1, 74, True)],
)  # fmt: skip
def test_features_units_and_states_of_all_steps_are_those_of_stock_keras(
    n: int, features: int, units: int, all_steps: bool
) -> None:
    keras.utils.set_random_seed(0)  # with other weights, the gradients of a single unit may nearly cancel
    stock = keras.layers.LSTM(units, return_sequences=all_steps)
    stock.build((None, 30, features))
    ours = sharing(stock)
    assert ours.trainable_variables == stock.trainable_variables
    random = np.random.RandomState(features)
    x = random.standard_normal((n, 30, features)).astype(np.float32)
    x[:, :12] = x[0, 0]  # all rows begin with the same steps
    given: list[Any] = [stock, ours]
    expected, found = (
        [
            results(functools.partial(lstm, training=True), lstm.trainable_variables, tf.constant(x), wrt_x)
            for wrt_x in (False, True)
        ]
        for lstm in given
    )
    # Tiles take gradients and features in two bfloat16, 16 bits in all: 2e-5 was seen where few terms are summed.
    limit = 5e-5 if native.instruction_set() == "amx" else 1e-5
    for a, b in zip(itertools.chain(*found), itertools.chain(*expected), strict=True):
        assert a.shape == b.shape
        assert relative_error(a, b) < limit


MAKING = threading.Lock()  # Keras's random seed and names are global


def stack() -> keras.Sequential:
    with MAKING:
        keras.utils.set_random_seed(3)
        layers = [LSTM(32, return_sequences=True), LSTM(16, return_sequences=True), LSTM(16), keras.layers.Dense(10)]
        model = keras.Sequential([keras.Input((None, 3)), *layers])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), optimizer="adam")
    return model


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list to which each backward pass adds whether it was asked for the gradient of the sequences."""
    asked: list[bool] = []
    backward = native.backward

    def record(*args: Any, **options: Any) -> Any:
        asked.append(options.get("want_sequences", False))
        return backward(*args, **options)

    monkeypatch.setattr(native, "backward", record)
    return asked


def test_a_layer_above_another_computes_both_gradients_in_one_pass(asked: list[bool]) -> None:
    model = stack()
    model.train_on_batch(np.ones((4, 20, 3), np.float32), np.arange(4))
    assert sorted(asked) == [False, True, True]


def test_states_of_all_steps_have_every_bit_the_same_for_any_number_of_threads(isa: str) -> None:
    random = np.random.RandomState(0)
    x, weights = random.standard_normal((57, 40, 20)).astype(np.float32), random_weights(64)
    x[:, :15] = x[0, 0]
    weights[0] = random.standard_normal((20, 256)).astype(np.float32) / 5
    upstream = random.standard_normal((57, 40, 64)).astype(np.float32)
    results = []
    for threads in (1, 2, 4):
        states, kept = native.forward(x, weights, threads=threads, keep=True, all_steps=True)
        assert kept is not None
        last, _ = native.forward(x, weights, threads=threads, keep=False)
        np.testing.assert_array_equal(last, states[:, -1])
        for wanted in (False, True):
            gradients = native.backward(x, weights, kept, upstream, threads=threads, want_sequences=wanted)
            results.append([states, *(g for g in gradients if g is not None)])
    for a, b in ((0, 2), (0, 4), (1, 3), (1, 5)):
        assert all(np.array_equal(p, q) for p, q in zip(results[a], results[b], strict=True))


def test_a_graph_computes_the_gradient_of_sequences_only_for_who_reads_it(asked: list[bool]) -> None:
    _, ours = stock_and_native()

    @tf.function(autograph=False)
    def gradients(x: tf.Tensor, wrt_x: bool) -> Any:
        with tf.GradientTape() as tape:
            if wrt_x:
                tape.watch(x)
            loss = tf.reduce_sum(ours(x, training=True))
        return tape.gradient(loss, x if wrt_x else ours.trainable_variables)

    x = tf.constant(digits(3, 50))
    gradients(x, False)
    assert asked == [False]
    expected = gradients(x, True)
    assert asked == [False, True]

    @tf.function(autograph=False)
    def graph(x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(ours(x, training=True))

    with tf.GradientTape() as outside:  # the layer cannot know of it
        outside.watch(x)
        loss = graph(x)
    np.testing.assert_array_equal(outside.gradient(loss, x), expected)


def losses() -> list[float]:
    """Return the losses of training a stack of LSTMs."""
    model = stack()
    x = np.random.RandomState(0).standard_normal((60, 100, 3)).astype(np.float32)
    return [float(model.train_on_batch(x, np.arange(60) % 10)) for _ in range(8)]


def test_two_models_train_in_two_threads() -> None:
    alone = losses()
    together: list[list[float]] = []
    threads = [threading.Thread(target=lambda: together.append(losses())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [alone, alone]


def in_memory(array: np.ndarray, *, aligned: bool) -> np.ndarray:
    """Return a copy that TensorFlow uses where it lies, or one that it has to copy into memory of its own."""
    memory = np.empty(array.size + 32, np.float32)
    start = -memory.ctypes.data % 64 // 4 + (0 if aligned else 1)
    copy = memory[start : start + array.size].reshape(array.shape)
    copy[...] = array
    return copy


def test_gradients_of_noisy_parts_are_added_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    config = cfg.with_values(cfg.preset("strong"), {"model.hidden_size": 16, "train.kernel": "native"})
    x, y = digits(40), np.arange(40, dtype=np.int32) % 10
    model = MeasuredSequential.of(build_model(config), choose_kernel(config))
    model.noise = RecurrentNoise((config.train.recurrent_noise,))
    compile_model(model, config)
    model.optimizer.build(model.trainable_variables)
    variables = [*model.weights, *model.optimizer.variables]
    start = [variable.numpy() for variable in variables]
    backward, found = native.backward, set()
    for copied in range(-1, cfg.NOISY_PARTS):
        calls = iter(range(cfg.NOISY_PARTS))

        def placed(*args: Any, copied: int = copied, calls: Any = calls, **options: Any) -> Any:
            aligned = next(calls) != copied
            return [of if of is None else in_memory(of, aligned=aligned) for of in backward(*args, **options)]

        monkeypatch.setattr(native, "backward", placed)
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        model.train_on_batch(x, y)
        assert next(calls, None) is None
        found.add(b"".join(weights.tobytes() for weights in model.get_weights()))
    assert len(found) == 1


NATIVE = (*SMALL, "--model.hidden-size=16", "--train.n-epochs=1", "--train.shuffle=true")


def test_a_run_trains_on_the_kernel_and_leaves_stock_keras(command: Any, in_tmp: Path, toy: None) -> None:
    result = command(train_main, *NATIVE, "--run-dir=one")
    assert result.status == 0
    assert f"LSTM on the native kernel ({native.instruction_set()})\n" in result.out
    command(train_main, *NATIVE, "--run-dir=stock", "--train.kernel=keras")
    ours, stock = RunDirectory(Path("one")), RunDirectory(Path("stock"))
    assert ours.environment["kernel"] == f"native-{native.instruction_set()}"
    assert stock.environment["kernel"] == "keras"
    assert ours.environment["config_id"] == stock.environment["config_id"]
    for a, b in zip(ours.history(), stock.history(), strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-5)
        assert a["test_loss"] == pytest.approx(b["test_loss"], rel=1e-5)
    assert type(load_final_model(ours).layers[0]) is keras.layers.LSTM


def test_without_a_kernel_auto_is_stock_keras_and_native_an_error(
    command: Any, in_tmp: Path, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "source_hash", lambda: "changed since")
    native.library.cache_clear()
    try:
        result = command(train_main, *NATIVE, "--run-dir=auto")
        assert result.status == 0
        slow = "on stock Keras, on a CPU several times slower than the native kernel: the native kernel is not"
        assert result.out.count(slow) == 1
        assert "was compiled from other sources (python -m pip install -e . compiles it again)" in result.out
        refused = command(train_main, *NATIVE, "--run-dir=native", "--train.kernel=native")
        assert refused.status == 2
        assert refused.err.startswith("error: train.kernel must be auto or keras here (got 'native'): the native")
        assert not Path("native").exists()
    finally:
        native.library.cache_clear()


def test_the_instruction_set_can_be_chosen(command: Any, in_tmp: Path, toy: None, monkeypatch: Any) -> None:
    monkeypatch.setenv("SEQMNIST_ISA", "sse")
    refused = command(train_main, *NATIVE, "--run-dir=run")
    assert (refused.status, refused.err) == (2, "error: SEQMNIST_ISA must be avx2, avx512, amx or neon (got 'sse')\n")
    for isa in set(native.ISAS) - set(isas()):
        monkeypatch.setenv("SEQMNIST_ISA", isa)
        with pytest.raises(InputError, match=f"this machine does not support {isa}, the value of SEQMNIST_ISA"):
            choose_kernel(cfg.with_values(Config(), {"train.kernel": "native"}))


def test_a_gpu_is_left_to_stock_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [kind])
    kernel = choose_kernel(Config())
    assert kernel == Kernel(None, "there is a GPU, on which stock Keras uses cuDNN")


@pytest.mark.network
def test_an_installation_without_a_compiler_succeeds(tmp_path: Path) -> None:
    names = build_wheel(tmp_path, "/bin/false").namelist()
    assert not any(name.endswith(".so") for name in names)
    assert "seqmnist_tf/kernel/cpp/lstm.cpp" in names


@pytest.mark.network
@pytest.mark.skipif(platform.machine() != "x86_64" or not shutil.which("g++"), reason="of g++ on x86-64")
def test_an_assembler_without_tile_instructions_gives_a_kernel_without_amx(tmp_path: Path) -> None:
    compiler = tmp_path / "old"
    parts = "avx512f+avx512bw+avx512dq+avx512vl+avx512_bf16+avx512_vnni+fma+noamx_tile"
    compiler.write_text(f'#!/bin/sh\nexec g++ "$@" -Wa,-march=generic64+{parts}\n')
    compiler.chmod(0o755)
    file = build_wheel(tmp_path, str(compiler)).extract("seqmnist_tf/kernel/_lstm.so", tmp_path)
    library = ctypes.CDLL(file)
    supported = [isa for number, isa in enumerate(native.ISAS) if library.seqmnist_lstm_supported(number)]
    assert supported == [isa for isa in isas() if isa != "amx"]


def build_wheel(folder: Path, compiler: str) -> zipfile.ZipFile:
    """Build the wheel with a compiler."""
    environment = {**os.environ, "CXX": compiler, "CC": compiler}
    clone = folder / "clone"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(".*", "*.so", "*.egg-info", "build", "runs"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(clone)]
    subprocess.run(build, check=True, env=environment, timeout=280)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def small_model() -> tuple[keras.Sequential, tf.Tensor]:
    model = keras.Sequential([keras.Input((5, 1)), LSTM(16), keras.layers.Dense(3)])
    return model, tf.constant(np.random.RandomState(0).standard_normal((4, 5, 1)).astype(np.float32))


def test_a_custom_training_step_uses_the_kernel_and_cannot_be_saved(tmp_path: Path) -> None:
    _, ours = stock_and_native()
    x = tf.constant(digits(3, 20))
    module = tf.Module()
    module.layer_weights = [weight.value for weight in ours.weights]
    module.step = tf.function(lambda x: ours(x, training=True))
    np.testing.assert_array_equal(module.step(x), ours(x))
    for signatures in (None, module.step.get_concrete_function(tf.TensorSpec((3, 20, 1), tf.float32))):
        with pytest.raises((AssertionError, KeyError), match="the_native_kernel_is_in_this_process_alone"):
            tf.saved_model.save(module, str(tmp_path / "saved"), signatures=signatures)


def test_fit_and_predict_use_the_kernel_on_the_threads_of_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: set[tuple[str, int, bool]] = set()
    call = native.call

    def record(name: str, isa: int, threads: int, *values: Any) -> None:
        calls.add((name, threads, values[-4] is not None))  # of a forward pass, what it keeps
        call(name, isa, threads, *values)

    layers = [LSTM(16, threads=3, return_sequences=True), GRU(8, threads=5), keras.layers.Dense(3)]
    model, x = keras.Sequential([keras.Input((5, 1)), *layers]), small_model()[1]
    model.compile(loss="mse", optimizer="sgd")
    model(x)  # the GRU's cell is translated
    monkeypatch.setattr(native, "call", record)
    model.predict(x, verbose=0)
    assert calls == {("lstm_forward", 3, False), ("machine_forward", 5, False)}
    calls.clear()
    model.fit(x, np.zeros((4, 3)), verbose=0)
    forward = {("lstm_forward", 3, True), ("machine_forward", 5, True)}
    assert calls == forward | {("lstm_backward", 3, False), ("machine_backward", 5, False)}


def test_gradients_of_gradients_are_an_error_and_forward_mode_is_stock_keras() -> None:
    model, x = small_model()
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(model(x) ** 2)
        total = tf.reduce_sum(inner.gradient(loss, x) ** 2)
    with pytest.raises(NotImplementedError, match="first-order gradients only; use keras"):
        outer.gradient(total, x)

    stock = keras.Sequential([keras.Input((5, 1)), keras.layers.LSTM(16), keras.layers.Dense(3)])
    stock.set_weights(model.get_weights())
    products = []
    with pytest.warns(UserWarning, match="the kernel has no forward-mode gradients"):
        for each in (model, stock):
            with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
                logits = each(x)
            products.append(accumulator.jvp(logits))
    np.testing.assert_allclose(products[0], products[1], rtol=1e-5)
    assert np.abs(products[1]).max() > 0


def test_memory_that_returns_is_kept_up_to_a_limit_but_for_the_two_latest() -> None:
    def free_after(number: int, megabytes: float) -> list[int]:
        native._free.clear()
        taken = [native.take(int(megabytes * 2**18)) for _ in range(number)]
        taken.clear()
        return [len(memory) >> 20 for memory in native._free]

    assert free_after(6, 100) == [100] * 5  # 512 MiB at most
    assert free_after(3, 600) == [600] * 2
    native._free.clear()
