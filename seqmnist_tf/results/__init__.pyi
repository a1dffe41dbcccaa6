from .board import HEADLINE as HEADLINE
from .board import Board as Board
from .records import RESULTS_FOLDER as RESULTS_FOLDER
from .records import Record as Record
