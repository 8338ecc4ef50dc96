"""The machine and the versions that figures belong to."""

from __future__ import annotations

import contextlib
from importlib import metadata
from pathlib import Path
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
    # The instruction sets that matter to matrix products, as Linux lists them.
    info = Path("/proc/cpuinfo")
    words = set(info.read_text(encoding="utf-8").split()) if info.is_file() else set()
    facts["instructions"] = [name for name in INSTRUCTIONS if name in words]
    facts["versions"] = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            facts["versions"][package] = metadata.version(package)
    return facts
