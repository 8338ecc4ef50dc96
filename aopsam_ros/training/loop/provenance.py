"""Provenance of checkpoints, which bundle.yaml repeats: data, machine and effort."""

from collections.abc import Mapping
from typing import Any

import torch

from aopsam_ros.engines.processor import describe_processor


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
    return f"{describe_processor()}, {version}"
