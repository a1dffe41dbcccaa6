"""How fast: a training step and an evaluation on stock Keras and on the native kernel."""

from .report import benchmark_report
