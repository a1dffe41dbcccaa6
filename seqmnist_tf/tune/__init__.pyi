from .oracle import drawn_values as drawn_values
from .search import read_search as read_search
from .search import stop_at_chance as stop_at_chance
from .space import DEFAULT_SPACE as DEFAULT_SPACE
from .space import SETTINGS as SETTINGS
from .space import Dimension as Dimension
from .space import SearchFolder as SearchFolder
from .space import parse_space as parse_space
