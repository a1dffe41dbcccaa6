"""Several runs: layers and configurations side by side over seeds, with tests, a report and pictures."""

from typing import TYPE_CHECKING

from ..system import lazy_names

if TYPE_CHECKING:
    from .arms import Arm, parse_arms, parse_seeds
    from .comparing import compare
    from .comparison import Comparison, PairResult, SeededRuns, equivalence_bound, pair_runs, verdict
    from .paper import PaperTable, cell_name, task_name
    from .runs import CompletedRun
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, without_tensorflow=("arms", "comparison", "runs"))
