"""The native LSTM on numpy arrays: finding the compiled library, choosing its instruction set, calling it.

The library is an optional part of an installation, compiled by ``setup.py`` from the C++ sources in ``cpp/`` where
there is a compiler. It releases Python's global lock while it computes, starts its threads anew for each call, and
keeps nothing between calls, so that it may be used from several threads and after a fork.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import functools
import hashlib
import mmap
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..system import InputError

FOLDER = Path(__file__).parent
SOURCES = FOLDER / "cpp"
ISAS = ("avx2", "avx512", "amx", "neon")  # the library's numbers for them; on x86-64 a later one is faster
UNIT_MULTIPLE = 16  # units come in whole vectors; others are filled up with units whose weights are 0
MAX_THREADS = 1024
MAX_LENGTH = 2**30 - 1  # of a program: the library counts in 32 bits, also to twice an axis
KEPT = 5  # floats kept for the backward pass for each row, step and unit: four gates and the state


class UnavailableError(Exception):
    """The native kernel cannot be used here; the message says why."""


def source_hash() -> str:
    """Return the SHA-256 of the sources, hexadecimal; the build writes it into the library."""
    sources = sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")])  # the same files as in setup.py
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


@functools.cache
def library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(FOLDER / "_lstm.so"))  # as in setup.py
        library.seqmnist_lstm_source.restype = ctypes.c_char_p
        built_from = library.seqmnist_lstm_source().decode()
    except (OSError, AttributeError) as error:
        hint = "g++ 10 or clang, on Linux with x86-64 or ARM64, or macOS with ARM64"
        raise UnavailableError(f"the installation compiles it where there is {hint} ({error})") from None
    if built_from != source_hash():
        raise UnavailableError("it was compiled from other sources (python -m pip install -e . compiles it again)")
    return library


def instruction_set() -> str:
    """Return the instruction set that the kernel runs on: ``avx2``, ``avx512`` or ``amx``; on ARM64 ``neon``.

    It is the fastest that this machine supports, or the value of the environment variable ``SEQMNIST_ISA``.
    UnavailableError is raised where there is no library, or the machine does not support the instruction set.
    """
    wanted = os.environ.get("SEQMNIST_ISA")
    if wanted and wanted not in ISAS:
        raise InputError(f"SEQMNIST_ISA must be avx2, avx512, amx or neon (got {wanted!r})")
    here = _supported(library())
    if wanted and wanted not in here:
        raise UnavailableError(f"this machine does not support {wanted}, the value of SEQMNIST_ISA")
    if not here:
        raise UnavailableError("this processor has neither AVX2 nor AVX-512")
    return wanted or here[-1]


@functools.cache  # a virtual machine takes 30 microseconds to answer what its processor can do
def _supported(library: ctypes.CDLL) -> list[str]:
    return [name for number, name in enumerate(ISAS) if library.seqmnist_lstm_supported(number)]


def forward(
    sequences: np.ndarray,
    weights: Sequence[np.ndarray],
    *,
    threads: int,
    keep: bool,
    all_steps: bool = False,
    first: np.ndarray | None = None,
    ends: np.ndarray | None = None,
    last: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the hidden states of sequences float32 (n, steps, features), and what :func:`backward` reads or None.

    The states are float32 (n, units) or, of all steps, (n, steps, units). NaN or infinity in a sequence makes its
    states NaN from there on, and in a weight all states. Weights are kernel (features, 4 units), recurrent kernel
    (units, 4 units) and bias (4 units,), float32, in Keras's order of gates: input, forget, candidate, output. The
    result does not depend on ``threads``, 1 to 1,024. MemoryError is raised where there is no memory.

    ``first`` are the states h and c before the first step, float32 (n, 2 units), or None for zeros; ``ends`` how many
    steps of each row count, int32 (n,), or None for all. ``last``, like ``first``, gets the states after these steps.
    """
    sequences, kernel, recurrent, bias = (contiguous(array) for array in (sequences, *weights))
    (n, steps, features), units = sequences.shape, len(recurrent)
    if units % UNIT_MULTIPLE:
        weights = _fill_up(kernel, recurrent, bias)
        wide: Any = {"first": _fill_up_states(first, units), "ends": ends, "last": _fill_up_states(last, units)}
        states, kept = forward(sequences, weights, threads=threads, keep=keep, all_steps=all_steps, **wide)
        _take_states(last, wide["last"])
        return np.ascontiguousarray(states[..., :units]), kept
    isa = ISAS.index(instruction_set())
    states = np.empty((n, steps, units) if all_steps else (n, units), np.float32)
    kept = None
    if keep:
        kept = take((n + 1) * steps * units * KEPT + 1)  # of every row, and of what rows share
        kept[-1] = isa  # which says how the rest is laid out
    if n:
        sizes = (threads, n, steps, features, units, int(all_steps))
        begin = checked(first, ends, n, steps, 2 * units)
        call("lstm_forward", isa, *sizes, sequences, kernel, recurrent, bias, states, kept, *begin, last)
    return states, kept


