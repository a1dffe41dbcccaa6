from .records import HEADLINE as HEADLINE
from .records import RESULTS_FOLDER as RESULTS_FOLDER
from .records import Record as Record
from .records import ResultsFolder as ResultsFolder
