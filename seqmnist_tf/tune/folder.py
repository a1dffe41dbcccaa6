"""The folder of a search, and its settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..config import Config
from ..system import InputError, json_bytes, read_json_object, require_folder, write_atomically
from .space import Dimension, apply_values, parse_space

SETTINGS, ORACLE = "search.json", "oracle.json"
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
        document = read_json_object(path / SETTINGS) if document is None else document
        try:
            base = cfg.validate(cfg.with_values(Config(), cfg.flatten_sections(document["base"])))
            tuner = TUNERS[TUNERS.index(document["tuner"])]
            space, stops = parse_space(document["space"]), bool(document.get("stops", True))
            return cls(path, tuner, base, space, document["space"], document.get("preset"), stops)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path} has no settings of a search ({type(error).__name__}: {error})") from None

    @property
    def document(self) -> dict[str, Any]:
        """The settings of the search, ready for JSON.

        ``config_id`` and ``layers`` hold files that the base and the space name to their content.

        Raises:
            InputError: such a file cannot be read.
        """
        named = [keys["model.layer"] for row in self.space for keys in row.choices.values() if "model.layer" in keys]
        configs = [cfg.with_values(self.base, {"model.layer": layer}) for layer in named]
        return {
            "tuner": self.tuner,
            "base": _shared_values(self.base),
            "space": self.space_document,
            "config_id": cfg.config_id(self.base),
            "layers": {config.model.layer: cfg.config_id(config) for config in configs if cfg.layer_file(config)},
            **({} if self.stops else {"stops": False}),
        }

    def require_own(self) -> None:
        """Raise InputError where the folder belongs to another search, holds other files or cannot be written."""
        document = self.document
        require_folder(self.path, (SETTINGS, ORACLE), "search")
        if (self.path / SETTINGS).exists():
            saved = read_json_object(self.path / SETTINGS)
            saved["base"] = _shared_values(SearchFolder.read(self.path).base)  # newer keys have their defaults
            if saved != document:
                raise InputError(f"{self.path} holds another search (give a new --dir, or its own arguments and files)")

    def claim(self) -> None:
        """Write ``search.json``; errors as :meth:`require_own`."""
        self.require_own()
        write_atomically(self.path / SETTINGS, json_bytes(self.document))

    def config(self, values: dict[str, Any]) -> Config:
        """Return the configuration of a trial with these values."""
        config = apply_values(self.space, values, self.base)
        epochs = values.get("tuner/epochs", config.train.n_epochs)
        return cfg.validate(cfg.with_values(config, {"train.n_epochs": epochs}))

    def trial_path(self, trial_id: str) -> Path:
        """Return the run directory of a trial."""
        return self.path / "trials" / trial_id


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
