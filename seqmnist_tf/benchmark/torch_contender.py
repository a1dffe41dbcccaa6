"""The original's training step in PyTorch as a contender."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..config import NUM_CLASSES
from .workload import TimedFunctions, Workload


def torch_model(workload: Workload, flush_denormals: bool = False) -> TimedFunctions:
    """Return the functions of the original: ``torch.nn.LSTM``, RMSprop, gradients clipped by value."""
    torch.set_num_threads(workload.threads)
    torch.set_flush_denormal(flush_denormals)
    config = workload.config
    lstm = torch.nn.LSTM(1, workload.units, batch_first=True)
    readout = torch.nn.Linear(workload.units, NUM_CLASSES)
    parameters = [*lstm.parameters(), *readout.parameters()]
    optimizer = torch.optim.RMSprop(parameters, lr=config.optimizer.lr)
    cross_entropy = torch.nn.CrossEntropyLoss()

    def logits(x: np.ndarray) -> Any:
        return readout(lstm(torch.from_numpy(x))[0][:, -1])

    def train_step(x: np.ndarray, y: np.ndarray) -> float:
        optimizer.zero_grad()
        loss = cross_entropy(logits(x), torch.from_numpy(y).long())
        loss.backward()
        torch.nn.utils.clip_grad_value_(parameters, config.optimizer.grad_clip_value or float("inf"))
        optimizer.step()
        return float(loss.detach())

    def predict(x: np.ndarray) -> np.ndarray:
        size = config.test.batch_size
        with torch.no_grad():
            return np.concatenate([logits(x[i : i + size]).numpy() for i in range(0, len(x), size)])

    return TimedFunctions(train_step, predict)
