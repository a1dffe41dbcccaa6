"""The folder of a search, and its settings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..config import Config
from ..system import InputError, is_there, json_bytes, read_json_object, require_folder, write_atomically
from .space import Dimension, apply_values, parse_space

SETTINGS = "search.json"
TUNERS = ("random", "bayesian", "hyperband")
DEPENDS_ON_THE_MACHINE = ("train.threads", "train.kernel", "data.source", "data.dir")


@dataclass(frozen=True)
class SearchFolder:
    """A search and its folder; ``search.json`` there holds its settings.

    Attributes:
        path: the folder.
        tuner: random, bayesian or hyperband.
        base: the configuration that trials change; it holds out a split and leaves the test set unread.
        space: the keys that trials change.
        space_document: the space in its JSON form.
        preset: the preset that ``base`` started from, for the record.
        stops: whether trials at chance after half of their epochs are stopped.
    """

    path: Path
    tuner: str
    base: Config
    space: tuple[Dimension, ...]
    space_document: dict[str, Any]
    preset: str | None
    stops: bool = True

    @classmethod
    def read(cls, path: Path, document: dict[str, Any] | None = None) -> SearchFolder:
        """Return the search in a folder, or at ``path`` the one of a document like its ``search.json``.

        Raises:
            InputError: there is none, or it is not in the format of a search.
        """
        if document is None and not is_there(path / SETTINGS):
            raise InputError(f"no search at {path} (give a folder of seqmnist_tf.tune: it holds {SETTINGS})")
        document = read_json_object(path / SETTINGS) if document is None else document
        try:
            base = cfg.validate(cfg.with_values(Config(), cfg.flatten_sections(document["base"])))
            space = parse_space(document["space"])
            stops = bool(document.get("stops", True))
            if document["tuner"] not in TUNERS:
                raise InputError(f"{path}: tuner must be {', '.join(TUNERS)} (got {document['tuner']!a})")
            return cls(path, document["tuner"], base, space, document["space"], document.get("preset"), stops)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} has no settings of a search ({type(error).__name__}: {error})") from None

    @property
    def document(self) -> dict[str, Any]:
        """The settings of the search, ready for JSON.

        ``config_id`` is of the base; with it, files that the base names are held to their content, and with ``layers``
        those that the space names.

        Raises:
            InputError: such a file cannot be read.
        """
        return {
            "tuner": self.tuner,
            "base": _shared_values(self.base),
            "space": self.space_document,
            "config_id": cfg.config_id(self.base),
            "layers": self.layers,
            **({} if self.stops else {"stops": False}),
        }

    @property
    def layers(self) -> dict[str, str]:
        """The ids of the base with each layer from a file that the space names, by layer."""
        configs = [cfg.with_values(self.base, {"model.layer": layer}) for layer in self.own_layers]
        return {config.model.layer: cfg.config_id(config) for config in configs if cfg.layer_file(config)}

    @property
    def own_layers(self) -> list[str]:
        """The layers that the space names."""
        return [keys["model.layer"] for row in self.space for keys in row.choices.values() if "model.layer" in keys]

    @property
    def file(self) -> Path:
        """The file of ``document``."""
        return self.path / SETTINGS

    @property
    def oracle_file(self) -> Path:
        """The file of the oracle's state."""
        return self.path / "oracle.json"

    def require_own(self) -> bool:
        """Return whether ``search.json`` of this search is there and complete; the folder may be of no search, too.

        Version 0.1.0 wrote no ``config_id`` and no ``layers``.

        Raises:
            InputError: the folder belongs to another search, holds other files or cannot be written, or a file that the
                base names cannot be read.
        """
        document = self.document
        require_folder(self.path, (self.file.name, self.oracle_file.name), "search")
        if not self.file.exists():
            return False
        try:
            saved = read_json_object(self.file)
        except InputError as error:
            raise InputError(
                f"{error}; the search is intact (remove {self.file}: the same command writes it again)"
            ) from None
        with contextlib.suppress(InputError):  # keys that came after it was written have their defaults
            saved["base"] = _shared_values(SearchFolder.read(self.path, saved).base)
        held = {key: document[key] for key in ("config_id", "layers")}
        complete = set(held) <= set(saved)
        if {**saved, **held} != document:
            raise InputError(f"{self.path} holds another search (give a new --dir, or that search's arguments)")
        if {**held, **saved} != document:
            raise InputError(
                f"{self.path} holds a search whose file of a layer or pixel order has changed (give a new --dir, or "
                "the file as it was)"
            )
        return complete

    def claim(self) -> None:
        """Write ``search.json``; errors as :meth:`require_own`."""
        if not self.require_own():
            write_atomically(self.file, json_bytes(self.document))

    def config(self, values: dict[str, Any]) -> Config:
        """Return the configuration of a trial with these values."""
        config = apply_values(self.space, values, self.base)
        epochs = values.get("tuner/epochs", config.train.n_epochs)
        return cfg.validate(cfg.with_values(config, {"train.n_epochs": epochs}))

    def trial_path(self, trial_id: str) -> Path:
        """Return the run directory of a trial."""
        return self.place("trials/", trial_id)

    def place(self, beginning: str, trial_id: str, end: str = "") -> Path:
        """Return a folder that is named after a trial; its id has more zeros after a larger ``--max-trials``."""
        places = (self.path / f"{beginning}{int(trial_id):0{width}}{end}" for width in range(1, 7))
        return next((place for place in places if place.is_dir()), self.path / f"{beginning}{trial_id}{end}")


def on_all_images(config: Config) -> Config:
    """Return the configuration of a trial on all training images, with the test set.

    Raises:
        InputError: its values do not go with all images.
    """
    values = {"task.validation_size": 0, "task.limit_train": 0, "test.enabled": True}
    return cfg.validate(cfg.with_values(config, values))


def _shared_values(config: Config) -> dict[str, dict[str, Any]]:
    """Return a configuration's values without those that depend on the machine, by section."""
    base = cfg.config_to_dict(config)
    for name in DEPENDS_ON_THE_MACHINE:
        section, key = name.split(".")
        del base[section][key]
    return base


def best_of(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the row with the highest score, of equal ones that of the first trial."""
    return max(rows, key=lambda row: (row["score"], -int(row["trial"])))
