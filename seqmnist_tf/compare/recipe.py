"""What a row of a table or a caption says of an experiment: its task, its layer, and how it was trained."""

from __future__ import annotations

from ..config import NUM_TEST, NUM_TRAIN, Config
from .runs import count_of

SPECIAL: dict[str, str | int | None] = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def escape_latex(text: str) -> str:
    r"""Return text with the characters that LaTeX treats as commands escaped.

    Example:
        >>> escape_latex("my_layer 50 %")
        'my\\_layer 50 \\%'
    """
    return text.translate(str.maketrans(SPECIAL))


def task_name(config: Config) -> str:
    """Return the task's usual name, with the pixel order where there is one, and with a part of the images.

    Example:
        >>> task_name(Config())
        'sMNIST'
    """
    task = config.task
    parts = ["sMNIST" if task.permutation == "none" else f"psMNIST ({task.permutation})"]
    if config.num_train != NUM_TRAIN - task.validation_size:
        parts.append(f"{config.num_train:,} training images")
    if config.num_test != NUM_TEST:
        parts.append(f"{config.num_test:,} test images")
    return ", ".join(parts)


def layer_name(config: Config) -> str:
    """Return the name of the layer, without its file or module."""
    return config.model.layer.rpartition(":")[2]


def describe_recipe(config: Config) -> str:
    """Return how a configuration trains, in words, with the defaults that papers often leave out.

    Example:
        >>> describe_recipe(Config())[:26]
        'RMSProp, learning rate 0.0'
    """
    parts = recipe_parts(config, config.recurrent_noise)
    if config.num_train != NUM_TRAIN:
        parts.append(f"{config.num_train:,} training images")
    if config.task.normalization == "unit":
        parts.append("pixels from 0 to 1")
    return ", ".join(parts)


def after_first_looks(config: Config) -> str:
    """Return what a recipe has in common with ``strong``, where it was chosen after looks at test accuracies.

    Example:
        >>> after_first_looks(preset("strong")), after_first_looks(Config())
        ('chrono, Adam, schedule and clip by the norm', '')
    """
    opt = config.optimizer
    if (opt.name, opt.schedule) != ("Adam", "cosine") or opt.grad_clip_norm is None:
        return ""
    return f"{'chrono, ' * (config.model.forget_bias == 'chrono')}Adam, schedule and clip by the norm"


def recipe_parts(config: Config, noise: float) -> list[str]:
    """Return the parts of a recipe; ``noise`` is ``recurrent_noise``, where it acts on recurrent weights, else 0."""
    opt, train, model = config.optimizer, config.train, config.model
    parts = [
        f"{opt.name}, learning rate {opt.lr:g}{' with a cosine schedule' if opt.schedule == 'cosine' else ''}"
        + (f" after a warm-up of {opt.warmup_steps:,} steps" if opt.warmup_steps else ""),
        f"batches of {train.batch_size}",
        count_of(train.n_epochs, "epoch"),
    ]
    if opt.weight_decay:
        parts.append(f"decoupled weight decay {opt.weight_decay:g} (of matrices only)")
    if opt.grad_clip_norm is not None:
        parts.append(f"gradients clipped to norm {opt.grad_clip_norm:g}")
    if opt.grad_clip_value is not None:
        parts.append(f"gradient elements clipped to {opt.grad_clip_value:g}")
    parts.append("images in a new order each epoch" if train.shuffle else "images in published order")
    if noise:
        unit = " times each matrix's initial one" if train.recurrent_noise_relative else ""
        text = f"noise of standard deviation {noise:g}{unit} on recurrent weights (new for each quarter of a batch)"
        parts.append(text)
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
        parts += [f"betas {opt.beta_1:g} and {opt.beta_2:g}", f"epsilon {opt.epsilon:g} outside the root"]
    if opt.momentum:
        parts.append(f"momentum {opt.momentum:g}")
    if opt.bias_rate != default.bias_rate:
        parts.append(f"{opt.bias_rate:g} times the learning rate for the LSTM's bias")
    if opt.ema_momentum is not None:
        parts.append(f"an exponential moving average of the weights with momentum {opt.ema_momentum:g}")
    return parts
