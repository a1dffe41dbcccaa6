"""The two ways in which a command fails."""


class InputError(ValueError):
    """Bad input: one line that says what was given and what is allowed. Commands exit 2 with it."""


class RunError(RuntimeError):
    """Failed while running: one line that says what happened and what to do. Commands exit 1 with it."""
