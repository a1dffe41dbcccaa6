"""What is published: records in ``results/``, their checks, and the documents and pictures made from them."""

from typing import TYPE_CHECKING

from ..system import lazy_names

if TYPE_CHECKING:
    from .records import HEADLINE, RESULTS_FOLDER, Record, ResultsFolder
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, without_tensorflow=("records",))
