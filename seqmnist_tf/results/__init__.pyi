from .board import HEADLINE as HEADLINE
from .board import Board as Board
from .pages import clone_problems as clone_problems
from .pages import render_section as render_section
from .pages import write_documents as write_documents
from .publish import add_record as add_record
from .records import RESULTS_FOLDER as RESULTS_FOLDER
from .records import Record as Record
