"""How a row of a table names the task and the layer of an experiment."""

from __future__ import annotations

from ..config import NUM_TEST, NUM_TRAIN, Config

LATEX = str.maketrans(
    {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {character: f"\\{character}" for character in "&%$#_{}"}
)


def escape_latex(text: str) -> str:
    r"""Return text with the characters that LaTeX treats as commands escaped.

    Example:
        >>> escape_latex("my_layer 50 %")
        'my\\_layer 50 \\%'
    """
    return text.translate(LATEX)


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
