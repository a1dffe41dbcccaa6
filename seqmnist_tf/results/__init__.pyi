from .records import HEADLINE as HEADLINE
from .records import RESULTS_FOLDER as RESULTS_FOLDER
from .records import Board as Board
from .records import Record as Record
