from .report import cells_report as cells_report
from .report import serving_report as serving_report
from .report import training_report as training_report
from .serving import measure_serving as measure_serving
