"""How fast: a training step and an evaluation on stock Keras and on the native kernel."""

from .report import cells_report as cells_report
from .report import training_report as training_report
