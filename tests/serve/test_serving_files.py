"""The configuration of TF Serving, and its documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import yaml
from google.protobuf import text_format
from PIL import Image
from tensorflow_serving.config import model_server_config_pb2

from seqmnist_tf.serve import app, ask, exporter
from tests.serve.conftest import Service
from tests.serve.test_saved_model import COMMITTED, OLDER_TENSORFLOW
from tests.toy import ROOT

EXPORT = ROOT / "export"
TAG = "2.20.0"  # of TF Serving's image: known to exist
README = (EXPORT / "README.md").read_text()
KUSTOMIZATION = yaml.safe_load((EXPORT / "kustomization.yaml").read_text())
MANIFESTS = {
    document["kind"]: document
    for document in (yaml.safe_load((EXPORT / path).read_text()) for path in KUSTOMIZATION["resources"])
}
COMPOSE = yaml.safe_load((EXPORT / "docker-compose.yml").read_text())["services"]["serving"]
BATCHING = (EXPORT / "config" / "batching.config").read_text()


def test_the_model_configuration_names_existing_versions() -> None:
    text = (EXPORT / "config" / "models.config").read_text()
    (config,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == ("seqmnist", "/models/seqmnist", "tensorflow")
    assert set(config.model_version_policy.specific.versions) == set(COMMITTED)
    assert all(path.is_dir() for path in COMMITTED.values())
    assert set(config.version_labels.values()) <= set(COMMITTED) and "stable" in config.version_labels


def test_rows_have_one_limit() -> None:
    """The local server, the client, and TF Serving with batching take the same requests."""
    rows = re.findall(r"^(\w+) \{ value: (\w+) \}$", BATCHING, re.MULTILINE)
    batching = {name: json.loads(value) for name, value in rows}
    assert len(batching) == len([line for line in BATCHING.splitlines() if line and line[0] != "#"]) == 6
    assert batching["max_batch_size"] == app.MAX_REQUEST_ROWS
    assert batching["max_execution_batch_size"] == ask.CLIENT_ROWS
    assert batching["enable_large_batch_splitting"] is True
    assert ask.CLIENT_ROWS <= app.MAX_REQUEST_ROWS
    assert batching["max_execution_batch_size"] >= max(exporter.BATCH_SIZES)  # or a version's warm-up is refused


def test_the_image_is_of_a_tensorflow_that_loads_the_versions() -> None:
    """``test_the_tensorflow_before_loads_and_agrees`` loads them with it."""
    assert COMPOSE["image"] == f"tensorflow/serving:${{TF_SERVING_TAG:-{TAG}}}" and TAG.startswith(
        f"{OLDER_TENSORFLOW}."
    )
    dockerfile = (EXPORT / "k8s" / "Dockerfile").read_text()
    assert f"ARG TF_SERVING_TAG={TAG}\nFROM tensorflow/serving:${{TF_SERVING_TAG}}\n" in dockerfile


def test_kubernetes_accepts_the_manifests() -> None:
    """Against the schemas of Kubernetes's API, which the validator's package holds."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    assert set(MANIFESTS) == {"Deployment", "Service"}
    for version in ("1.37", "1.32"):
        for manifest in MANIFESTS.values():
            kubernetes_validate.validate(manifest, version, strict=True)


def test_kubernetes_serves_what_compose_serves() -> None:
    pod = MANIFESTS["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["args"] == COMPOSE["command"]
    ready = container["readinessProbe"]["httpGet"]
    assert container["startupProbe"]["httpGet"] == ready
    assert f"GET {ready['path']} " in COMPOSE["healthcheck"]["test"][3]
    (generated,) = KUSTOMIZATION["configMapGenerator"]
    assert {volume["configMap"]["name"] for volume in pod["spec"]["volumes"]} == {generated["name"]}
    assert {f"/{path}" for path in generated["files"]} == {
        word.partition("=")[2] for word in COMPOSE["command"] if "=/config/" in word
    }
    selectors = [MANIFESTS["Service"]["spec"]["selector"], MANIFESTS["Deployment"]["spec"]["selector"]["matchLabels"]]
    assert selectors == [pod["metadata"]["labels"]] * 2
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {port["targetPort"]: port["port"] for port in MANIFESTS["Service"]["spec"]["ports"]}
    assert {container[probe]["httpGet"]["port"] for probe in ("readinessProbe", "livenessProbe")} <= set(ports)
    assert f"-t {container['image']} export" in README


def test_the_compose_file_mounts_existing_files() -> None:
    for volume in COMPOSE["volumes"]:
        source, target, mode = volume.split(":")
        assert (EXPORT / source).is_dir() and mode == "ro"
        flags = [word.split("=")[1] for word in COMPOSE["command"] if f"={target}/" in word]
        assert len(flags) == (2 if target == "/config" else 0)
        assert all((EXPORT / source / Path(flag).name).is_file() for flag in flags)
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE["ports"])


def test_the_grpc_lines_call(grpc_server: tuple[str, Service], in_tmp: Path) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    url, service = grpc_server
    pixels = np.random.RandomState(0).randint(0, 256, (28, 28)).astype(np.uint8)
    Image.fromarray(pixels).save("digit.png")
    names: dict[str, Any] = {}
    exec(lines.replace("127.0.0.1:8500", url.removeprefix("grpc://")), names)
    assert (service.rows, service.label) == ([1], "stable")
    expected = service.model(images=pixels[np.newaxis])
    for name in ("class_id", "probabilities"):
        np.testing.assert_array_equal(tf.make_ndarray(names["answer"].outputs[name]), expected[name])
