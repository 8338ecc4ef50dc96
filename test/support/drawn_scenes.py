"""Small pictures with known instances, written in the data formats that training reads."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

COLOURS = np.array([[90, 90, 90], [220, 40, 40], [40, 200, 60], [50, 60, 220], [230, 210, 40]])


def draw_scene(
    seed: int, height: int = 96, width: int = 128
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Draw up to four ellipses of different colours; return the picture and its label map."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.uint8)
    for label in range(1, 5):
        centre = (int(rng.integers(15, width - 15)), int(rng.integers(15, height - 15)))
        axes = (int(rng.integers(8, 22)), int(rng.integers(8, 22)))
        cv2.ellipse(labels, centre, axes, float(rng.uniform(0, 180)), 0, 360, label, -1)
    noise = rng.normal(0, 4, (height, width, 3))
    rgb = np.clip(COLOURS[labels] + noise, 0, 255).astype(np.uint8)
    return rgb, labels.astype(np.uint16)


def write_label_maps(folder: Path, count: int) -> Path:
    """Write `images/` and `masks/`."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        rgb, labels = draw_scene(index)
        cv2.imwrite(str(folder / "images" / f"scene{index}.png"), rgb[:, :, ::-1])
        cv2.imwrite(str(folder / "masks" / f"scene{index}.png"), labels)
    return folder


def column_runs(mask: NDArray[np.bool_]) -> dict:
    """COCO's uncompressed run lengths: column by column, the first run counts zeros."""
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": ([0] if flat[0] else []) + runs}


def write_json(path: Path, content: object) -> Path:
    """Write JSON, with the folder it belongs in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_sa1b(folder: Path, count: int, points: bool = True) -> Path:
    """Write `sa_N.jpg` and `sa_N.json`, with a prompt point near the left end of each mask."""
    from pycocotools import mask as coder

    folder.mkdir(parents=True)
    for index in range(count):
        rgb, labels = draw_scene(index)
        cv2.imwrite(str(folder / f"sa_{index}.jpg"), rgb[:, :, ::-1])
        annotations = []
        for label in np.unique(labels[labels > 0]).tolist():
            runs = coder.encode(np.asfortranarray((labels == label).astype(np.uint8)))
            annotation = {"segmentation": {**runs, "counts": runs["counts"].decode()}}
            if points:
                annotation["point_coords"] = [left_point(labels == label)]
            annotations.append(annotation)
        write_json(folder / f"sa_{index}.json", {"annotations": annotations})
    return folder


def left_point(mask: NDArray[np.bool_]) -> list[float]:
    """Pick the pixel in the middle of a mask's third column, far from its innermost one."""
    columns = np.flatnonzero(mask.any(0))
    rows = np.flatnonzero(mask[:, columns[2]])
    return [float(columns[2]), float(rows[len(rows) // 2])]
