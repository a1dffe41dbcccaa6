"""The folder of a search, and its settings."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..config import Config
from ..system import InputError, json_bytes, note, read_json_object, unwritable, write_atomically
from .space import Dimension, apply_values, values_in

ORACLE = "oracle"  # KerasTuner's own files
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
    """

    path: Path
    tuner: str
    base: Config
    space: tuple[Dimension, ...]
    space_document: dict[str, Any]
    preset: str | None

    @property
    def document(self) -> dict[str, Any]:
        """The settings that two processes of one search share, ready for JSON.

        ``config_id`` is of the base; with it, files that the base names are held to their content, and with ``layers``
        those that the space names.
        """
        return {
            "tuner": self.tuner,
            "base": _shared_values(self.base),
            "space": self.space_document,
            "config_id": self.config_id,
            "layers": self.layers,
        }

    @functools.cached_property
    def config_id(self) -> str:
        """The id of the base.

        Raises:
            InputError: a file that it names cannot be read.
        """
        return cfg.config_id(self.base)

    @functools.cached_property
    def layers(self) -> dict[str, str]:
        """The ids of the base with each layer from a file that the space names, by layer.

        Raises:
            InputError: such a file cannot be read.
        """
        chosen = [keys["model.layer"] for row in self.space for keys in row.choices.values() if "model.layer" in keys]
        configs = [cfg.with_values(self.base, {"model.layer": layer}) for layer in chosen]
        return {config.model.layer: cfg.config_id(config) for config in configs if cfg.layer_file(config)}

    @property
    def file(self) -> Path:
        """The file of ``document``."""
        return self.path / "search.json"

    def require_own(self) -> bool:
        """Return whether ``search.json`` of this search is there and complete.

        Older versions wrote no ``config_id`` and no ``layers``.

        Raises:
            InputError: the folder belongs to another search, holds other files or cannot be written, or a file that the
                base names cannot be read.
        """
        held = {"config_id": self.config_id, "layers": self.layers}
        if problem := unwritable(self.path):
            raise InputError(f"cannot write to {self.path}: {problem} (give a writable --dir)")
        try:
            if saved := read_object(self.file):
                known = _with_defaults({**held, **saved})
                if known != self.document:
                    if {**known, **held} == self.document:
                        raise InputError(
                            f"{self.path} holds a search whose file of a layer or pixel order has changed (give a new "
                            "--dir, or the file as it was)"
                        )
                    raise InputError(f"{self.path} holds another search (give a new --dir, or that search's arguments)")
                return set(held) <= set(saved)
            if self.file.exists() or (self.path / ORACLE).is_dir():
                self._require_own_trials()
            elif self.path.is_dir() and any(path.name[0] != "." for path in self.path.iterdir()):
                raise InputError(f"{self.path} holds other files and no search (give a new --dir)")
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror} (give a writable --dir)") from None
        return False

    def claim(self) -> None:
        """Write ``search.json``, or check that it is of the same search.

        Raises:
            InputError: as :meth:`require_own`, or the folder cannot be written.
        """
        if self.require_own():
            return
        if self.file.exists() and read_object(self.file) is None:
            note(f"{self.file} cannot be read, and is written again")
        self.make_folder()
        with self._writing():
            write_atomically(self.file, json_bytes(self.document))

    def make_folder(self) -> None:
        """Make the folder, which may be there; raise InputError where it cannot be made."""
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"cannot write to {self.path}: {error.strerror} (give a writable --dir)") from None

    def _require_own_trials(self) -> None:
        """Raise InputError where ``search.json`` is damaged and a trial in the folder is not of this search."""
        for path in sorted((self.path / "trials").glob("*/config.json")):
            try:
                config = cfg.read_config(path)
            except InputError:
                continue
            if self.values_of(config) is None:
                raise InputError(
                    f"cannot read {self.file}, and trial {path.parent.name} is of another search "
                    "(give a new --dir, or that search's arguments)"
                )

    def config(self, values: dict[str, Any]) -> Config:
        """Return the configuration of a trial with these values."""
        config = apply_values(self.space, values, self.base)
        epochs = values.get("tuner/epochs", config.train.n_epochs)
        return cfg.validate(cfg.with_values(config, {"train.n_epochs": epochs}))

    def values_of(self, config: Config) -> dict[str, Any] | None:
        """Return the values with which a trial has this configuration; None where no values of the space give it."""
        values = values_in(self.space, config)
        if values is None:
            return None
        if self.tuner == "hyperband":
            values["tuner/epochs"] = config.train.n_epochs
        return values if same_trial(self.config(values), config) else None

    def trial_path(self, trial_id: str) -> Path:
        """Return the run directory of a trial."""
        return self.path / "trials" / trial_id


def same_trial(a: Config, b: Config) -> bool:
    """Return whether two configurations differ in nothing but what depends on the machine."""
    apart = set(DEPENDS_ON_THE_MACHINE)
    if a.model.match_parameters is not None:
        apart.add("model.hidden_size")  # ``train`` sets it
    one, other = cfg.flatten(a), cfg.flatten(b)
    return all(one[key] == other[key] for key in one if key not in apart)


def read_object(path: Path) -> dict[str, Any] | None:
    """Return the JSON object of a file; None where it is missing, damaged, or just being written."""
    try:
        return read_json_object(path)
    except InputError:
        return None


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


def _with_defaults(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with the keys that came after it was written, at their defaults."""
    try:
        values = cfg.flatten_sections(document["base"])
        return {**document, "base": _shared_values(cfg.with_values(cfg.Config(), values))}
    except (InputError, KeyError, AttributeError):
        return document
