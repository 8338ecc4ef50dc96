"""Puts the demo's overlays together as one image for the README.

    aopsam demo --out out/demo
    python docs/images/contact_sheet.py out/demo docs/images/demo.jpg astronaut gravel cameraman

    aopsam demo --scene teach --fps 2 --repeat 1 --out out/teach
    python docs/images/contact_sheet.py out/teach docs/images/teach.jpg mug_00 mug_06 mug_18

Overlays are scaled to one height and set in rows of equal width, in the order given; without names
all of the run's photographs are taken.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH = 1200
ROW_HEIGHT = 300
GAP = 6
JPEG_QUALITY = 88

Image = NDArray[np.uint8]


def main(demo: Path, target: Path, names: list[str]) -> None:
    """Write the sheet of the overlays in the folder `demo` to `target`."""
    summary = json.loads((demo / "summary.json").read_text(encoding="utf-8"))
    files = {Path(entry["photograph"]).stem: entry["overlay"] for entry in summary["photographs"]}
    images = [read(demo / files[name]) for name in names or sorted(files)]
    rows = [justified(row) for row in rows_of(images)]
    gap = np.full((GAP, WIDTH, 3), 255, np.uint8)
    sheet = np.vstack([piece for row in rows for piece in (gap, row)][1:])
    cv2.imwrite(str(target), sheet, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def read(path: Path) -> Image:
    """Return an image scaled to the height of a row, BGR."""
    image = cv2.imread(str(path))
    return scaled(image, ROW_HEIGHT)


def scaled(image: Image, height: int) -> Image:
    """Return the image at this height, proportions kept."""
    width = round(image.shape[1] * height / image.shape[0])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def rows_of(images: list[Image]) -> list[list[Image]]:
    """Return the images in as many rows as their widths need, evenly filled."""
    total = sum(image.shape[1] for image in images)
    number = max(1, round(total / WIDTH))
    rows: list[list[Image]] = [[] for _ in range(number)]
    before = 0.0
    for image in images:
        centre = before + image.shape[1] / 2
        rows[min(number - 1, int(centre * number / total))].append(image)
        before += image.shape[1]
    return [row for row in rows if row]


def justified(row: list[Image]) -> Image:
    """Return the row's images side by side, scaled so that they fill the width exactly."""
    room = WIDTH - GAP * (len(row) - 1)
    height = round(ROW_HEIGHT * room / sum(image.shape[1] for image in row))
    sheet = np.full((height, WIDTH, 3), 255, np.uint8)
    left = 0
    for image in row:
        piece = scaled(image, height)[:, : WIDTH - left]
        sheet[:, left : left + piece.shape[1]] = piece
        left += piece.shape[1] + GAP
    return sheet


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
