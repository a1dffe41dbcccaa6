from .comparing import compare as compare
from .comparison import ArmResult as ArmResult
from .comparison import Comparison as Comparison
from .comparison import PairResult as PairResult
from .seeds import parse_seeds as parse_seeds
from .statistics import McNemarResult as McNemarResult
