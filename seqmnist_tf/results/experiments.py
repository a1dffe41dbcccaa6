"""The experiments of a board as :mod:`seqmnist_tf.compare` compares them."""

from __future__ import annotations

from dataclasses import replace

from ..compare import SeededRuns
from .board import Board


def experiment(board: Board, name: str) -> SeededRuns:
    """Return the completed runs of an experiment, and which of its seeds diverged."""
    diverged = tuple(record.seed for record in board.diverged if record.name == name)
    return SeededRuns(name, board.records[name], diverged=diverged)


def with_predictions(board: Board, name: str) -> SeededRuns:
    """Return :func:`experiment` with its predictions, for paired tests, and its name as code."""
    predictions = [record.predictions() for record in board.records[name]]
    return replace(experiment(board, name), name=f"`{name}`", predictions=predictions)
