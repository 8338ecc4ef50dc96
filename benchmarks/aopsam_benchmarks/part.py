"""What the parts share: their arguments, the image, and how they hand over what they found."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.commands.arguments import add_engine_arguments
from aopsam_ros.errors import InputError
from aopsam_ros.images.files import read_rgb
from aopsam_ros.ros.resources import resource_folder

PHOTOGRAPH = "coffee.jpg"


def part_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that every part takes."""
    parser = argparse.ArgumentParser(description=description)
    add_model_arguments(parser)
    parser.add_argument("--set", nargs="*", default=[], help="options, NAME=VALUE")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    return parser


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model, its engine, and the image's size."""
    parser.add_argument("--model", default="nano", help="bundle's name or folder")
    add_engine_arguments(parser)
    parser.add_argument("--size", default="1280x720", help="of the image")


def parse_size(text: str) -> tuple[int, int]:
    """Read `1280x720` as width and height.

    Raises:
        InputError: if it is no such size.
    """
    width, separator, height = text.partition("x")
    if not (separator and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise InputError(f"a size is WIDTHxHEIGHT, such as 1280x720, not '{text}'")
    return int(width), int(height)


def benchmark_image(width: int, height: int) -> NDArray[np.uint8]:
    """Return a photograph in this size, uint8 `[height, width, 3]`: cut to its shape, resized."""
    rgb = read_rgb(resource_folder("photographs") / PHOTOGRAPH)
    rows, columns = rgb.shape[:2]
    wanted_rows = min(rows, round(columns * height / width))
    wanted_columns = min(columns, round(rows * width / height))
    top, left = (rows - wanted_rows) // 2, (columns - wanted_columns) // 2
    cut = rgb[top : top + wanted_rows, left : left + wanted_columns]
    method = cv2.INTER_AREA if width < wanted_columns else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(cut, (width, height), interpolation=method), np.uint8)


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
