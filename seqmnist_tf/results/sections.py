"""The generated sections of documents, by name.

A section is a function from the board to Markdown. Its links are relative to the root of the clone.
"""

from __future__ import annotations

from collections.abc import Callable

from . import (
    model_card,
    sections_accuracy,
    sections_code,
    sections_config,
    sections_literature,
    sections_seeds,
    sections_speed,
    sections_trials,
)
from .board import Board

DOCUMENT_SECTIONS: dict[str, Callable[[Board], str]] = {
    "headline": sections_accuracy.headline_text,
    "quick_start": sections_accuracy.quick_start_text,
    "summary": sections_accuracy.summary_table,
    "runs": sections_accuracy.runs_table,
    "exported": sections_accuracy.exported_text,
    "rows_to_paste": sections_literature.rows_to_paste,
    "original": sections_literature.original_table,
    "literature": sections_literature.literature_table,
    "other_cells": sections_literature.other_cells_table,
    "cost": sections_speed.cost_table,
    "targets": sections_speed.targets_table,
    "speed": sections_speed.speed_tables,
    "serving": sections_speed.serving_tables,
    "one_image": sections_speed.one_image_text,
    "seeds": sections_seeds.seeds_text,
    "trials": sections_trials.trials_text,
    "plateau": sections_seeds.plateau_text,
    "layers": sections_code.layers_text,
    "configuration": sections_config.configuration_table,
    "presets": sections_config.presets_list,
    "bibtex": model_card.bibtex_text,
}
"""Each stands between ``<!-- results: NAME -->`` and ``<!-- end -->``."""
