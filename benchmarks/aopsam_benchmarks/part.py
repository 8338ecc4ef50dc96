"""What the parts share: their arguments, and how they hand over what they found."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def part_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that every part takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", default="nano", help="bundle's name or folder")
    parser.add_argument("--engine", default="auto", help="engine that runs it")
    parser.add_argument("--precision", default="auto", help="of the engine")
    parser.add_argument("--threads", type=int, default=0, help="of the engine (0: it chooses)")
    parser.add_argument("--set", nargs="*", default=[], help="options, NAME=VALUE")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    return parser


def engine_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what a part's arguments say about the engine, as keyword arguments of its makers."""
    return {name: getattr(arguments, name) for name in ("engine", "threads", "precision")}


def write_json(file: Path, content: object) -> None:
    """Write a part's findings."""
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the median, the extremes and the number of some repeated measurements."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "runs": len(values),
    }
