"""Colours of masks, and colours and markers of prompts."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import cv2

from aopsam_ros.results import PromptState

Rgb = tuple[int, int, int]

HALO: Rgb = (16, 18, 24)  # dark edge around lines, to be seen on any ground

# Twelve hues that are distinguishable at a glance, in the order of the colour wheel, as RRGGBB.
_HUES = bytes.fromhex(
    "f03e3e f77a1c fab005 dede28 82c91e 2bb24c 12b896 22b8e6 3c78f5 7048e8 be4bdb eb50a0"
)
_NUM_HUES = len(_HUES) // 3
_HUE_STEP = 7  # coprime with twelve: neighbouring ids lie far apart on the wheel
_FIRST_HUE = 8  # blue: calm on the largest mask, which has id 1 and is often the ground
# After each round of the wheel the shade changes: plain, lighter, darker (share of white or black).
_SHADES = ((0, 0.0), (255, 0.4), (0, 0.35))


@functools.lru_cache(maxsize=4096)
def colour_of(mask_id: int) -> Rgb:
    """Return the RGB colour of a mask id: always the same, and unlike those of the next ids."""
    round_, place = divmod(mask_id - 1, _NUM_HUES)
    first = 3 * ((_FIRST_HUE + place * _HUE_STEP) % _NUM_HUES)
    red, green, blue = _HUES[first : first + 3]
    return mix((red, green, blue), *_SHADES[round_ % len(_SHADES)])


def mix(colour: Rgb, grey: int, share: float) -> Rgb:
    """Return the colour with a share (0-1) of a grey value."""
    red, green, blue = (round(value + share * (grey - value)) for value in colour)
    return red, green, blue


@dataclass(frozen=True)
class PromptStyle:
    """How the prompts of one state are drawn: cv2's marker, its colour, and the legend's word."""

    marker: int
    size: int  # drawing units
    colour: Rgb
    word: str


# Shape and colour both differ, so that the states stay apart for colour-blind readers, too. From
# the least to the most important: a kept prompt is never hidden under another, and the image not
# under the hundreds that a budget leaves out.
PROMPT_STYLES: Mapping[PromptState, PromptStyle] = {
    PromptState.UNUSED: PromptStyle(cv2.MARKER_SQUARE, 3, (176, 188, 206), "unused"),
    PromptState.ELIMINATED: PromptStyle(cv2.MARKER_TILTED_CROSS, 7, (255, 92, 138), "eliminated"),
    PromptState.REJECTED: PromptStyle(cv2.MARKER_DIAMOND, 7, (255, 176, 32), "rejected"),
    PromptState.KEPT: PromptStyle(cv2.MARKER_CROSS, 8, (255, 255, 255), "kept"),
}
