from .comparing import compare as compare
from .comparison import ArmResult as ArmResult
from .comparison import Comparison as Comparison
from .comparison import PairResult as PairResult
from .rows import escape_latex as escape_latex
from .rows import task_name as task_name
from .seeds import parse_seeds as parse_seeds
from .statistics import McNemarResult as McNemarResult
