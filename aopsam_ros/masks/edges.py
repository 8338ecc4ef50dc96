"""Edges of an image from its masks, as SAM's authors find them (Kirillov et al., section 7.2)."""

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.geometry import FrameGeometry
from aopsam_ros.masks.selection import MASK_THRESHOLD, mask_corners
from aopsam_ros.options import SegmenterOptions

MOST_PIXELS = 640  # of the longer side that edges are found at; larger images are scaled from it
FLAT = 4.0  # logits beyond which a mask's probability no longer changes
DIRECTIONS = 4  # along which an edge is thinned
BORDER = cv2.BORDER_REPLICATE
# Of an image of which edges alone are wanted: prompts at least, and thresholds at most.
MAX_PROMPTS = 128
THRESHOLDS = {
    "asf.confidence_threshold": 0.05,
    "mask.score_threshold": 0.1,
    "mask.stability_threshold": 0.0,
}


def edge_options(options: SegmenterOptions) -> SegmenterOptions:
    """Return options of an image of which edges alone are wanted.

    Masks too poor to keep still show some, so that more is decoded, and less dropped, than
    otherwise; options that go further already stay as they are, as a grid's number of prompts. The
    image is not cut into crops, which have no edges of their own.
    """
    own = options.flat()
    lowered = {name: min(float(own[name]), most) for name, most in THRESHOLDS.items()}
    prompts = max(int(own["asf.max_prompts"]), MAX_PROMPTS)
    return options.updated({**lowered, "asf.max_prompts": prompts, "grid.crop_layers": 0})


def find_edges(
    logits: NDArray[np.float32], scores: NDArray[np.float32], geometry: FrameGeometry
) -> NDArray[np.float32]:
    """Return how much of an edge each pixel is, float32 `[H, W]` in 0-1, one pixel thin.

    The Sobel gradient of each mask's probability along its outline, weighted by its score; of
    several masks the largest; thinned across the edge. Logits are `[n, M, M]` over the padded
    square, scores `[n]` in 0-1.
    """
    scale = min(1.0, MOST_PIXELS / max(geometry.height, geometry.width))
    size = max(1, round(geometry.height * scale)), max(1, round(geometry.width * scale))
    strength, across = np.zeros(size, np.float32), np.zeros(size, np.uint8)
    valid = np.array(geometry.valid[::-1]) * logits.shape[-1] / geometry.image_size
    step = valid / size[::-1]  # from a pixel of the map to the next, in cells of the masks
    for mask, score, box in zip(logits, scores, mask_corners(logits > MASK_THRESHOLD), strict=True):
        # The mask's box and two cells around it, in pixels of the map.
        left, top = np.maximum((box[:2] - 1.5) / step - 0.5, 0).astype(int)
        right, bottom = np.minimum((box[2:] + 1.5) / step + 1.5, size[::-1]).astype(int)
        if left < right and top < bottom:
            first = (np.array([left, top]) + 0.5) * step - 0.5
            to_cells = np.column_stack((np.diag(step), first))
            how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            window = right - left, bottom - top
            fine = cv2.warpAffine(mask, to_cells, window, flags=how, borderMode=BORDER)
            part = np.s_[top:bottom, left:right]
            _add(fine, float(score), step, strength[part], across[part])
    thin = _thinned(strength, across)
    if scale < 1.0:
        whole = (geometry.width, geometry.height)
        thin = np.asarray(cv2.resize(thin, whole, interpolation=cv2.INTER_NEAREST), np.float32)
    return np.clip(thin, 0.0, 1.0)


def _add(
    fine: NDArray[np.float32],
    score: float,
    step: NDArray[np.float64],
    strength: NDArray[np.float32],
    across: NDArray[np.uint8],
) -> None:
    """Put the edge of a mask of logits `fine` into maps, where it is stronger than what is there.

    `step` is that from a pixel to the next, x and y in cells of the mask.
    """
    inside = (fine > MASK_THRESHOLD).astype(np.uint8)
    outline = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    probability = 1.0 / (1.0 + np.exp(-np.clip(fine, -FLAT, FLAT)))
    along_x = cv2.Sobel(probability, cv2.CV_32F, 1, 0, borderType=BORDER)
    along_y = cv2.Sobel(probability, cv2.CV_32F, 0, 1, borderType=BORDER)
    # Sobel's sum is 8 times the gradient a pixel; a cell has 1 / step of these.
    own = score * np.hypot(along_x / step[0], along_y / step[1]) / 8.0
    stronger = outline & (own > strength)
    strength[stronger] = own[stronger]
    turned = np.rint(np.arctan2(along_y, along_x) / (np.pi / DIRECTIONS)).astype(int) % DIRECTIONS
    across[stronger] = turned[stronger]


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
