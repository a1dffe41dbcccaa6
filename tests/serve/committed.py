"""The exported versions that the project ships. A user's own exports may lie beside them."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from seqmnist_tf.serve import DEFAULT_FOLDER, exported_versions
from tests.toy import ROOT


def committed_versions() -> dict[int, Path]:
    """Return the paths of the versions that TF Serving's configuration names, by number."""
    text = (ROOT / "export" / "config" / "models.config").read_text(encoding="utf-8")
    (model,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    versions = exported_versions(ROOT / DEFAULT_FOLDER)
    return {number: versions[number] for number in model.model_version_policy.specific.versions}
