"""The documents with generated sections: what is in each section, writing them and the pictures, and checking both.

A section stands between ``<!-- results: NAME -->`` and ``<!-- end -->``. It is a function from the board to Markdown,
whose links are relative to the root of the clone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ..benchmark import cells_report, training_report
from ..compare import escape_latex, in_percent, task_name
from ..config import NUM_TEST, NUM_TRAIN
from ..data import MEAN, STD
from ..system import InputError, RunError, markdown_table, write_atomically
from . import accuracy, recipes, sections
from .board import HEADLINE, PERMUTED, Board, code_of, headline_record, wrap_text
from .origin import commit_problems
from .plots import draw_pictures, picture_problems
from .records import REQUIRED_DOCUMENTS, RESULTS_FOLDER, Record
from .store import locked, update_manifest
from .verify import all_model_problems, folder_problems

DOCS_FOLDER = Path("docs")
OUTDATED = "does not match the records (python -m seqmnist_tf.results writes it again)"
MARKED_SECTION = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
# A fence ends at one that is at least as long, or at the end of the text.
FENCED_CODE = r"^ *(?P<fence>`{3,})[^`\n]*\n.*?(?:^ *(?P=fence)`*[ \t]*$|\Z)"
LOCAL_LINK = r"(?<=\]\()(?!\w+:|#)[^)\s]+(?=\))"
CODE_OR_LINK = re.compile(f"{FENCED_CODE}|{LOCAL_LINK}", re.DOTALL | re.MULTILINE)
CHOSEN = {  # what of the recipe of an experiment with a card was chosen on which images
    HEADLINE: "Learning rate, noise and weight decay were chosen on held-out training images.",
    PERMUTED: "Learning rate and noise were chosen on held-out training images, in the end between two recipes of 40 "
    "epochs, one of them at its epoch 32. Weight decay and epochs are those of `strong`.",
}


def model_cards(board: Board) -> dict[Path, str]:
    """Return the model cards of the published experiments that have one, by path from the root of the clone."""
    return {RESULTS_FOLDER / name / "README.md": model_card(board, name) for name in CHOSEN if name in board.records}


def model_card(board: Board, name: str) -> str:
    """Return the model card of an experiment: metadata in YAML, then Markdown. The model is that of the first seed."""
    records, over_seeds = board.records[name], board.experiment(name)
    record = records[0]
    task = task_name(record.config)
    units, epochs = record.config.model.hidden_size, record.config.train.n_epochs
    scaling = "x / 255" if record.config.task.normalization == "unit" else f"(x / 255 - {MEAN}) / {STD}"
    rows = [[r.seed, f"{r.correct:,}", in_percent(r.accuracy), f"`{code_of(r.environment)}`"] for r in records]
    parts = [
        _metadata(name, record, task),
        f"# LSTM({units}) on {task}: `{name}`",
        "<!-- Made from the records by python -m seqmnist_tf.results: do not edit. -->",
        wrap_text(
            f"A plain Keras LSTM({units}) with {record.summary['num_params']:,} parameters reads the 784 pixels of a "
            "handwritten digit one at a time and then classifies the digit. It classifies "
            f"**{over_seeds.text} %** of MNIST's {NUM_TEST:,} test images correctly ({over_seeds.meaning}). "
            f"`model.keras` of seed {record.seed} classifies {record.correct:,} correctly."
        ),
        "## Use",
        _usage(record, name),
        wrap_text(
            "Input: float32 (n, 784, 1), the pixels x of 28x28 images (0 to 255), light digit on dark, in the order of "
            f"`pixel_order.txt`, scaled: {scaling}. Output: ten logits. `pixel_order.txt` and the files named below "
            f"are in the folder `seed{record.seed}`. On a hub, load the model as "
            "`hf://` and the name of its repository; it needs Keras only."
        ),
        "## Training",
        wrap_text(
            f"{NUM_TRAIN - record.config.task.validation_size:,} training images, {epochs} epochs of "
            f"{record.config.optimizer.name} with batches of {record.config.train.batch_size}; all keys are in "
            "`config.json`, versions and machine in `environment.json`, losses in `history.jsonl`. The result is that "
            f"of the final epoch: no epoch is chosen on the test images. {CHOSEN[name]} Chrono, Adam, the cosine "
            "schedule and the norm clip were chosen after looks at test accuracies of single runs (docs/training.md of "
            "the project)."
        ),
        markdown_table([">seed", f">correct of {NUM_TEST:,}", ">test accuracy, %", "commit"], rows),
        "## Limits",
        wrap_text(
            "It was trained on MNIST only. It always returns one of ten digits, also for a picture without one. "
            "It is a baseline for comparing recurrent layers, and not a good way to read digits."
        ),
        "## Cite",
        bibtex(records),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(name: str, record: Record, task: str) -> str:
    return f"""---
