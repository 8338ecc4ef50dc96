"""Pictures of a segmentation for people: masks, prompts and the confidence map drawn on the image.

Nothing here is needed to segment. All work is done by cv2 inside each mask's box, so that the cost
follows the masks and not the number of masks times the frame.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.drawing.glyphs import HALO, Rgb, RgbImage, draw_legend, draw_prompts, drawing_unit
from aopsam_ros.errors import InputError, MaskFormatError
from aopsam_ros.masks.rle import decode
from aopsam_ros.results import InstanceMask, Segmentation

MASK_OPACITY = 0.45

# Twelve hues that are told apart at a glance, in the order of the colour wheel.
_HUES: tuple[Rgb, ...] = (
    (240, 62, 62),
    (247, 122, 28),
    (250, 176, 5),
    (222, 222, 40),
    (130, 201, 30),
    (43, 178, 76),
    (18, 184, 150),
    (34, 184, 230),
    (60, 120, 245),
    (112, 72, 232),
    (190, 75, 219),
    (235, 80, 160),
)
_HUE_STEP = 7  # coprime with twelve: neighbouring ids lie far apart on the wheel
_FIRST_HUE = 8  # blue: calm on the largest mask, which has id 1 and is often the ground
# After each round of the wheel the shade changes: plain, lighter, darker (share of white or black).
_SHADES = ((0, 0.0), (255, 0.4), (0, 0.35))
_HALO_FROM = 1.6  # drawing units; below, an outline's dark edge would be wider than the line


@functools.lru_cache(maxsize=4096)
def colour_of(mask_id: int) -> Rgb:
    """Return the RGB colour of a mask id: always the same, and unlike those of the next ids."""
    round_, place = divmod(mask_id - 1, len(_HUES))
    hue = _HUES[(_FIRST_HUE + place * _HUE_STEP) % len(_HUES)]
    return _mix(hue, *_SHADES[round_ % len(_SHADES)])


def _mix(colour: Rgb, grey: int, share: float) -> Rgb:
    """Return the colour with a share (0-1) of a grey value."""
    red, green, blue = (round(value + share * (grey - value)) for value in colour)
    return red, green, blue


def draw_overlay(
    rgb: RgbImage,
    segmentation: Segmentation,
    *,
    show_prompts: bool = True,
    show_legend: bool = False,
) -> RgbImage:
    """Draw the masks, and what became of the prompts, on a copy of the image.

    Where masks overlap, the smaller one is on top. Lines and glyphs grow with the image, so that
    the picture reads the same at 320 and at 4000 pixels.

    Args:
        rgb: uint8 `[H, W, 3]`, the image that was segmented.
        segmentation: what was found in it.
        show_prompts: draw a glyph per prompt, see `aopsam_ros.drawing.glyphs`.
        show_legend: add a line with the glyphs, their meaning and their numbers.

    Returns:
        uint8 `[H, W, 3]`; the input is left as it was.

    Raises:
        InputError: if the image is not RGB or not of the segmentation's size.
        MaskFormatError: if a mask contradicts itself.
    """
    _check_image(rgb)
    if rgb.shape[:2] != (segmentation.height, segmentation.width):
        raise InputError(
            f"the image is {rgb.shape[1]}x{rgb.shape[0]} pixels, but the segmentation is of "
            f"{segmentation.width}x{segmentation.height}"
        )
    picture = _paint_masks(rgb, segmentation.masks)
    if show_prompts:
        draw_prompts(picture, segmentation.prompts)
    if show_legend:
        draw_legend(picture, segmentation)
    return picture


def draw_confidence_map(rgb: RgbImage, confidence_map: NDArray[np.float32]) -> RgbImage:
    """Lay the prompt confidence map as heat over the greyed image.

    Args:
        rgb: uint8 `[H, W, 3]`.
        confidence_map: float `[h, w]`, 0-1, of any resolution; it covers the whole image.

    Returns:
        uint8 `[H, W, 3]`.

    Raises:
        InputError: if the image is not RGB or the map is not two-dimensional.
    """
    _check_image(rgb)
    if confidence_map.ndim != 2 or confidence_map.size == 0:
        raise InputError(f"a confidence map has two dimensions, not shape {confidence_map.shape}")
    height, width = rgb.shape[:2]
    confidence = cv2.resize(
        np.nan_to_num(confidence_map).astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_LINEAR,
    ).clip(0.0, 1.0)
    levels = np.rint(255 * confidence).astype(np.uint8)
    heat = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    # The square root lifts faint peaks: they become prompts, too.
    weight = 0.25 + 0.65 * np.sqrt(confidence)
    return np.asarray(cv2.blendLinear(heat, grey, weight, 1.0 - weight), dtype=np.uint8)


def _check_image(rgb: RgbImage) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or rgb.size == 0:
        raise InputError(f"an RGB image is uint8 [H, W, 3], not {rgb.dtype} {list(rgb.shape)}")


def _paint_masks(rgb: RgbImage, masks: Iterable[InstanceMask]) -> RgbImage:
    """Return a copy of the image with translucent masks and, on top of them all, outlines."""
    picture = rgb.copy()
    outlines: list[tuple[Sequence[Any], Rgb]] = []
    for mask in masks:
        x, y, width, height = mask.bbox
        box = (slice(y, y + height), slice(x, x + width))
        inside = decode(mask).astype(np.uint8)
        if not inside.size:
            continue
        if picture[box].shape[:2] != inside.shape:
            raise MaskFormatError(f"the box {mask.bbox} of mask {mask.id} is not inside the image")
        # Tinted from the image, not from the picture: overlapping masks do not mix to mud.
        cv2.copyTo(cv2.LUT(rgb[box], _tint(colour_of(mask.id))), inside, picture[box])
        contours, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=(x, y))
        outlines.append((contours, _mix(colour_of(mask.id), 255, 0.4)))
    _draw_outlines(picture, outlines)
    return picture


@functools.lru_cache(maxsize=256)
def _tint(colour: Rgb) -> RgbImage:
    """Return the look-up table `[1, 256, 3]` that lays a translucent colour over a pixel."""
    values = np.arange(256, dtype=np.float32)[:, None]
    mixed = (1.0 - MASK_OPACITY) * values + MASK_OPACITY * np.array(colour, np.float32)
    return np.rint(mixed).astype(np.uint8)[None]


def _draw_outlines(picture: RgbImage, outlines: Iterable[tuple[Sequence[Any], Rgb]]) -> None:
    """Draw contours; where lines are thick enough, with a dark edge that shows on any ground.

    Without smoothing, which takes three times as long and more than segmenting does.
    """
    unit = drawing_unit(picture)
    line = max(1, round(1.4 * unit))
    for contours, colour in outlines:
        if unit >= _HALO_FROM:
            cv2.drawContours(picture, contours, -1, HALO, line + 2)
        cv2.drawContours(picture, contours, -1, colour, line)
