"""The search space: its default, what it refuses, what its values set, its edges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqmnist_tf import config as cfg
from seqmnist_tf.config import PRESETS, Config
from seqmnist_tf.system import InputError
from seqmnist_tf.tune import DEFAULT_SPACE, Dimension, SearchFolder, parse_space
from seqmnist_tf.tune.oracle import declare_space


def rows(**document: Any) -> tuple[Dimension, ...]:
    return parse_space({name.replace("__", "."): row for name, row in document.items()})


def test_the_default_has_a_reason_for_each_row() -> None:
    parsed = parse_space(DEFAULT_SPACE)
    assert all(len(row.reason) > 20 for row in parsed)
    recipes = [cfg.flatten(PRESETS[name].config) for name in ("baseline", "strong", "strong_permuted", "sprint")]
    for row in parsed:  # the project's own recipes are in it, so that a search for another layer can find as much
        for recipe in recipes:
            if row.low is not None and row.high is not None:
                assert row.low <= recipe[row.name] <= row.high, row.name
            elif row.name in recipe:  # a forget bias of null is Keras's 1
                value = 1 if recipe[row.name] is None else recipe[row.name]
                assert {row.name: value} in row.choices.values(), row.name
    assert parse_space(json.loads(json.dumps(DEFAULT_SPACE))) == parsed


def test_values_become_settings() -> None:
    search = SearchFolder(Path(), "random", Config(), parse_space(DEFAULT_SPACE), {}, None)
    values: dict[str, Any] = {
        "optimizer.name": '"RMSProp"',
        "optimizer.lr": 0.002,
        "optimizer.rho": "0.99",
        "clipping": "grad_clip_norm=0.1",
        "model.forget_bias": '"chrono"',
        "train.batch_size": "50",
    }
    config = search.config(values)
    assert (config.optimizer.lr, config.optimizer.rho, config.train.batch_size) == (0.002, 0.99, 50)
    assert (config.optimizer.grad_clip_value, config.optimizer.grad_clip_norm) == (None, 0.1)
    assert config.model.forget_bias == "chrono"
    adam = search.config({**values, "optimizer.name": '"Adam"'})
    assert (adam.optimizer.name, adam.optimizer.rho) == ("Adam", 0.9)  # rho applies with RMSProp only


def test_edges() -> None:
    log, linear, choices = rows(
        optimizer__lr={"low": 1e-4, "high": 1e-2, "scale": "log"},
        optimizer__rho={"low": 0.5, "high": 0.9},
        train__batch_size={"choices": [200, 50, 100]},
    )
    assert [log.at_edge(value) for value in (1.1e-4, 1e-3, 9.5e-3)] == ["low", None, "high"]
    assert [linear.at_edge(value) for value in (0.51, 0.7, 0.89)] == ["low", None, "high"]
    assert choices.at_edge("50") is None


def test_constants_of_a_layer() -> None:
    dt, n, mode = rows(
        model__layer_options__dt={"low": 0.05, "high": 1},
        model__layer_options__n={"low": 1, "high": 3},
        model__layer_options__mode={"choices": ["a", True, 1.5]},
    )
    assert (dt.integer, n.integer, dt.at_edge(0.06)) == (False, True, "low")
    base = cfg.with_values(Config(), {"model.layer": "m:f", "model.layer_options": {"k": 1, "n": 1}})
    search = SearchFolder(Path(), "random", base, (dt, n, mode), {}, None)
    config = search.config({dt.name: 0.5, n.name: 2.0, mode.name: "true"})
    assert config.model.layer_options == {"k": 1, "n": 2, "dt": 0.5, "mode": True}


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"optimizer.lr": 1}, "optimizer.lr"),
        ({"optimizer.lrr": {"low": 1, "high": 2}}, "optimizer.lrr"),
        ({"optimizer.lr": {"low": 1}}, "optimizer.lr"),
        ({"model.layer_options.dt": {"low": 1, "high": 0.1}}, "model.layer_options.dt"),
        ({"optimizer.lr": {"low": -1, "high": 1}}, "optimizer.lr"),
        ({"optimizer.rho": {"low": 0, "high": 0.9, "scale": "log"}}, "optimizer.rho"),
        ({"optimizer.lr": {"choices": []}}, "optimizer.lr"),
        ({"optimizer.lr": {"choices": [1], "colour": 2}}, "optimizer.lr in the search space: .*colour"),
        ({"optimizer.name": {"choices": ["Adagrad"]}}, "optimizer.name"),
        ({"task.limit_train": {"choices": [1, 2]}}, "task.limit_train is fixed"),
        ({"clip": {"choices": [{"train.seed": 1}]}}, "train.seed is fixed"),
        ({"optimizer.rho": {"choices": [0.9], "only_with": {"optimizer.name": "Adam"}}}, "optimizer.rho"),
    ],
)
def test_what_cannot_be_searched_is_refused(document: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        declare_space(parse_space(document))
