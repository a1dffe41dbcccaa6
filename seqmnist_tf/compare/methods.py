"""The methods of a comparison, as a paragraph to paste into a paper, with its references."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import NUM_TIMESTEPS, Config, Optimizer
from .comparison import ArmResult, Comparison
from .statistics import BCA, BOOTSTRAP_FROM, ENUMERATED, FLIPS, RESAMPLES
from .wording import count_of, seeds_needed, tested_pairs

REFERENCES = {
    "lecun1998": """@article{lecun1998,
  author  = {LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick},
  title   = {Gradient-based learning applied to document recognition},
  journal = {Proceedings of the IEEE}, volume = {86}, number = {11}, pages = {2278--2324}, year = {1998}
}""",
    "le2015": """@misc{le2015,
  author = {Le, Quoc V. and Jaitly, Navdeep and Hinton, Geoffrey E.},
  title  = {A simple way to initialize recurrent networks of rectified linear units},
  year   = {2015}, eprint = {1504.00941}, archiveprefix = {arXiv}
}""",
    "hochreiter1997": """@article{hochreiter1997,
  author  = {Hochreiter, Sepp and Schmidhuber, J{\\"u}rgen},
  title   = {Long short-term memory},
  journal = {Neural Computation}, volume = {9}, number = {8}, pages = {1735--1780}, year = {1997}
}""",
    "cho2014": """@inproceedings{cho2014,
  author    = {Cho, Kyunghyun and van Merri{\\"e}nboer, Bart and Gulcehre, Caglar and Bahdanau, Dzmitry and
               Bougares, Fethi and Schwenk, Holger and Bengio, Yoshua},
  title     = {Learning phrase representations using {RNN} encoder-decoder for statistical machine translation},
  booktitle = {EMNLP}, pages = {1724--1734}, year = {2014}
}""",
    "elman1990": """@article{elman1990,
  author  = {Elman, Jeffrey L.},
  title   = {Finding structure in time},
  journal = {Cognitive Science}, volume = {14}, number = {2}, pages = {179--211}, year = {1990}
}""",
    "wisdom2016": """@inproceedings{wisdom2016,
  author    = {Wisdom, Scott and Powers, Thomas and Hershey, John R. and Le Roux, Jonathan and Atlas, Les},
  title     = {Full-capacity unitary recurrent neural networks},
  booktitle = {NIPS}, year = {2016}
}""",
    "gu2022": """@inproceedings{gu2022,
  author    = {Gu, Albert and Goel, Karan and R{\\'e}, Christopher},
  title     = {Efficiently modeling long sequences with structured state spaces},
  booktitle = {ICLR}, year = {2022}
}""",
    "tallec2018": """@inproceedings{tallec2018,
  author    = {Tallec, Corentin and Ollivier, Yann},
  title     = {Can recurrent neural networks warp time?},
  booktitle = {ICLR}, year = {2018}
}""",
    "jim1996": """@article{jim1996,
  author  = {Jim, Kam-Chuen and Giles, C. Lee and Horne, Bill G.},
  title   = {An analysis of noise in recurrent neural networks: convergence and generalization},
  journal = {IEEE Transactions on Neural Networks}, volume = {7}, number = {6}, pages = {1424--1438}, year = {1996}
}""",
    "kingma2015": """@inproceedings{kingma2015,
  author    = {Kingma, Diederik P. and Ba, Jimmy},
  title     = {Adam: a method for stochastic optimization},
  booktitle = {ICLR}, year = {2015}
}""",
    "pascanu2013": """@inproceedings{pascanu2013,
  author    = {Pascanu, Razvan and Mikolov, Tomas and Bengio, Yoshua},
  title     = {On the difficulty of training recurrent neural networks},
  booktitle = {ICML}, pages = {1310--1318}, year = {2013}
}""",
    "loshchilov2017": """@inproceedings{loshchilov2017,
  author    = {Loshchilov, Ilya and Hutter, Frank},
  title     = {{SGDR}: stochastic gradient descent with warm restarts},
  booktitle = {ICLR}, year = {2017}
}""",
    "loshchilov2019": """@inproceedings{loshchilov2019,
  author    = {Loshchilov, Ilya and Hutter, Frank},
  title     = {Decoupled weight decay regularization},
  booktitle = {ICLR}, year = {2019}
}""",
    "polyak1992": """@article{polyak1992,
  author  = {Polyak, Boris T. and Juditsky, Anatoli B.},
  title   = {Acceleration of stochastic approximation by averaging},
  journal = {SIAM Journal on Control and Optimization}, volume = {30}, number = {4}, pages = {838--855}, year = {1992}
}""",
    "fisher1935": """@book{fisher1935,
  author = {Fisher, Ronald A.}, title = {The design of experiments}, publisher = {Oliver and Boyd}, year = {1935}
}""",
    "holm1979": """@article{holm1979,
  author  = {Holm, Sture},
  title   = {A simple sequentially rejective multiple test procedure},
  journal = {Scandinavian Journal of Statistics}, volume = {6}, number = {2}, pages = {65--70}, year = {1979}
}""",
    "tarone1990": """@article{tarone1990,
  author  = {Tarone, Robert E.},
  title   = {A modified {Bonferroni} method for discrete data},
  journal = {Biometrics}, volume = {46}, number = {2}, pages = {515--522}, year = {1990}
}""",
    "student1908": """@article{student1908,
  author  = {Student},
  title   = {The probable error of a mean},
  journal = {Biometrika}, volume = {6}, number = {1}, pages = {1--25}, year = {1908}
}""",
    "efron1987": """@article{efron1987,
  author  = {Efron, Bradley},
  title   = {Better bootstrap confidence intervals},
  journal = {Journal of the American Statistical Association}, volume = {82}, number = {397}, pages = {171--185},
  year    = {1987}
}""",
    "mcnemar1947": """@article{mcnemar1947,
  author  = {McNemar, Quinn},
  title   = {Note on the sampling error of the difference between correlated proportions or percentages},
  journal = {Psychometrika}, volume = {12}, number = {2}, pages = {153--157}, year = {1947}
}""",
}
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
    if any(pair.n > 1 for pair in comparison.pairs):
        keys += ["fisher1935", "mcnemar1947"] + ["holm1979"] * (len(tested_pairs(comparison.pairs)) > 1)
        keys += ["efron1987"] * any(pair.ci_method == BCA for pair in comparison.pairs)
        keys += ["tarone1990"] * any(pair.n > 1 and pair.holm_p is None for pair in comparison.pairs)
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
    sentences = [f"Training: {', '.join(shared)}."] if shared else []
    for name, own in parts.items():
        if rest := [part for part in own if part not in shared]:
            sentences.append(f"{'Only for' if shared else 'Training of'} {name}: {', '.join(rest)}.")
    return " ".join(sentences)


def describe_recipe(config: Config) -> str:
    """Return how a configuration trains, in words, with the defaults that papers often leave out.

    Example:
        >>> describe_recipe(Config())[:26]
        'RMSProp, learning rate 0.0'
    """
    return ", ".join(_recipe_parts(config, config.train.recurrent_noise))


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
