"""The machine and the versions that figures belong to."""

from __future__ import annotations

import contextlib
from importlib import metadata
from typing import Any

import psutil
import pyperf

PACKAGES = (
    "aopsam_ros",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "torch",
    "numpy",
    "opencv-python-headless",
    "pyperf",
)
# Of what pyperf collects: what decides about speed, and nothing about whose machine it is.
FACTS = (
    "cpu_model_name",
    "cpu_count",
    "cpu_config",
    "cpu_freq",
    "load_avg_1min",
    "platform",
    "python_version",
    "date",
)
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "asimddp")


def describe_machine() -> dict[str, Any]:
    """Return the processor, memory, load and versions, in words and numbers for JSON."""
    found = pyperf.Run([1.0], collect_metadata=True).get_metadata()
    facts: dict[str, Any] = {name: found[name] for name in FACTS if name in found}
    facts["date"] = str(facts.get("date", ""))
    facts["memory_gb"] = round(psutil.virtual_memory().total / 1e9, 1)
    facts["instructions"] = _instructions()
    facts["versions"] = _versions()
    return facts


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _instructions() -> list[str]:
    """Name the instruction sets that matter to matrix products, as Linux lists them."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            words = set(file.read().split())
    except OSError:
        return []
    return [name for name in INSTRUCTIONS if name in words]
