from .folder import SETTINGS as SETTINGS
from .folder import SearchFolder as SearchFolder
from .folder import on_all_images as on_all_images
from .oracle import drawn_values as drawn_values
from .search import read_search as read_search
from .space import DEFAULT_SPACE as DEFAULT_SPACE
from .space import Dimension as Dimension
from .space import parse_space as parse_space