def backward(
    sequences: np.ndarray,
    weights: Sequence[np.ndarray],
    kept: np.ndarray,
    gradient: np.ndarray,
    *,
    threads: int,
    want_sequences: bool = False,
    first: np.ndarray | None = None,
    ends: np.ndarray | None = None,
    last_gradient: np.ndarray | None = None,
    first_gradient: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """Return the gradients of kernel, recurrent kernel and bias, and of the sequences or None.

    ``gradient`` is with respect to the hidden states that :func:`forward` returned, and ``kept`` what it kept. With
    ``want_sequences``, rows that begin with the same features are no longer computed as one, which takes longer.
    ``first`` and ``ends`` are those that :func:`forward` got; ``first_gradient`` gets the gradient of ``first``.
    """
    sequences, kernel, recurrent, bias = (contiguous(array) for array in (sequences, *weights))
    (n, steps, features), units = sequences.shape, len(recurrent)
    gradient = contiguous(gradient)
    if units % UNIT_MULTIPLE:
        weights = _fill_up(kernel, recurrent, bias)
        gradient = _with_zeros(gradient)
        states: Any = {"first": _fill_up_states(first, units), "ends": ends}
        states["last_gradient"] = _fill_up_states(last_gradient, units)
        states["first_gradient"] = _fill_up_states(first_gradient, units)
        options: Any = {"threads": threads, "want_sequences": want_sequences, **states}
        *wide, x_gradient = backward(sequences, weights, kept, gradient, **options)
        _take_states(first_gradient, states["first_gradient"])
        kernel_gradient, recurrent_gradient, bias_gradient = (
            g.reshape(*g.shape[:-1], 4, -1)[..., :units].reshape(*g.shape[:-1], 4 * units) for g in wide
        )
        return kernel_gradient, np.ascontiguousarray(recurrent_gradient[:units]), bias_gradient, x_gradient
    kept = aligned(kept)
    weight_gradients = [np.zeros(array.shape, np.float32) for array in (kernel, recurrent, bias)]
    sequence_gradient = np.zeros(sequences.shape, np.float32) if want_sequences else None
    if n:
        sizes = (threads, n, steps, features, units, int(gradient.ndim == 3))
        given = (sequences, kernel, recurrent, bias, kept, gradient)
        begin = checked(first, ends, n, steps, 2 * units)
        end = None if last_gradient is None else contiguous(last_gradient)
        results = (sequence_gradient, *weight_gradients)
        call("lstm_backward", int(kept[-1]), *sizes, *given, *results, *begin, end, first_gradient)
    return weight_gradients[0], weight_gradients[1], weight_gradients[2], sequence_gradient


def call(name: str, *values: Any) -> None:
    """Call a function of the library with numbers, arrays and, for what is not given or wanted, None."""
    pointers = [ctypes.c_void_p(v.ctypes.data) if isinstance(v, np.ndarray) else v for v in values]
    if getattr(library(), f"seqmnist_{name}")(*pointers):
        raise MemoryError(f"the {name.replace('_', ' ')} pass ran out of memory")


def aligned(kept: np.ndarray) -> np.ndarray:
    """Return kept values where they lie, or a copy that begins with a cache line, where TensorFlow moved them."""
    if kept.ctypes.data % 64 == 0:
        return kept
    aligned = take(kept.size)
    aligned[:] = kept
    return aligned


def contiguous(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


def checked(
    first: np.ndarray | None, ends: np.ndarray | None, n: int, steps: int, width: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return first states and ends as the library reads them; ValueError where they are of other rows."""
    if first is not None and first.shape != (n, width):
        raise ValueError(f"initial states must be {(n, width)} in all (got {first.shape})")
    if ends is not None and not (ends.shape == (n,) and np.all((ends >= 1) & (ends <= steps))):
        raise ValueError(f"a mask must have {n} rows of {steps} steps")
    start = None if first is None else contiguous(first)
    return start, None if ends is None else np.ascontiguousarray(ends, np.int32)


def _fill_up_states(states: np.ndarray | None, units: int) -> np.ndarray | None:
    """Return states h and c (n, 2 units) with more units, as ``_fill_up`` has; a copy."""
    if states is None:
        return None
    return _with_zeros(states.reshape(-1, 2, units)).reshape(len(states), -1)


def _take_states(states: np.ndarray | None, wide: np.ndarray | None) -> None:
    """Set states (n, 2 units) to those of as many of the wide ones."""
    if states is not None and wide is not None:
        narrow = states.reshape(len(states), 2, -1)
        narrow[:] = wide.reshape(len(states), 2, -1)[..., : narrow.shape[-1]]


def _fill_up(*weights: np.ndarray) -> list[np.ndarray]:
    """Return kernel, recurrent kernel and bias with units up to a multiple of ``UNIT_MULTIPLE``, whose states are 0."""
    gates = [_with_zeros(array.reshape(*array.shape[:-1], 4, -1)) for array in weights]
    kernel, recurrent, bias = (array.reshape(*array.shape[:-2], -1) for array in gates)
    return [kernel, _with_zeros(recurrent, axis=0), bias]


def _with_zeros(array: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return an array float32 whose axis is longer, up to a multiple of ``UNIT_MULTIPLE``; much faster than np.pad."""
    shape = list(array.shape)
    shape[axis] += -shape[axis] % UNIT_MULTIPLE
    wide = np.zeros(shape, np.float32)
    wide[tuple(map(slice, array.shape))] = array
    return wide


# Memory for kept values returns here when its last array is gone: to allocate 200 MB for a batch of 100 again took 4 to
# 12 ms of a step of 66 ms. A step may keep several at a time: one for each noisy part of its batch or layer of a stack.
_free: collections.deque[mmap.mmap] = collections.deque()
MAX_FREE = 2**29  # bytes; above them, the two latest stay


def take(floats: int) -> np.ndarray:
    """Return an uninitialised, aligned array float32 (floats,)."""
    if (memory := _reuse(size := 4 * floats)) is None:
        try:
            memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MemoryError(f"no {size / 1e6:,.0f} MB for the states of a recurrent layer: {error}") from None
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a hint, which Linux without huge pages refuses
                memory.madvise(mmap.MADV_HUGEPAGE)
    array = np.frombuffer(memory, np.float32, floats)
    weakref.finalize(array, _give_back, memory)
    return array


def _give_back(memory: mmap.mmap) -> None:
    _free.append(memory)
    with contextlib.suppress(IndexError):  # another thread may take from it
        while len(_free) > 2 and sum(map(len, tuple(_free))) > MAX_FREE:
            _free.popleft()


def _reuse(size: int) -> mmap.mmap | None:
    with contextlib.suppress(IndexError):  # another thread may take from it
        for _ in range(len(_free)):
            memory = _free.popleft()
            if size <= len(memory) <= 2 * size:
                return memory
            _free.append(memory)
    return None
