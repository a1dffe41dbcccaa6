from .space import DEFAULT_SPACE as DEFAULT_SPACE
from .space import Dimension as Dimension
from .space import parse_space as parse_space