license: mit
library_name: keras
pipeline_tag: image-classification
tags: [lstm, recurrent-neural-network, sequential-mnist]
datasets: [ylecun/mnist]
metrics: [accuracy]
model-index:
  - name: seqmnist_tf {name}, seed {record.seed}
    results:
      - task: {{type: image-classification, name: "{task}"}}
        dataset: {{type: ylecun/mnist, name: MNIST, split: test}}
        metrics:
          - {{type: accuracy, value: {record.accuracy:.4f}}}
---"""


def _usage(record: Record, name: str) -> str:
    permutation = record.config.task.permutation
    words = "" if permutation == "none" else f'permutation="{permutation}"'
    return f"""```python
import keras, seqmnist_tf

(_, (sequences, labels)) = seqmnist_tf.load_sequences({words})
model = keras.saving.load_model("results/{name}/seed{record.seed}/model.keras")
print(model.predict(sequences[:1]).argmax(), labels[0])
```"""


def bibtex(records: Sequence[Record]) -> str:
    """Return the BibTeX entry that cites the runs of one experiment, in a fence."""
    record = records[0]
    key = "seqmnist_tf" if record.name == HEADLINE else f"seqmnist_tf_{record.name}"
    versions = [r.environment["versions"]["seqmnist_tf"] for r in records if not r.environment["git"]["commit"]]
    parts = (
        rf"\texttt{{{escape_latex(record.name)}}}",
        f"configuration {record.summary['config_id']}",
        _named("seed", [str(r.seed) for r in records]),
        _named("commit", [code_of(r.environment) for r in records if r.environment["git"]["commit"]]),
        _named("version", versions),  # of runs from a wheel
    )
    note = ", ".join(filter(None, parts))
    year = max(r.environment["started"][:4] for r in records)
    return rf"""```bibtex
@software{{{key},
  title = {{seqmnist\_tf: the {{LSTM}} baseline on sequential {{MNIST}}, in {{Keras}}}},
  author = {{{{The seqmnist\_tf authors}}}},
  year = {{{year}}},
  note = {{{note}}},
}}
```"""


def _named(noun: str, values: Sequence[str]) -> str:
    """Return ``commit 1`` or ``commits 1, 2``, each value once; nothing of none."""
    different = list(dict.fromkeys(values))
    return f"{noun}{'s' if len(different) > 1 else ''} {', '.join(different)}" if different else ""


def bibtex_text(board: Board) -> str:
    """The BibTeX entry of the headline's experiment."""
    return bibtex(board.records[headline_record(board).name])


DOCUMENT_SECTIONS: dict[str, Callable[[Board], str]] = {
    "headline": accuracy.headline_text,
    "quick_start": accuracy.quick_start_text,
    "main": accuracy.main_table,
    "board": recipes.board_table,
    "board_cells": recipes.board_text,
    "settings": recipes.settings_text,
    "summary": accuracy.summary_table,
    "runs": accuracy.runs_table,
    "exported": accuracy.exported_text,
    "rows_to_paste": sections.rows_to_paste,
    "original": sections.original_table,
    "literature": sections.literature_table,
    "other_cells": sections.other_cells_table,
    "cost": sections.cost_table,
    "targets": sections.targets_table,
    "speed": lambda board: training_report(board.speed),
    "cells": lambda board: "\n\n".join(map(cells_report, board.speed["cells"])),
    "seeds": accuracy.seeds_text,
    "trials": recipes.trials_text,
    "searches": recipes.searches_text,
    "plateau": accuracy.plateau_text,
    "layers": sections.layers_text,
    "configuration": sections.configuration_table,
    "presets": sections.presets_list,
    "bibtex": bibtex_text,
}


