"""The job script for Slurm and the manifest for KubeRay that users copy.

The script runs with stand-ins for Slurm and Ray; the manifest is compared with the schemas of Kubernetes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from seqmnist_tf import config as cfg
from seqmnist_tf.compare.__main__ import make_compare_parser
from seqmnist_tf.compare.arms import parse_arms
from seqmnist_tf.engine import require_engine_options
from tests.toy import ROOT

CLUSTER = ROOT / "examples" / "cluster"
SCRIPT = CLUSTER / "seqmnist.sbatch"
ARGUMENTS = ("compare", "strong", "GRU", "--seeds", "0-5", "--dir", "a folder")
SEARCH = ("tune", "strong", "--tuner", "random", "--max-trials", "9", "--dir", "a folder")
# Stand-ins: srun, ray and python write their arguments to a file. Ray's head listens, and its nodes run until a signal.
# They hold the script's stdout, so that a test ends only when they have ended too.
STAND_INS = {
    "bin/scontrol": 'printf "node1\\nnode2\\nnode3\\n"',
    "bin/getent": 'echo "127.0.1.1 STREAM $2"',
    "bin/hostname": 'echo "127.0.0.1 192.0.2.1"',
    "bin/sleep": "exec /bin/sleep 0.05",
    "bin/srun": """for word; do case $word in --*) options+=" $word"; shift ;; *) break ;; esac; done
        echo "srun$options" >> "$CALLS"; exec "$@" """,
    ".venv/bin/ray": """echo "ray $* token=${#RAY_AUTH_TOKEN} $RAY_AUTH_MODE" >> "$CALLS"
        exec "$PYTHON" -S -c '
import os, signal, socket, sys
listener = socket.socket()
if "--head" in sys.argv:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(os.environ["RAY_PORT"])))
    listener.listen()
signal.pause()' "$@" """,
    ".venv/bin/python": """for _ in $(seq 200); do
            [ "$(grep -c "^ray start" "$CALLS")" = 3 ] && break; /bin/sleep 0.05
        done
        printf "python"  >> "$CALLS"; printf " <%s>" "$@" >> "$CALLS"; echo >> "$CALLS"; exit "$STATUS" """,
}


@pytest.fixture
def port() -> int:
    """Return a free port of the range that the script uses."""
    for number in range(20_000 + os.getpid() % 9_000, 30_000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", number))
            return number
    raise AssertionError("no free port")


def run_script(
    folder: Path, port: int, status: str, arguments: tuple[str, ...], **more: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the job script as Slurm does on the first of three nodes; return it and the calls that it made."""
    for name, body in STAND_INS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    calls = folder / "calls"
    calls.touch()
    variables = {
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_JOB_ID": str(port - 20_000),
        "SLURM_JOB_NODELIST": "node[1-3]",
        "SLURM_CPUS_PER_TASK": "16",
        "CALLS": str(calls),
        "PYTHON": sys.executable,
        "RAY_PORT": str(port),
        "STATUS": status,
        **more,
    }
    done = subprocess.run(
        ["bash", str(SCRIPT), *arguments], cwd=folder, env=variables, capture_output=True, text=True, timeout=60
    )
    return done, calls.read_text().splitlines()


def test_the_script_has_no_finding_of_shellcheck() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([str(shellcheck), str(SCRIPT)], text=True)
    assert done.returncode == 0


@pytest.mark.parametrize(("arguments", "status", "gpus"), [(ARGUMENTS, "0", ""), (SEARCH, "2", "2")])
def test_the_script_starts_head_and_workers_and_the_command(
    arguments: tuple[str, ...], status: str, gpus: str, tmp_path: Path, port: int
) -> None:
    given = {"SLURM_GPUS_ON_NODE": gpus} if gpus else {}  # Slurm sets it for --gres
    done, calls = run_script(tmp_path, port, status, arguments, **given)
    assert done.returncode == int(status), done.stderr
    each = f"--num-cpus=16 --num-gpus={gpus or 0} --object-store-memory=200000000 --temp-dir=/tmp/ray-{port - 20_000}"
    each += " --block token=64 token"
    head = f"ray start --head --node-ip-address=127.0.0.1 --port={port} --include-dashboard=false {each}"
    assert calls[:2] == ["srun --nodes=1 --ntasks=1 --cpus-per-task=16 --nodelist=node1", head]
    assert sorted(line for line in calls[2:6] if "srun" in line) == [
        f"srun --nodes=1 --ntasks=1 --cpus-per-task=16 --nodelist={node}" for node in ("node2", "node3")
    ]
    assert calls[2:6].count(f"ray start --address=127.0.0.1:{port} {each}") == 2
    name, *words = arguments
    words = ["--address", f"127.0.0.1:{port}", "--train.threads", "4", *words]
    assert calls[6] == "python " + " ".join(f"<{word}>" for word in ("-m", f"seqmnist_tf.{name}", *words))
    assert len(calls) == 7
    if name == "compare":
        options, rest = make_compare_parser().parse_known_args(words)
        assert cfg.read_flags(rest, "") == {"train.threads": 4}
        assert options.arms == ["strong", "GRU"]


def read_manifest() -> tuple[dict[str, Any], dict[str, Any]]:
    claim, job = yaml.safe_load_all((CLUSTER / "rayjob.yaml").read_text())
    return claim, job


def groups(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cluster = job["spec"]["rayClusterSpec"]
    yield cluster["headGroupSpec"]
    yield from cluster["workerGroupSpecs"]


def test_claim_and_pods_agree_with_kubernetes_schema() -> None:
    claim, job = read_manifest()
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(claim, version, strict=True)
    for group in groups(job):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **group["template"]}
        kubernetes_validate.validate(pod, version, strict=True)


def test_the_manifests_command_is_understood_and_stays_on_the_shared_folder() -> None:
    claim, job = read_manifest()
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    entrypoint = job["spec"]["entrypoint"]
    assert not re.search(r"[\"'$`\\;&|<>*?(){}~#\n]", entrypoint)
    words = shlex.split(entrypoint)
    assert words[:3] == ["python", "-m", "seqmnist_tf.compare"]
    options, rest = make_compare_parser().parse_known_args(words[3:])
    require_engine_options(None, options.address)
    keys = cfg.read_flags(rest, "")
    assert options.address == "127.0.0.1:6379"
    first, second = parse_arms([word.replace("/home/ray/seqmnist_tf", str(ROOT)) for word in options.arms], keys)
    assert first.name == "strong" and cfg.read_layer(second.config) is not None
    assert options.dir.is_relative_to("/shared") and Path(keys["data.dir"]).is_relative_to("/shared")
    for group in groups(job):
        spec = group["template"]["spec"]
        (container,) = spec["containers"]
        (mount,) = container["volumeMounts"]
        (volume,) = spec["volumes"]
        assert (mount["mountPath"], mount["name"]) == ("/shared", volume["name"])
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    (workers,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    cores = int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert cores // keys["train.threads"] == 4  # as a comment in the manifest says
