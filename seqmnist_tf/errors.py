"""The two ways in which a command fails, and what exceptions of others say in one line."""

import re


class InputError(ValueError):
    """Bad input: one line that says what was given and what is allowed. Commands exit 2 with it."""


class RunError(RuntimeError):
    """Failed while running: one line that says what happened and what to do. Commands exit 1 with it."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says, without the operations that TensorFlow names around it."""
    text = str(error).split("<stack traces unavailable>")[-1]
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", text).strip()
    return (text.splitlines() or [type(error).__name__])[0]