def render_section(name: str, board: Board) -> str:
    """Return a section as Markdown; its links are relative to the root of the clone.

    Raises:
        InputError: unknown section.

    Example::

        render_section("summary", Board.read(Path("results")))
    """
    if name not in DOCUMENT_SECTIONS:
        raise InputError(f"unknown section {name!r} (allowed: {', '.join(DOCUMENT_SECTIONS)})")
    return DOCUMENT_SECTIONS[name](board)


def render_document(text: str, board: Board, document: Path) -> str:
    """Return a document, whose path is relative to the root of the clone, with all its sections made anew."""

    def render(match: re.Match[str]) -> str:
        return match[1] + relative_links(render_section(match[2], board), document) + "\n" + match[3]

    return MARKED_SECTION.sub(render, text)


def write_documents(root: Path = Path()) -> list[Path]:
    """Draw outdated pictures, write outdated documents; return the pictures and documents that changed.

    Raises:
        RunError: a record does not pass its checks; nothing is written.
    """
    folder = root / RESULTS_FOLDER
    with locked(folder):
        if problems := folder_problems(folder, records_only=True):
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise RunError(f"nothing was written: {problems[0]}{more}")
        board = Board.read(folder)
        changed = draw_pictures(board, folder)
        update_manifest(folder)
        documents = {path: render_document(_text(root / path) or "", board, path) for path in find_documents(root)}
        for path, text in {**documents, **model_cards(board)}.items():
            if text != _text(root / path):
                write_atomically(root / path, text.encode())
                changed.append(root / path)
    return changed


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def clone_problems(root: Path = Path(), *, models: bool = True, allow_code: bool = False) -> list[str]:
    """Return where records, benchmarks, manifest, documents, pictures, models and the clone contradict each other.

    Args:
        root: the root of the clone.
        models: load the models too, once everything else agrees, and run them on the first test images.
        allow_code: run the code of ``layer.py`` of records.

    Raises:
        InputError: the manifest cannot be read.
        RunError: no source of MNIST could be reached.
    """
    folder = root / RESULTS_FOLDER
    if problems := folder_problems(folder):
        return problems
    board = Board.read(folder)
    problems = [
        f"{folder / 'benchmark.json'}: {problem}"
        for document in [board.speed, *board.speed["cells"]]
        for problem in commit_problems(root, document["git"]["commit"])
    ]
    problems += [problem for path in find_documents(root) for problem in document_problems(root, path, board)]
    cards = model_cards(board).items()
    problems += [f"{path} {OUTDATED}" for path, card in cards if _text(root / path) != card]
    problems += picture_problems(board, folder)
    if problems or not models:
        return problems
    return all_model_problems(board.all_records + board.trials, allow_code=allow_code)


def document_problems(root: Path, document: Path, board: Board) -> list[str]:
    """Return the sections of a document, whose path is relative to the root, that do not match the records."""
    text = (root / document).read_text(encoding="utf-8")
    rendered = render_document(text, board, document)
    pairs = zip(MARKED_SECTION.finditer(text), MARKED_SECTION.finditer(rendered), strict=True)
    return [f"{document}: section {old[2]} {OUTDATED}" for old, new in pairs if old[0] != new[0]]


def find_documents(root: Path = Path()) -> list[Path]:
    """Return the paths of all documents, relative to the root of the clone."""
    pages = sorted(path.relative_to(root) for path in (root / DOCS_FOLDER).rglob("*.md"))
    return [*REQUIRED_DOCUMENTS, *pages]


def relative_links(text: str, document: Path) -> str:
    """Return Markdown whose links, written relative to the root of the clone, are relative to a document's folder.

    Fenced code has no links and stays as it is.

    Example::

        relative_links("[record](results/strong/seed0)", Path("docs/results.md"))  # [record](../results/strong/seed0)
    """

    def relative(match: re.Match[str]) -> str:
        return match[0] if match["fence"] else Path(os.path.relpath(match[0], document.parent)).as_posix()

    return CODE_OR_LINK.sub(relative, text)
