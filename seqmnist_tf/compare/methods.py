"""The methods of a comparison, as a paragraph to paste into a paper, with its references."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import NUM_TIMESTEPS, NUM_TRAIN, Config, Optimizer
from .comparison import ArmResult, Comparison
from .references import REFERENCES
from .statistics import BCA, BOOTSTRAP_FROM, ENUMERATED, FLIPS, RESAMPLES
from .wording import count_of, seeds_needed, tested_pairs

LAYER_REFERENCES = {"LSTM": "hochreiter1997", "GRU": "cho2014", "SimpleRNN": "elman1990"}
ORDER_REFERENCES = {"urnn92916": "wisdom2016", "bit_reversal": "gu2022"}


def methods_paragraph(comparison: Comparison) -> str:
    """Return how the numbers of a comparison were made, in LaTeX-free prose."""
    arms = comparison.arms
    parts = [_task(arms[0].config), _models(arms), _recipe(arms), _selection(arms)]
    if any(arm.n > 1 for arm in arms):
        parts.append(
            "Accuracies are given as mean ± standard deviation over seeds, with a 95 % interval of the mean by "
            "Student's t, for these test images."
        )
    if any(pair.n > 1 for pair in comparison.pairs):
        parts.append(_tests(comparison))
    commits = sorted({commit for arm in arms for commit in arm.commits})
    parts.append(f"Code: seqmnist_tf, {'commit' if len(commits) == 1 else 'commits'} {', '.join(commits)}.")
    return " ".join(parts)


def bibtex(comparison: Comparison) -> str:
    """Return the references of a comparison as BibTeX."""
    keys = ["lecun1998", "le2015"]
    for arm in comparison.arms:
        config = arm.config
        keys += [LAYER_REFERENCES.get(config.model.layer, ""), ORDER_REFERENCES.get(config.task.permutation, "")]
        keys += ["tallec2018"] * (config.model.forget_bias == "chrono") + ["student1908"] * (arm.n > 1)
        keys += ["jim1996"] * bool(arm.noise)
        keys += _optimizer_references(config.optimizer)
    if several := [pair for pair in comparison.pairs if pair.n > 1]:
        keys += ["fisher1935", "mcnemar1947"] + ["holm1979"] * (len(tested_pairs(several)) > 1)
        keys += ["efron1987"] * any(pair.ci_method == BCA for pair in comparison.pairs)
        keys += ["tarone1990"] * (len(several) > 1 and any(pair.holm_p is None for pair in several))
    return "\n".join(REFERENCES[key] for key in REFERENCES if key in keys)


def _optimizer_references(optimizer: Optimizer) -> list[str]:
    used = {
        "kingma2015": optimizer.name == "Adam",
        "pascanu2013": optimizer.grad_clip_norm is not None,
        "loshchilov2017": optimizer.schedule == "cosine",
        "loshchilov2019": optimizer.weight_decay > 0,
        "polyak1992": optimizer.ema_momentum is not None,
    }
    return [key for key, is_used in used.items() if is_used]


def _task(config: Config) -> str:
    order = {"none": "row by row", "bit_reversal": "in bit-reversed order"}.get(
        config.task.permutation, f"in the fixed permuted order {config.task.permutation}"
    )
    scaled = "pixels from 0 to 1; " if config.task.normalization == "unit" else ""
    held_out = f", {config.task.validation_size:,} held out" if config.task.validation_size else ""
    return (
        f"Each model reads the {NUM_TIMESTEPS} pixels of an MNIST image one at a time, {order}, and classifies the "
        f"digit from its last state ({scaled}{config.num_train:,} training images{held_out}; {config.num_test:,} test "
        "images)."
    )


def _models(arms: Sequence[ArmResult]) -> str:
    described = [
        f"{arm.name} ({_layer_name(arm.config)}, {count_of(arm.units, 'unit')}, {arm.num_params:,} parameters)"
        for arm in arms
    ]
    return f"A dense layer with ten outputs follows the recurrent layer: {', '.join(described)}."


def _layer_name(config: Config) -> str:
    return config.model.layer.rpartition(":")[2]


def _recipe(arms: Sequence[ArmResult]) -> str:
    """Return what the recipes of all arms have in common, and what each has beside it."""
    parts = {arm.name: _recipe_parts(arm.config, arm.noise) for arm in arms}
    shared = [part for part in parts[arms[0].name] if all(part in others for others in parts.values())]
    if not shared:
        return " ".join(f"Training of {name}: {', '.join(own)}." for name, own in parts.items())
    by_arms: dict[tuple[str, ...], list[str]] = {}
    for part in dict.fromkeys(part for own in parts.values() for part in own if part not in shared):
        by_arms.setdefault(tuple(name for name, own in parts.items() if part in own), []).append(part)
    only = [f"Only for {' and '.join(names)}: {', '.join(own)}." for names, own in by_arms.items()]
    return " ".join([f"Training: {', '.join(shared)}.", *only])


def describe_recipe(config: Config) -> str:
    """Return how a configuration trains, in words, with the defaults that papers often leave out.

    Example:
        >>> describe_recipe(Config())[:26]
        'RMSProp, learning rate 0.0'
    """
    parts = _recipe_parts(config, config.train.recurrent_noise)
    if config.num_train != NUM_TRAIN:
        parts.append(f"{config.num_train:,} training images")
    if config.task.normalization == "unit":
        parts.append("pixels from 0 to 1")
    return ", ".join(parts)


def _recipe_parts(config: Config, noise: float) -> list[str]:
    opt, train, model = config.optimizer, config.train, config.model
    parts = [
        f"{opt.name}, learning rate {opt.lr:g}{' with a cosine schedule' if opt.schedule == 'cosine' else ''}",
        f"batches of {train.batch_size}",
        count_of(train.n_epochs, "epoch"),
    ]
    if opt.weight_decay:
        parts.append(f"decoupled weight decay {opt.weight_decay:g}")
    if opt.grad_clip_norm is not None:
        parts.append(f"gradients clipped to norm {opt.grad_clip_norm:g}")
    if opt.grad_clip_value is not None:
        parts.append(f"gradient elements clipped to {opt.grad_clip_value:g}")
    parts.append("images in a new order each epoch" if train.shuffle else "images in published order")
    if noise:
        parts.append(f"noise of standard deviation {noise:g} on recurrent weights")
    if model.initializer == "torch":
        parts.append("PyTorch's initial weights")
    if model.forget_bias == "chrono":
        parts.append("chrono initialisation")
    elif model.forget_bias is not None:
        parts.append(f"initial forget bias {model.forget_bias:g}")
    elif model.layer == "LSTM" and model.initializer == "keras":
        parts.append("initial forget bias 1")
    return parts + _optimizer_parts(config)


def _optimizer_parts(config: Config) -> list[str]:
    """Return the constants of the optimizer, and the settings that few recipes change, where they are changed."""
    opt, default = config.optimizer, Config().optimizer
    parts = []
    if opt.name == "RMSProp":
        parts += [f"rho {opt.rho:g}", f"epsilon {opt.epsilon:g} {opt.epsilon_placement} the root"]
    if opt.name == "Adam":
        parts += [f"betas {opt.beta_1:g} and {opt.beta_2:g}", f"epsilon {opt.epsilon:g}"]
    if opt.momentum:
        parts.append(f"momentum {opt.momentum:g}")
    if opt.bias_rate != default.bias_rate:
        parts.append(f"{opt.bias_rate:g} times the learning rate for the LSTM's bias")
    if opt.ema_momentum is not None:
        parts.append(f"an exponential moving average of the weights with momentum {opt.ema_momentum:g}")
    if config.train.precision != "float32":
        parts.append(f"products of the LSTM in {config.train.precision}")
    return parts


def _selection(arms: Sequence[ArmResult]) -> str:
    seeds = sorted({arm.n for arm in arms})
    several = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else count_of(seeds[0], "seed")
    return f"Each model was trained with {several}; reported is the test accuracy after the final epoch, not the best."


def _tests(comparison: Comparison) -> str:
    reference, pairs = comparison.arms[0].name, [pair for pair in comparison.pairs if pair.n > 1]
    sizes = [pair.n for pair in pairs]
    methods = []
    if any(pair.ci_method == BCA for pair in pairs):
        methods.append(f"the BCa bootstrap over seeds ({RESAMPLES:,} resamples)")
    if any(pair.ci_method != BCA for pair in pairs):
        methods.append(f"Student's t{f' (fewer than {BOOTSTRAP_FROM} pairs)' if min(sizes) < BOOTSTRAP_FROM else ''}")
    flips = "all sign flips, enumerated"
    if max(sizes) > ENUMERATED:
        flips = f"{FLIPS:,} random sign flips"
        if min(sizes) <= ENUMERATED:
            flips += f"; up to {ENUMERATED} pairs all sign flips, enumerated"
    tested = tested_pairs(pairs)
    corrected = f", with Holm's correction over {len(tested)} pairs" if len(tested) > 1 else ""
    if corrected and len(tested) < len(pairs):
        corrected += f" of at least {seeds_needed(1)} unequal seeds"
    return (
        f"Differences from {reference} are paired by seed. Their 95 % intervals are by {' or '.join(methods)}; p "
        f"values are of the two-sided sign-flip test ({flips}){corrected}. For each seed McNemar's exact test"
        " compares the two models on the same test images."
    )
