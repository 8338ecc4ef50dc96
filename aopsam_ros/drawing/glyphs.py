"""Glyphs of prompts and the legend line, drawn on pictures at any size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.results import Prompt, PromptState, Segmentation

Rgb = tuple[int, int, int]
RgbImage = NDArray[np.uint8]

HALO: Rgb = (16, 18, 24)

_SUBPIXEL_BITS = 4  # cv2 draws at sixteenths of a pixel
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class PromptStyle:
    """How the prompts of one state look: a glyph, its colour, and the word in the legend."""

    glyph: str
    colour: Rgb
    word: str


# Shape and colour both differ, so that the states stay apart for colour-blind readers, too.
PROMPT_STYLES: Mapping[PromptState, PromptStyle] = {
    PromptState.KEPT: PromptStyle("disc", (255, 255, 255), "kept"),
    PromptState.REJECTED: PromptStyle("ring", (255, 176, 32), "rejected"),
    PromptState.ELIMINATED: PromptStyle("cross", (255, 92, 138), "eliminated"),
    PromptState.UNUSED: PromptStyle("square", (176, 188, 206), "unused"),
}
# From the least to the most important: a kept prompt is never hidden under another.
_DRAWING_ORDER = (
    PromptState.UNUSED,
    PromptState.ELIMINATED,
    PromptState.REJECTED,
    PromptState.KEPT,
)


def counted(number: int, word: str) -> str:
    """Return number and word, the word in the plural unless there is one."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def drawing_unit(picture: RgbImage) -> float:
    """Return the size of one drawing unit in pixels: 1 for a picture 640 pixels long."""
    return float(min(8.0, max(0.8, max(picture.shape[:2]) / 640)))


def draw_prompts(picture: RgbImage, prompts: Iterable[Prompt]) -> None:
    """Draw every prompt's glyph at its pixel, see `PROMPT_STYLES`."""
    by_state: dict[PromptState, list[Prompt]] = {state: [] for state in _DRAWING_ORDER}
    for prompt in prompts:
        by_state[PromptState(prompt.state)].append(prompt)
    size = 3.6 * drawing_unit(picture)
    for state in _DRAWING_ORDER:
        for prompt in by_state[state]:
            _draw_glyph(picture, (prompt.x, prompt.y), size, PROMPT_STYLES[state])


def _draw_glyph(
    picture: RgbImage, centre: tuple[float, float], size: float, style: PromptStyle
) -> None:
    """Draw one glyph of radius `size` (pixels), first its dark halo, then itself."""
    line = max(1, round(size / 2.6))
    for colour, thickness in ((HALO, line + max(2, line)), (style.colour, line)):
        if style.glyph == "disc":
            _circle(picture, centre, size, colour, thickness)
            if colour is not HALO:
                _circle(picture, centre, size, colour, cv2.FILLED)
        elif style.glyph == "ring":
            _circle(picture, centre, size, colour, thickness)
        elif style.glyph == "cross":
            _cross(picture, centre, 0.85 * size, colour, thickness)
        else:
            _square(picture, centre, 0.6 * size, colour, thickness)


def _fixed(value: float) -> int:
    return round(value * (1 << _SUBPIXEL_BITS))


def _circle(
    picture: RgbImage, centre: tuple[float, float], radius: float, colour: Rgb, thickness: int
) -> None:
    at = (_fixed(centre[0]), _fixed(centre[1]))
    cv2.circle(picture, at, _fixed(radius), colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def _cross(
    picture: RgbImage, centre: tuple[float, float], arm: float, colour: Rgb, thickness: int
) -> None:
    for sign in (1, -1):
        start = (_fixed(centre[0] - arm), _fixed(centre[1] - sign * arm))
        end = (_fixed(centre[0] + arm), _fixed(centre[1] + sign * arm))
        cv2.line(picture, start, end, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def _square(
    picture: RgbImage, centre: tuple[float, float], half: float, colour: Rgb, thickness: int
) -> None:
    first = (_fixed(centre[0] - half), _fixed(centre[1] - half))
    last = (_fixed(centre[0] + half), _fixed(centre[1] + half))
    cv2.rectangle(picture, first, last, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)


def _legend_entries(segmentation: Segmentation) -> list[tuple[PromptStyle, str]]:
    """Return style and text for each state that occurs, the kept ones first."""
    numbers = Counter(PromptState(prompt.state) for prompt in segmentation.prompts)
    return [
        (PROMPT_STYLES[state], f"{numbers[state]} {PROMPT_STYLES[state].word}")
        for state in reversed(_DRAWING_ORDER)
        if numbers[state]
    ]


def draw_legend(picture: RgbImage, segmentation: Segmentation) -> None:
    """Write numbers and glyphs on a dark strip along the lower edge, as large as fits."""
    entries = _legend_entries(segmentation)
    title = counted(len(segmentation.masks), "mask")
    unit, width = drawing_unit(picture), picture.shape[1]
    total = _legend_width(title, entries, unit)
    if total > width:
        unit *= width / total
    top = picture.shape[0] - max(1, round(20 * unit))
    if top < 0:
        return
    strip = picture[top:]
    strip[:] = cv2.addWeighted(strip, 0.25, np.full_like(strip, HALO[0]), 0.75, 0.0)
    x, baseline = 8 * unit, picture.shape[0] - 6 * unit
    x += _write(picture, title, x, baseline, unit) + 16 * unit
    for style, text in entries:
        _draw_glyph(picture, (x, baseline - 4 * unit), 3.6 * unit, style)
        x += 9 * unit
        x += _write(picture, text, x, baseline, unit) + 16 * unit


def _text_width(text: str, unit: float) -> float:
    return float(cv2.getTextSize(text, _FONT, 0.42 * unit, max(1, round(unit)))[0][0])


def _legend_width(title: str, entries: list[tuple[PromptStyle, str]], unit: float) -> float:
    texts = [title, *(text for _, text in entries)]
    return sum(_text_width(text, unit) + 25 * unit for text in texts)


def _write(picture: RgbImage, text: str, x: float, baseline: float, unit: float) -> float:
    """Write white text and return its width in pixels."""
    thickness = max(1, round(unit))
    at = (round(x), round(baseline))
    cv2.putText(picture, text, at, _FONT, 0.42 * unit, (255, 255, 255), thickness, cv2.LINE_AA)
    return _text_width(text, unit)
