"""Drawn scenes with known objects, also written in the data formats that training reads.

Scenes for the hand-made bundle (`tiny_bundle`) are rectangles of flat colours, a red dot on each
prompt; those for training are ellipses with noise.
"""

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.rle import decode_full

# Green and blue; any two are further apart than the tiny model's middle tolerance.
COLOURS = ((220, 40), (40, 220), (220, 220), (130, 255))
GROUND = (40, 40)
ELLIPSE_COLOURS = np.array(
    [[90, 90, 90], [220, 40, 40], [40, 200, 60], [50, 60, 220], [230, 210, 40]]
)


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return intersection over union of two masks of one size; 0 when both are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 0.0


def best_ious(wanted, found) -> list[float]:
    """Return for each wanted mask the best IoU that any found mask reaches (0 with none)."""
    return [max((iou(mask, other) for other in found), default=0.0) for mask in wanted]


def full_masks(segmentation) -> list[NDArray[np.bool_]]:
    """Return all masks of a segmentation on the whole image."""
    size = segmentation.height, segmentation.width
    return [decode_full(mask, *size) for mask in segmentation.masks]


def object_ious(segmentation, objects) -> list[float]:
    """Return for each object of `coloured_scene` the best IoU of any mask."""
    return best_ious([mask for mask, _ in objects], full_masks(segmentation))


def write_video(path, images, rate=10):
    """Write a video of uint8 images `[height, width, 3]`, RGB; return its path."""
    height, width = images[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (width, height))
    assert writer.isOpened()
    for rgb in images:
        writer.write(np.ascontiguousarray(rgb[:, :, ::-1]))
    writer.release()
    return path


def boxes_scene(boxes=((20, 30, 40, 20), (70, 60, 30, 50)), size=(128, 128)):
    """Draw up to three boxes (x, y, width, height) on black, each with a dot in its middle."""
    rgb = np.zeros((*size, 3), np.uint8)
    for (x, y, w, h), colour in zip(boxes, ((220, 60), (60, 220), (220, 220)), strict=False):
        rgb[y : y + h, x : x + w, 1:] = colour
        cv2.circle(rgb, (x + w // 2, y + h // 2), 2, (255, *colour), -1)
    return rgb


def coloured_scene(height=90, width=120):
    """Three rectangles on a ground, a red dot on each and on the ground.

    Returns:
        rgb uint8 `[height, width, 3]`, and each rectangle's mask and dot.
    """
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 1:] = GROUND
    objects = []
    for column, (green, blue) in enumerate(COLOURS[:3]):
        top, left = height // 4, int(width * (0.06 + 0.33 * column))
        bottom, right = 3 * height // 4, left + int(width * 0.22)
        mask = np.zeros((height, width), bool)
        mask[top:bottom, left:right] = True
        rgb[mask] = (0, green, blue)
        objects.append((mask, ((left + right) / 2, (top + bottom) / 2)))
    for x, y in [dot for _, dot in objects] + [(width * 0.5, height * 0.1)]:
        reach = max(2, max(height, width) // 40)
        area = slice(int(y) - reach, int(y) + reach), slice(int(x) - reach, int(x) + reach)
        rgb[area[0], area[1], 0] = 255
    return rgb, objects


def draw_rectangles(seed, size=(96, 128)):
    """Draw three rectangles; return the image and its label map.

    Each rectangle has a dot in its middle, the ground has one, and the last rectangle has a second,
    weaker one, which gives the same mask again.
    """
    rng = np.random.default_rng(seed)
    rgb = np.zeros((*size, 3), np.uint8)
    rgb[..., 1:] = GROUND
    labels = np.zeros(size, np.uint16)
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


def draw_ellipses(
    seed: int, height: int = 96, width: int = 128
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Draw up to four ellipses of different colours; return the image and its label map."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.uint8)
    for label in range(1, 5):
        centre = (int(rng.integers(15, width - 15)), int(rng.integers(15, height - 15)))
        axes = (int(rng.integers(8, 22)), int(rng.integers(8, 22)))
        cv2.ellipse(labels, centre, axes, float(rng.uniform(0, 180)), 0, 360, label, -1)
    noise = rng.normal(0, 4, (height, width, 3))
    rgb = np.clip(ELLIPSE_COLOURS[labels] + noise, 0, 255).astype(np.uint8)
    return rgb, labels.astype(np.uint16)


def write_label_maps(folder: Path, seeds, draw=draw_ellipses) -> Path:
    """Write scenes as `images/` and their label maps as `masks/`."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for seed in seeds:
        rgb, labels = draw(seed)
        cv2.imwrite(str(folder / "images" / f"scene{seed}.png"), rgb[:, :, ::-1])
        cv2.imwrite(str(folder / "masks" / f"scene{seed}.png"), labels)
    return folder


def write_scenes(folder: Path, seeds) -> Path:
    """Write scenes of rectangles, for the hand-made bundle."""
    return write_label_maps(folder, seeds, draw_rectangles)


def write_json(path: Path, content: object) -> Path:
    """Write JSON, with the folder it belongs in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_sa1b(folder, count):
    """Write `sa_N.jpg` and `sa_N.json`, with a prompt point near the left end of each mask."""
    from pycocotools import mask as coder

    folder.mkdir(parents=True)
    for index in range(count):
        rgb, labels = draw_ellipses(index)
        cv2.imwrite(str(folder / f"sa_{index}.jpg"), rgb[:, :, ::-1])
        annotations = []
        for label in np.unique(labels[labels > 0]).tolist():
            runs = coder.encode(np.asfortranarray((labels == label).astype(np.uint8)))
            segmentation = {**runs, "counts": runs["counts"].decode()}
            points = [left_point(labels == label)]
            annotations.append({"segmentation": segmentation, "point_coords": points})
        write_json(folder / f"sa_{index}.json", {"annotations": annotations})
    return folder


def left_point(mask):
    """Pick the pixel in the middle of a mask's third column, far from its innermost one."""
    columns = np.flatnonzero(mask.any(0))
    rows = np.flatnonzero(mask[:, columns[2]])
    return [float(columns[2]), float(rows[len(rows) // 2])]
