"""Edges of an image from its masks, as SAM's authors find them (Kirillov et al., section 7.2)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.selection import MASK_THRESHOLD

MOST_PIXELS = 640  # of the longer side that edges are found at; larger images are scaled from it
FLAT = 4.0  # logits beyond which a mask's probability no longer changes
DIRECTIONS = 4  # along which an edge is thinned
# Options of an image of which edges alone are wanted: masks too poor to keep still show some.
EDGE_OPTIONS = {
    "asf.confidence_threshold": 0.05,
    "asf.max_prompts": 128,
    "mask.score_threshold": 0.1,
    "mask.stability_threshold": 0.0,
}


def find_edges(
    logits: NDArray[np.float32], scores: NDArray[np.float32], geometry: FrameGeometry
) -> NDArray[np.float32]:
    """Return how much of an edge each pixel is, float32 `[H, W]` in 0-1, one pixel thin.

    The Sobel gradient of each mask's probability along its outline, weighted by its score; of
    several masks the largest; thinned across the edge.

    Args:
        logits: of the masks, `[n, M, M]` over the padded square.
        scores: what they are ranked by, `[n]` in 0-1.
        geometry: of the frame.
    """
    scale = min(1.0, MOST_PIXELS / max(geometry.height, geometry.width))
    size = max(1, round(geometry.height * scale)), max(1, round(geometry.width * scale))
    strength, across = np.zeros(size, np.float32), np.zeros(size, np.uint8)
    to_cells = _to_cells(geometry, logits.shape[-1], size)
    for mask, score in zip(logits, scores, strict=True):
        window = _window(mask, to_cells, size)
        if window is not None:
            _add(mask, float(score), to_cells, window, strength, across)
    thin = _thinned(strength, across)
    if scale < 1.0:
        whole = (geometry.width, geometry.height)
        thin = np.asarray(cv2.resize(thin, whole, interpolation=cv2.INTER_NEAREST), np.float32)
    return np.clip(thin, 0.0, 1.0)


def _to_cells(
    geometry: FrameGeometry, side: int, size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scale and offset, x and y, from pixels of a map of `size` to cells of the masks."""
    valid = np.array([geometry.valid_width, geometry.valid_height]) * side / geometry.image_size
    scale = valid / np.array(size[::-1])
    return scale, 0.5 * scale - 0.5


Window = tuple[slice, slice]  # rows and columns


def _window(
    logits: NDArray[np.float32],
    to_cells: tuple[NDArray[np.float64], NDArray[np.float64]],
    size: tuple[int, int],
) -> Window | None:
    """Return the pixels around a mask; None where it has none."""
    there = logits > MASK_THRESHOLD
    rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    if not len(rows):
        return None
    scale, offset = to_cells
    first = (np.array([columns[0], rows[0]]) - 2 - offset) / scale
    last = (np.array([columns[-1], rows[-1]]) + 2 - offset) / scale
    left, top = np.maximum(np.floor(first), 0).astype(int)
    right, bottom = np.minimum(np.ceil(last) + 1, size[::-1]).astype(int)
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _add(
    logits: NDArray[np.float32],
    score: float,
    to_cells: tuple[NDArray[np.float64], NDArray[np.float64]],
    window: Window,
    strength: NDArray[np.float32],
    across: NDArray[np.uint8],
) -> None:
    """Put a mask's edge into the maps, where it is stronger than what is there."""
    (rows, columns), (scale, offset) = window, to_cells
    x = (np.arange(columns.start, columns.stop) * scale[0] + offset[0]).astype(np.float32)
    y = (np.arange(rows.start, rows.stop) * scale[1] + offset[1]).astype(np.float32)
    grid = np.broadcast_to(x, (len(y), len(x))), np.broadcast_to(y[:, None], (len(y), len(x)))
    map_x, map_y = (np.ascontiguousarray(own) for own in grid)
    border = cv2.BORDER_REPLICATE
    fine = cv2.remap(logits, map_x, map_y, cv2.INTER_LINEAR, borderMode=border)
    inside = (fine > MASK_THRESHOLD).astype(np.uint8)
    outline = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    probability = 1.0 / (1.0 + np.exp(-np.clip(fine, -FLAT, FLAT)))
    along_x = cv2.Sobel(probability, cv2.CV_32F, 1, 0, borderType=border)
    along_y = cv2.Sobel(probability, cv2.CV_32F, 0, 1, borderType=border)
    # Sobel's sum is 8 times the gradient a pixel; a cell has 1 / scale of these.
    own = score * np.hypot(along_x / scale[0], along_y / scale[1]) / 8.0
    stronger = outline & (own > strength[rows, columns])
    strength[rows, columns][stronger] = own[stronger]
    turned = np.rint(np.arctan2(along_y, along_x) / (np.pi / DIRECTIONS)).astype(int) % DIRECTIONS
    across[rows, columns][stronger] = turned[stronger]


def _thinned(strength: NDArray[np.float32], across: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Keep a pixel where it is the strongest of its two neighbours across the edge."""
    padded = np.pad(strength, 1)
    height, width = strength.shape
    kept = np.zeros_like(strength, np.bool_)
    for direction, (dx, dy) in enumerate(((1, 0), (1, 1), (0, 1), (-1, 1))):
        ahead = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        behind = padded[1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        kept |= (across == direction) & (strength >= ahead) & (strength > behind)
    return np.where(kept, strength, 0.0).astype(np.float32)
