"""The record of what is finished. Nothing counts as done before it is written here."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

FOLDER = ".aopsam"  # inside the environment; also marks it as made by this script


@dataclass
class Stamp:
    """Keys of the finished steps; a key that differs means that the step has to run again."""

    machine: str = ""
    groups: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, venv: Path) -> Stamp:
        """Read the record; an absent or unreadable one means that nothing is finished."""
        try:
            return cls(**json.loads(_file(venv).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls()

    def save(self, venv: Path) -> None:
        """Write the record in one step, so that an interruption leaves the old one or the new."""
        file = _file(venv)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        os.replace(temporary, file)


def is_ours(venv: Path) -> bool:
    """Whether a folder is absent, empty or was made by this script."""
    return (venv / FOLDER).is_dir() or not venv.exists() or not any(venv.iterdir())


def _file(venv: Path) -> Path:
    return venv / FOLDER / "stamp.json"
