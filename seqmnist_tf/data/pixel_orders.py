"""The order in which the 784 pixels are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..config import NUM_TIMESTEPS, OPTIONS
from ..system import InputError, reading


def pixel_order(permutation: str) -> np.ndarray:
    """Return a pixel order int64 (784,): position t of the sequence is pixel ``order[t]``, counted row by row.

    ``permutation`` is a value of ``task.permutation``; InputError is raised for another one, and where a file cannot be
    read or holds no such order.

    Example:
        >>> pixel_order("bit_reversal")[:4].tolist()
        [0, 512, 256, 768]
    """
    permutation = OPTIONS["task.permutation"].check(permutation)
    if permutation == "urnn92916":
        # The seed in the code of the full-capacity unitary RNNs (Wisdom et al. 2016), and of many papers after them.
        permutation = "seed:92916"
    if permutation == "bit_reversal":
        # As HiPPO and S4: the bit reversal of 1024 positions, of which those below 784 remain.
        reversed_bits = [int(f"{i:010b}"[::-1], 2) for i in range(1024)]
        order = np.array([i for i in reversed_bits if i < NUM_TIMESTEPS])
    elif permutation.startswith("seed:"):
        order = np.random.RandomState(int(permutation.removeprefix("seed:"))).permutation(NUM_TIMESTEPS)
    elif permutation.startswith("file:"):
        order = read_pixel_order(Path(permutation.removeprefix("file:")))
    else:
        order = np.arange(NUM_TIMESTEPS)
    return order.astype(np.int64)  # C longs have 32 bits on Windows


def read_pixel_order(path: Path) -> np.ndarray:
    """Return the pixel order of a file: 784 indices in ``.npy``, or as text between white space, commas or brackets.

    InputError is raised where the file cannot be read, or has other numbers than each of 0 to 783 once.
    """
    with reading(f"task.permutation file:{path}"):
        if path.suffix == ".npy":
            order = np.load(path, allow_pickle=False)
        else:
            words = path.read_text(encoding="utf-8").translate(str.maketrans(",[]", "   ")).split()
            order = np.array([int(word) for word in words])
    if not np.array_equal(np.sort(order, axis=None), np.arange(NUM_TIMESTEPS)):
        raise InputError(f"task.permutation file:{path} must have 784 integers, each of 0 to 783 once")
    return order.astype(np.int64).reshape(-1)
