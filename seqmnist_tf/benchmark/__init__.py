"""How fast: a training step and an evaluation on stock Keras and on the native kernel."""

from .report import cells_report, training_report
