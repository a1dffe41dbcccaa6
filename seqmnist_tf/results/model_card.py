"""The model card of an experiment, ``results/<name>/README.md``, in the format of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..compare import escape_latex, in_percent, task_name
from ..config import NUM_TEST, NUM_TRAIN
from ..data import MEAN, STD
from ..system import markdown_table
from .board import HEADLINE, PERMUTED, Board, code_of, headline_record, wrap_text
from .records import RESULTS_FOLDER, Record

CHOSEN = {  # what of the recipe of an experiment with a card was chosen on which images
    HEADLINE: "Learning rate, noise and weight decay were chosen on held-out training images.",
    PERMUTED: "Learning rate and noise were chosen on held-out training images, in the end between two recipes of 40 "
    "epochs, one of them at its epoch 32. Weight decay and epochs are those of `strong`.",
}
CARD_FILE = "README.md"


def model_cards(board: Board) -> dict[Path, str]:
    """Return the model cards of the published experiments that have one, by path from the root of the clone."""
    return {RESULTS_FOLDER / name / CARD_FILE: model_card(board, name) for name in CHOSEN if name in board.records}


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
            "schedule and the norm clip followed first looks at test accuracies of single runs (docs/training.md of "
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
