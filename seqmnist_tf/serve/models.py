"""The models of the local server: the exported versions of a folder, loaded when they are needed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from ..system import printable
from .http_limits import RequestError
from .saved_model import SavedModel
from .versions import MODEL_NAME


class ServedModels:
    """Exported versions: the newest is loaded at once, each of the others at its first request.

    Attributes:
        paths: the folder of each version, by number.
        labels: the number of a version, by label; the version may be missing.
        newest: the number of the newest version.

    Raises:
        InputError: the newest version cannot be loaded.
    """

    def __init__(self, paths: dict[int, Path], labels: Mapping[str, int] | None = None) -> None:
        self.paths = paths
        self.labels = dict(labels or {})
        self.newest = max(paths)
        self._loaded: dict[int, SavedModel] = {}
        self._lock = threading.Lock()
        self.get(self.newest)

    def find(self, version: int | None, label: str | None) -> int | None:
        """Return the number that a request asks for, None for the newest version.

        Raises:
            RequestError: 400, unknown label.
        """
        if label is None:
            return version
        if label not in self.labels:
            raise RequestError(400, f"Unrecognized servable version label: {printable(label, 80)}")
        return self.labels[label]

    def is_loaded(self, number: int | None) -> bool:
        """Return whether :meth:`get` answers without loading: the version is loaded, or unknown. None is the newest."""
        return number is None or number in self._loaded or number not in self.paths

    def get(self, number: int | None) -> SavedModel:
        """Return the model of a version, None is the newest. A version that was not loaded is loaded.

        Raises:
            RequestError: 404, unknown version.
            InputError: the version cannot be loaded.
        """
        number = self.newest if number is None else number
        if number not in self.paths:
            raise RequestError(404, f"Servable not found for request: Specific({MODEL_NAME}, {number})")
        if (loaded := self._loaded.get(number)) is not None:
            return loaded
        with self._lock:
            if number not in self._loaded:
                model = SavedModel.load(self.paths[number])
                model.warm_up()
                self._loaded[number] = model
            return self._loaded[number]
