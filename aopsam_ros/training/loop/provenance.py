"""Provenance of checkpoints, which bundle.yaml repeats: data, machine and effort."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def summarise_run(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what bundle.yaml says of a training run, from a checkpoint's facts."""
    options = facts["options"]
    summary: dict[str, Any] = {
        "minutes": round(facts["seconds"] / 60, 1),
        "steps": facts["step"],
        "images": facts["step"] * options["batch_size"],
        "seed": options["seed"],
    }
    return summary | {key: facts[key] for key in ("backbone", "machine", "data") if facts.get(key)}


def describe_machine(device: torch.device) -> str:
    """Return the name of the processor that trains, and torch's version."""
    version = f"torch {torch.__version__.partition('+')[0]}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {version}"
    return f"{_cpu_name()}, {os.cpu_count()} cores, {version}"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
