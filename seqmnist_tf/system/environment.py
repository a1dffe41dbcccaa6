"""The surroundings of a run: versions, machine, cores, commit."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
CLONE = PACKAGE.parent  # the root of a clone, where there is one
BUILD_FILES = ("pyproject.toml", "setup.py")
PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets", "wandb", "keras-tuner", "h5py", "seqmnist_tf")
GIT_SECONDS = 60


def describe_environment(command: str, threads: int, kernel: str) -> dict[str, Any]:
    """Return the content of ``environment.json``; 0 ``threads`` are all cores.

    Stock Keras uses the threads of TensorFlow, which the calling program may have set.
    """
    import tensorflow as tf  # late, as in start_tensorflow

    if kernel == "keras":
        threads = tf.config.threading.get_intra_op_parallelism_threads()
    gpus = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    return {
        "started": utc_now(),
        "command": command,
        "git": git_state(),
        "python": platform.python_version(),
        "versions": package_versions(),
        "machine": describe_machine(),
        "device": gpus[0].get("device_name", "GPU") if gpus else "CPU",
        "threads": threads or available_cores(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
        "kernel": kernel,
    }


def describe_machine() -> dict[str, Any]:
    """Return the description of this computer, ready for JSON."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": available_cores(),
        "memory_gib": _memory_gib(),
    }


def peak_mb() -> float | None:
    """Return the peak memory of this process in MB; None on other systems than Linux."""
    # getrusage would begin with the size of the parent process.
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    return None


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def git_state() -> dict[str, Any]:
    """Return the commit of the clone that holds this package, and whether the code differs from it.

    ``dirty``: the package, ``pyproject.toml`` or ``setup.py`` has changes or new files; other files do not count. Both
    are None where the package is not in a clone of its repository.
    """
    if git_output(CLONE, "rev-parse", "--show-prefix") != b"\n" or not (CLONE / "pyproject.toml").is_file():
        return {"commit": None, "dirty": None}
    head = git_output(CLONE, "rev-parse", "HEAD")
    status = git_output(CLONE, "status", "--porcelain", "--untracked-files=all", "--", PACKAGE.name, *BUILD_FILES)
    return {"commit": head.decode().strip() if head else None, "dirty": None if status is None else bool(status)}


def git_output(root: Path, *words: str) -> bytes | None:
    """Return the output of a git command in the clone at ``root``; None where it fails or git is missing."""
    try:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, check=True, timeout=GIT_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def available_cores() -> int:
    """Return the number of CPU cores of this process, as limited by its affinity, a container's quota or Slurm."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = [len(affinity(0)) if affinity else os.cpu_count() or 1]
    if (quota := _cgroup_quota()) is not None:
        cores.append(max(1, int(quota)))
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if slurm.isdecimal() and int(slurm) > 0:
        cores.append(int(slurm))
    return min(cores)


def _cgroup_quota(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> float | None:
    """Return the CPUs that a container may use, None without a limit (cgroup v2)."""
    try:
        quota, period = file.read_text().split()
        return float(quota) / float(period)
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _processor() -> str:
    """Return the processor's name, with family and model: virtual machines shorten the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        return f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']})"
    except (OSError, KeyError):
        return platform.processor() or "unknown"


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
