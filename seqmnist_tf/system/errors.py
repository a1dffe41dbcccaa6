"""The two ways in which a command fails, and the first line of any other exception."""

import re


class InputError(ValueError):
    """Bad input. The message is one line: what was given and what is allowed. Commands exit with status 2."""


class RunError(RuntimeError):
    """Failure while running. The message is one line: what happened and what to do. Commands exit with status 1."""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, without the names of operations that TensorFlow adds.

    Of an error in a graph, it is the line after the places in the code; of one in a layer, the line after Keras's own.
    """
    text = str(error).split("<stack traces unavailable>")[-1]
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*|\x1b\[\d+m", "", text).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip() not in ("", "[[]]")]
    if lines and lines[0] == "Graph execution error:":
        return lines[-1]
    if lines and lines[0].startswith("Exception encountered when calling"):
        lines = lines[1:]
    return (lines or [type(error).__name__])[0]
