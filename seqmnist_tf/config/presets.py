"""Named configurations, each a change of ``baseline``."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from ..system import InputError
from .sections import Config, Model, Optimizer, Task, Train


class Preset(NamedTuple):
    """A named configuration, and a line for ``--help``; docs/training.md says more of it."""

    config: Config
    title: str


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
    "baseline": Preset(_BASELINE, "the original's recipe: RMSprop, lr 0.001, clipvalue 1, 100 epochs"),
    "adam": Preset(replace(_BASELINE, optimizer=Optimizer(name="Adam")), "baseline with Adam"),
    "sgd": Preset(replace(_BASELINE, optimizer=Optimizer(name="SGD")), "baseline with SGD; stays at chance"),
    "original": Preset(
        replace(
            _BASELINE,
            model=Model(initializer="torch"),
            optimizer=Optimizer(rho=0.99, epsilon=1e-8, epsilon_placement="outside", bias_rate=2.0),
        ),
        "the original's recipe as PyTorch computes it, step for step",
    ),
    "strong": Preset(_STRONG, "the same LSTM(128), trained to generalise: chrono, Adam, 40 epochs"),
    "strong_permuted": Preset(
        replace(_FASTER, task=Task(permutation="urnn92916")),
        "strong for permuted pixels: a higher learning rate, less noise",
    ),
    "sprint": Preset(
        replace(_FASTER, train=replace(_FASTER.train, n_epochs=6)),
        "strong in 6 epochs: a higher learning rate, less noise",
    ),
    "gru": Preset(
        replace(_STRONG, model=Model(layer="GRU", match_parameters=67_850, forget_bias="chrono")),
        "strong with a GRU of as many parameters",
    ),
    "quickstart": Preset(
        replace(
            _BASELINE,
            model=Model(forget_bias="chrono"),
            optimizer=Optimizer(name="Adam", lr=0.005, grad_clip_value=None, grad_clip_norm=1.0, schedule="cosine"),
            train=Train(n_epochs=3, shuffle=True),
        ),
        "a first run that visibly learns: chrono, Adam, 3 epochs",
    ),
    "sprint_15": Preset(replace(_FASTER, train=replace(_FASTER.train, n_epochs=15)), "sprint in 15 epochs"),
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
