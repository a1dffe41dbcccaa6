"""A run as a service: export for TF Serving, the local server, and a client for both."""

from typing import TYPE_CHECKING

from ..system import lazy_names

if TYPE_CHECKING:
    from .ask import DEFAULT_SERVER, Classification, classify, verdict
    from .exporter import export_run
    from .models import SavedModel, lstm_weights
    from .picture import picture_files, picture_to_text, prepare_picture
    from .versions import DEFAULT_FOLDER, choose_version, exported_versions, read_description
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, without_tensorflow=("ask", "picture", "versions"))
