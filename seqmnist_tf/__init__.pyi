import os
import typing

from .compare import Comparison as Comparison
from .config import Config as Config
from .config import preset as preset
from .data import load_sequences as load_sequences
from .kernel import GRU as GRU
from .kernel import LSTM as LSTM
from .kernel import RNN as RNN
from .kernel import SimpleRNN as SimpleRNN
from .kernel import to_keras as to_keras
from .train import Metrics as Metrics
from .train import RunDirectory as RunDirectory
from .train import load_run as load_run

__version__: str

def compare(
    arms: typing.Sequence[str | os.PathLike[str] | Config],
    *,
    seeds: str | typing.Iterable[int] | None = None,
    directory: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    address: str | None = None,
    allow_code: bool = False,
    overrides: typing.Mapping[str, typing.Any] | None = None,
) -> Comparison: ...
def evaluate(path: str | os.PathLike[str], data_dir: str | None = None, *, allow_code: bool = False) -> Metrics: ...
def train(
    config: Config,
    path: str | os.PathLike[str],
    *,
    preset: str | None = None,
    command: str = "",
    stop_rule: typing.Callable[[list[dict[str, typing.Any]]], str | None] | None = None,
    layer_file: typing.Any = None,
) -> dict[str, typing.Any]: ...
