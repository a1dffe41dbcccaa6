"""The configuration of TF Serving, and its documentation."""

from __future__ import annotations

import json
import re
import subprocess
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
import yaml
from google.protobuf import text_format
from tensorflow_serving.apis import prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from seqmnist_tf.serve import DEFAULT_FOLDER, SavedModel, exported_versions, read_description
from tests.serve.test_client import Service
from tests.toy import ROOT

EXPORT = ROOT / "export"
README = (EXPORT / "README.md").read_text()
COMPOSE = yaml.safe_load((EXPORT / "docker-compose.yml").read_text())["services"]["serving"]


def test_the_model_configuration_names_existing_versions() -> None:
    text = (EXPORT / "config" / "models.config").read_text()
    (config,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == ("seqmnist", "/models/seqmnist", "tensorflow")
    served = set(config.model_version_policy.specific.versions)
    assert served and served <= set(exported_versions(ROOT / DEFAULT_FOLDER))
    assert set(config.version_labels.values()) <= served and "stable" in config.version_labels


def test_the_batching_parameters_have_tf_servings_names() -> None:
    lines = [line for line in (EXPORT / "config" / "batching.config").read_text().splitlines() if line.strip()]
    set_ = [name for line in lines for name, _ in re.findall(r"^(\w+) \{ value: (\d+) \}$", line)]
    assert len(set_) == len([line for line in lines if line[0] != "#"])
    assert set(set_) == {"max_batch_size", "batch_timeout_micros", "num_batch_threads", "max_enqueued_batches"}


def test_the_image_is_not_older_than_the_exporting_tensorflow() -> None:
    ((major, minor),) = re.findall(r"^tensorflow/serving:(\d+)\.(\d+)\.\d+$", COMPOSE["image"])
    for path in exported_versions(ROOT / DEFAULT_FOLDER).values():
        exported = read_description(path)["versions"]["tensorflow"].split(".")
        assert (int(major), int(minor)) >= tuple(int(part) for part in exported[:2])


def test_the_compose_file_mounts_existing_files() -> None:
    for volume in COMPOSE["volumes"]:
        source, target, mode = volume.split(":")
        assert (EXPORT / source).is_dir() and mode == "ro"
        flags = [word.split("=")[1] for word in COMPOSE["command"] if f"={target}/" in word]
        assert all((EXPORT / source / Path(flag).name).is_file() for flag in flags)
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE["ports"])


def test_the_health_check_sees_a_server_and_its_absence(server: str) -> None:
    kind, *command = COMPOSE["healthcheck"]["test"]
    assert kind == "CMD"
    port = server.split(":")[-1]
    for asked, healthy in ((port, True), ("9", False)):
        words = [word.replace("127.0.0.1/8501", f"127.0.0.1/{asked}") for word in command]
        assert (subprocess.run(words, capture_output=True, timeout=20).returncode == 0) == healthy


def test_latencies_were_measured_on_a_commit() -> None:
    document = json.loads((ROOT / "results" / "serving.json").read_text())
    assert document["git"]["dirty"] is False
    assert sum(row["errors"] for row in document["server"]) == 0
    ratios = {row["batch"]: row["ratio"] for row in document["latency"] if not row["rest_ms"]}
    assert ratios[1] >= 3 and min(ratios.values()) >= 1


def test_the_grpc_lines_call(toy_versions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    grpc_server = grpc.server(futures.ThreadPoolExecutor(1))
    service = Service(SavedModel.load(toy_versions / "1"))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    grpc_server.start()
    names: dict[str, object] = {}
    exec(lines.replace("127.0.0.1:8500", f"127.0.0.1:{port}"), names)
    grpc_server.stop(None)
    assert service.calls == 1
    expected = service.model(images=np.zeros((1, 28, 28), np.uint8))["class_id"]
    np.testing.assert_array_equal(tf.make_ndarray(names["answer"].outputs["class_id"]), expected)  # type: ignore
