"""A segmentation drawn on its image for people: masks, prompts and the confidence map.

All work is done by cv2 inside each mask's box, so that the cost follows the masks and not the
number of masks times the frame.
"""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.drawing.palette import HALO, PROMPT_STYLES, PromptStyle, Rgb, colour_of, mix
from aopsam_ros.errors import InputError, MaskFormatError
from aopsam_ros.geometry import check_image
from aopsam_ros.images.compressed import RgbImage
from aopsam_ros.masks.rle import decode
from aopsam_ros.results import InstanceMask, PromptState, Segmentation

MASK_OPACITY = 0.45

_HALO_FROM = 1.6  # drawing units; below, an outline's dark edge would be wider than the line
_ORDER = list(PROMPT_STYLES)  # a kept prompt is drawn last
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE: Rgb = (255, 255, 255)


def draw_overlay(
    rgb: RgbImage,
    segmentation: Segmentation,
    *,
    show_prompts: bool = True,
    show_legend: bool = False,
    show_ids: bool = False,
) -> RgbImage:
    """Draw the masks, and what became of the prompts, on a copy of the image.

    Where masks overlap, the smaller one is on top. Lines and markers grow with the image, so that
    it reads the same at 320 and at 4000 pixels.

    Args:
        rgb: uint8 `[H, W, 3]`, the image that was segmented.
        segmentation: what was found in it.
        show_prompts: draw a marker per prompt, see `palette.PROMPT_STYLES`.
        show_legend: add a line with the markers, their meaning and their numbers.
        show_ids: write each mask's id, and its label where it has one, where its prompt is.

    Returns:
        uint8 `[H, W, 3]`; the input is left as it was.

    Raises:
        InputError: if the image is not RGB or not of the segmentation's size.
        MaskFormatError: if a mask contradicts itself.
    """
    check_image(rgb)
    if rgb.shape[:2] != (segmentation.height, segmentation.width):
        raise InputError(
            f"the image is {rgb.shape[1]}x{rgb.shape[0]} pixels, but the segmentation is of "
            f"{segmentation.width}x{segmentation.height}"
        )
    canvas = _paint_masks(rgb, segmentation.masks)
    for mask in segmentation.masks:
        if mask.label and not show_ids:
            _write_label(canvas, mask)
    if show_prompts:
        for prompt in sorted(segmentation.prompts, key=lambda prompt: _ORDER.index(prompt.state)):
            style = PROMPT_STYLES[PromptState(prompt.state)]
            _draw_marker(canvas, (prompt.x, prompt.y), _unit(canvas), style)
    if show_ids:
        for mask in segmentation.masks:
            _draw_id(canvas, mask)
    if show_legend:
        _draw_legend(canvas, segmentation)
    return canvas


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
    check_image(rgb)
    if confidence_map.ndim != 2 or confidence_map.size == 0:
        raise InputError(f"a confidence map has two dimensions, not shape {confidence_map.shape}")
    height, width = rgb.shape[:2]
    values = np.nan_to_num(confidence_map).astype(np.float32)
    confidence = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR).clip(0.0, 1.0)
    levels = np.rint(255 * confidence).astype(np.uint8)
    heat = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    # The square root lifts faint peaks: they become prompts, too.
    weight = 0.25 + 0.65 * np.sqrt(confidence)
    return np.asarray(cv2.blendLinear(heat, grey, weight, 1.0 - weight), dtype=np.uint8)


def _paint_masks(rgb: RgbImage, masks: Iterable[InstanceMask]) -> RgbImage:
    """Return a copy of the image with translucent masks and, on top of them all, outlines."""
    canvas, unit = rgb.copy(), _unit(rgb)
    outlines: list[tuple[Sequence[Any], Rgb]] = []
    for mask in masks:
        x, y, width, height = mask.bbox
        box = (slice(y, y + height), slice(x, x + width))
        inside = decode(mask).astype(np.uint8)
        if not inside.size:
            continue
        if canvas[box].shape[:2] != inside.shape:
            raise MaskFormatError(f"the box {mask.bbox} of mask {mask.id} is not inside the image")
        # Tinted from the image, not from what is drawn: overlapping masks do not mix to mud.
        cv2.copyTo(cv2.LUT(rgb[box], _tint(colour_of(mask.id))), inside, canvas[box])
        contours, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=(x, y))
        outlines.append((contours, mix(colour_of(mask.id), 255, 0.4)))
    # Without smoothing, which takes three times as long and more than segmenting does.
    for contours, colour in outlines:
        if unit >= _HALO_FROM:
            cv2.drawContours(canvas, contours, -1, HALO, _line(unit) + 2)
        cv2.drawContours(canvas, contours, -1, colour, _line(unit))
    return canvas


