"""The models of the local server: the exported versions of a folder, loaded when they are needed."""

from __future__ import annotations

import threading
from pathlib import Path

from .http_limits import RequestError
from .saved_model import SavedModel
from .versions import MODEL_NAME


class ServedModels:
    """Exported versions: the newest is loaded at once, each of the others at its first request.

    Attributes:
        paths: the folder of each version, by number.
        newest: the number of the newest version.

    Raises:
        InputError: the newest version cannot be loaded.
    """

    def __init__(self, paths: dict[int, Path]) -> None:
        self.paths = paths
        self.newest = max(paths)
        self._loaded: dict[int, SavedModel] = {}
        self._lock = threading.Lock()
        self.get(None)

    def number(self, version: str | None) -> int:
        """Return the number of a version.

        Args:
            version: the version as the request's path writes it; None is the newest.

        Raises:
            RequestError: 404, unknown version.
        """
        version = str(self.newest) if version is None else version
        number = {str(number): number for number in self.paths}.get(version)
        if number is None:
            raise RequestError(404, f"Servable not found for request: Specific({MODEL_NAME}, {version[:20]})")
        return number

    def get(self, version: str | None) -> tuple[int, SavedModel]:
        """Return the number and the model of a version, which is loaded if it was not. Arguments as :meth:`number`."""
        number = self.number(version)
        with self._lock:
            if number not in self._loaded:
                model = SavedModel.load(self.paths[number])
                for signature, inputs in model.warm_up_requests():
                    model(signature, **inputs)
                self._loaded[number] = model
            return number, self._loaded[number]
