"""Measures the models one after another and joins what their parts found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from aopsam_benchmarks.machine import describe_machine
from aopsam_benchmarks.model_parts import ModelParts, Settings, name_of, noting_failures
from aopsam_benchmarks.report import ratios

FORMAT = 2  # of the JSON; counted up when a name in it changes its meaning


def measure(settings: Settings) -> dict[str, Any]:
    """Measure everything that can be; what cannot is named with its reason under `left_out`.

    Raises:
        BundleError: if there is no model of a name.
    """
    names = _names(settings.models)
    settings.out.mkdir(parents=True, exist_ok=True)
    machine, left_out, models = describe_machine(), dict[str, str](), dict[str, Any]()
    for name, model in names.items():
        with noting_failures(left_out, name):
            models[name] = ModelParts(settings, name, model, left_out).measure()
    return {
        "format": FORMAT,
        "machine": machine,
        "settings": _without_paths(settings, list(names)),
        "ratios": [asdict(ratio) for ratio in ratios(models)],
        "models": models,
        "left_out": left_out,
    }


def _names(models: Sequence[str]) -> dict[str, str]:
    """Map the names of bundles, numbered where two have the same, to what the user gave."""
    names: dict[str, str] = {}
    for model in models:
        name = base = name_of(model)
        while name in names:
            name = f"{base}_{len(names) + 1}"
        names[name] = model
    return names


def _without_paths(settings: Settings, names: list[str]) -> dict[str, Any]:
    """Return the settings without what is this machine's own."""
    described = asdict(settings)
    for name in ("out", "peer_python"):
        described.pop(name)
    return {**described, "models": names, "peer": settings.peer is not None}