@functools.lru_cache(maxsize=256)
def _tint(colour: Rgb) -> RgbImage:
    """Return the look-up table `[1, 256, 3]` that lays a translucent colour over a pixel."""
    values = np.arange(256, dtype=np.float32)[:, None]
    mixed = (1.0 - MASK_OPACITY) * values + MASK_OPACITY * np.array(colour, np.float32)
    return np.rint(mixed).astype(np.uint8)[None]


def _unit(canvas: RgbImage) -> float:
    """Return the size of one drawing unit in pixels: 1 for an image 640 pixels long."""
    return float(min(8.0, max(0.8, max(canvas.shape[:2]) / 640)))


def _line(unit: float) -> int:
    """Return the width of outlines and markers, pixels."""
    return max(1, round(1.4 * unit))


def _draw_marker(
    canvas: RgbImage, centre: tuple[float, float], unit: float, style: PromptStyle
) -> None:
    """Draw a marker, first its dark edge, then itself."""
    at, line = (round(centre[0]), round(centre[1])), _line(unit)
    size = round(style.size * unit)
    for colour, width in ((HALO, line + max(1, round(size / 4))), (style.colour, line)):
        cv2.drawMarker(canvas, at, colour, style.marker, size, width, cv2.LINE_AA)


def _write(
    canvas: RgbImage, text: str, at: tuple[float, float], unit: float, colour: Rgb = _WHITE
) -> None:
    """Write text to the right of and above a place, first its dark edge, then itself."""
    corner, line = (round(at[0]), round(at[1])), max(1, round(unit))
    for shade, width in ((HALO, line + max(2, line)), (colour, line)):
        cv2.putText(canvas, text, corner, _FONT, 0.42 * unit, shade, width, cv2.LINE_AA)


def _draw_id(canvas: RgbImage, mask: InstanceMask) -> None:
    """Write a mask's id and label in its colour around its prompt."""
    unit, text = _unit(canvas), f"{mask.id} {mask.label}".rstrip()
    at = mask.prompt[0] - _text_width(text, unit) / 2, mask.prompt[1] + 4 * unit
    _write(canvas, text, at, unit, mix(colour_of(mask.id), 255, 0.6))


def _write_label(canvas: RgbImage, mask: InstanceMask) -> None:
    """Write a mask's label over the centre of its box, larger where the box has room for it."""
    unit, (x, y, width, height) = _unit(canvas), mask.bbox
    text = mask.label.encode("ascii", "replace").decode()  # the font has no other characters
    if 2 * _text_width(text, unit) < width:
        unit *= 2
    room = canvas.shape[1] - _text_width(text, unit)
    left = max(0.0, min(room, x + (width - _text_width(text, unit)) / 2))
    _write(canvas, text, (left, y + height // 2), unit)


def _draw_legend(canvas: RgbImage, segmentation: Segmentation) -> None:
    """Write numbers and markers on a dark strip along the lower edge, as large as fits."""
    numbers = Counter(PromptState(prompt.state) for prompt in segmentation.prompts)
    found = len(segmentation.masks)
    entries: list[tuple[PromptStyle | None, str]] = [(None, f"{found} mask{'s' * (found != 1)}")]
    for state in reversed(_ORDER):
        if numbers[state]:
            entries.append((PROMPT_STYLES[state], f"{numbers[state]} {PROMPT_STYLES[state].word}"))
    unit, width = _unit(canvas), canvas.shape[1]
    unit *= min(1.0, width / sum(_text_width(text, unit) + 25 * unit for _, text in entries))
    top = canvas.shape[0] - max(1, round(20 * unit))
    if top < 0:
        return
    strip = canvas[top:]
    strip[:] = cv2.addWeighted(strip, 0.25, np.full_like(strip, HALO[0]), 0.75, 0.0)
    x, baseline = 8 * unit, canvas.shape[0] - 6 * unit
    for style, text in entries:
        if style is not None:
            _draw_marker(canvas, (x, baseline - 4 * unit), unit, style)
            x += 9 * unit
        _write(canvas, text, (x, baseline), unit)
        x += _text_width(text, unit) + 16 * unit


def _text_width(text: str, unit: float) -> float:
    return float(cv2.getTextSize(text, _FONT, 0.42 * unit, max(1, round(unit)))[0][0])
