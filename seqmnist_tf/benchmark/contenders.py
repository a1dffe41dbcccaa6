"""The contenders of the training benchmark: their titles, the packages that they need, and how they are made."""

from __future__ import annotations

import importlib.util
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from .workload import TimedFunctions, Workload


class Contender(NamedTuple):
    """An implementation of the baseline's training step and evaluation.

    Attributes:
        title: its name in reports.
        package: the package that it needs, whose version is recorded.
        factory: ``MODULE:FUNCTION`` of this room, from a workload and ``options`` to the functions to be timed.
        options: keyword arguments of the factory.
    """

    title: str
    package: str
    factory: str
    options: Mapping[str, Any] = MappingProxyType({})

    @property
    def installed(self) -> bool:
        """Whether its package is installed."""
        return importlib.util.find_spec(self.package) is not None

    def make(self, workload: Workload) -> TimedFunctions:
        """Import its module and return its functions.

        The import is late so that a process holds the library of one contender and no other: its memory is measured.
        """
        functions: TimedFunctions = pkgutil.resolve_name(f"{__package__}.{self.factory}")(workload, **self.options)
        return functions


CONTENDERS = {
    "keras": Contender("stock Keras", "keras", "keras_contender:keras_model"),
    "jit_compile": Contender(
        "stock Keras, jit_compile=True", "keras", "keras_contender:keras_model", {"jit_compile": True}
    ),
    "native": Contender("Keras on the native kernel", "keras", "keras_contender:keras_model", {"kernel": "native"}),
    "tf32": Contender(
        "Keras on the native kernel, precision tf32",
        "keras",
        "keras_contender:keras_model",
        {"kernel": "native", "precision": "tf32"},
    ),
    "kernel": Contender("the native kernel alone", "numpy", "native_contender:bare_kernel"),
    "pytorch": Contender("PyTorch nn.LSTM", "torch", "torch_contender:torch_model"),
    "pytorch_flush": Contender(
        "PyTorch, denormals flushed", "torch", "torch_contender:torch_model", {"flush_denormals": True}
    ),
    "jax": Contender("JAX lax.scan", "jax", "jax_contender:jax_scan"),
}
