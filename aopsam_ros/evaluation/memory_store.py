"""Memory by configuration, kept between runs as results by photograph are."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from aopsam_ros.evaluation.memory_probe import MemoryFigures, probe
from aopsam_ros.images.files import write_bytes


class MemoryStore:
    """A JSON file: a configuration's key to what was asked and what was found."""

    def __init__(self, path: Path) -> None:
        """Read what an earlier run left; a damaged file is measured anew."""
        self._path = path
        self._found: dict[str, dict[str, Any]] = {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        if isinstance(content, dict):
            self._found = content

    def measure(self, requests: Mapping[str, Mapping[str, Any]]) -> dict[str, MemoryFigures]:
        """Return the figures of each request by its key; measure those that are new.

        Raises:
            InferenceError: if a measurement fails.
        """
        figures = {}
        for key, request in tqdm(requests.items(), unit="process", desc="memory", file=sys.stderr):
            known = self._known(key, request["images"])
            if known is None:
                known = probe(request)
                self._found[key] = {"images": request["images"], "figures": asdict(known)}
                write_bytes(self._path, (json.dumps(self._found, indent=1) + "\n").encode())
            figures[key] = known
        return figures

    def _known(self, key: str, images: object) -> MemoryFigures | None:
        try:
            entry = self._found[key]
            return MemoryFigures(**entry["figures"]) if entry["images"] == images else None
        except (KeyError, TypeError):
            return None
