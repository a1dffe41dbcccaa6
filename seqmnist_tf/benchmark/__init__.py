"""How fast: the training step beside its rivals, the exported model beside stock export, and the reports of both."""

from .report import cells_report as cells_report
from .report import serving_report as serving_report
from .report import training_report as training_report
