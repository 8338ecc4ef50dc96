"""Drawn scenes for the hand-made bundle: rectangles of flat colours, a red dot on each prompt."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

# Green and blue; any two are further apart than the tiny model's middle tolerance.
COLOURS = [(220, 40), (40, 220), (220, 220), (130, 255)]
GROUND = (40, 40)
SIZE = 96, 128


def draw(seed):
    """Draw three rectangles; return the picture and its label map.

    Each rectangle has a dot in its middle, the ground has one, and the last rectangle has a second,
    weaker one, which gives the same mask again.
    """
    rng = np.random.default_rng(seed)
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[..., 1:] = GROUND
    labels = np.zeros(SIZE, np.uint16)
    dots = [((60, 6), 255)]
    for column in range(3):
        left, top = 6 + 40 * column + int(rng.integers(0, 6)), int(rng.integers(16, 40))
        width, height = int(rng.integers(22, 30)), int(rng.integers(30, 50))
        area = slice(top, top + height), slice(left, left + width)
        rgb[area] = (0, *COLOURS[column])
        labels[area] = column + 1
        dots.append(((left + width // 2, top + height // 2), 255 - 5 * column))
    x, y = dots[-1][0]
    dots.append(((x, y + 11), 215))
    for (x, y), strength in dots:
        rgb[y - 3 : y + 3, x - 3 : x + 3, 0] = strength
    return rgb, labels


def write_scenes(folder: Path, seeds) -> Path:
    """Write scenes as a folder of label maps."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for seed in seeds:
        rgb, labels = draw(seed)
        cv2.imwrite(str(folder / "images" / f"scene{seed}.png"), rgb[:, :, ::-1])
        cv2.imwrite(str(folder / "masks" / f"scene{seed}.png"), labels)
    return folder


def write_boxes(path: Path, folders) -> Path:
    """Write the objects' boxes, as a detector would give them."""
    content = {}
    for folder in folders:
        for file in sorted((folder / "masks").iterdir()):
            labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            rows = []
            for label in range(1, int(labels.max()) + 1):
                y, x = np.nonzero(labels == label)
                rows.append([*map(int, (x.min(), y.min(), x.max() + 1, y.max() + 1)), 0.9, 0])
            content[f"{folder.name}/{file.name}"] = rows
    path.write_text(json.dumps(content))
    return path
