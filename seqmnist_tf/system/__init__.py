"""The computer, and nothing of the experiment: command lines, console, files, git, TensorFlow's start.

Read ``console`` (errors and output), ``command`` (parser and exit status), ``files``, ``formats``, ``environment``
(what a run records of the machine), ``tensorflow_start``, then ``lazy_imports`` (names imported when first asked for).
It knows no other subpackage.
"""

from .command import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, Parser, run_command
from .console import InputError, RunError, first_line, note, say, say_json, warn
from .environment import (
    available_cores,
    describe_environment,
    describe_machine,
    git_output,
    git_state,
    package_versions,
    peak_mb,
    utc_now,
)
from .files import (
    folder_atomically,
    json_bytes,
    read_json_object,
    reading,
    replace_atomically,
    require_folder,
    write_atomically,
    write_problem,
)
from .formats import count_of, duration, in_percent, markdown_table, p_text, percent_range
from .lazy_imports import lazy_names, when_keras_is_imported
from .tensorflow_start import start_tensorflow
