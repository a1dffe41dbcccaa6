"""A run as a service: export for TF Serving, the local server, and a client for both."""

from ..system import open_door

__getattr__, __dir__, __all__ = open_door(
    __name__,
    __file__,
    light=(
        "DEFAULT_FOLDER",
        "DEFAULT_SERVER",
        "MODEL_NAME",
        "Classification",
        "Prepared",
        "classify",
        "exported_versions",
        "picture_files",
        "picture_to_text",
        "prepare_picture",
        "read_description",
        "read_picture",
        "require_versions",
        "server_address",
        "verdict",
        "version_label",
    ),
)
