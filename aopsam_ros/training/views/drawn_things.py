"""Things drawn in front of a view, whose outlines are known: rods, boxes, discs and blobs.

Data sets have few thin things and few plain ones. Drawn ones, of any colour and at any angle, show
that whatever has an outline is a thing, and that its shadow is none.
"""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.labelled_images import LabelledImage
from aopsam_ros.images.compressed import RgbImage

MOST_DRAWN = 5
LEAST_DRAWN = 60  # pixels; what has fewer is left out
SHADOW_PROBABILITY = 0.5
CORNERS = 48  # of a round outline
OUTLINE_SIGMA = 0.8  # pixels
SUBPIXEL_BITS = 4  # of OpenCV's coordinates

Pixels = NDArray[np.float32]  # [H, W, 3], 0-255 and somewhat beyond


def draw_things(view: LabelledImage, texture: RgbImage, rng: np.random.Generator) -> LabelledImage:
    """Draw a few simple shapes in front of a view, some with shadows.

    Each is filled with a colour, with parts or stripes of two, or with pixels of `texture`, any
    photograph, `uint8 [H, W, 3]`. What they cover is cut from the instances below.
    """
    rgb, layers = view.rgb.copy(), view.layers.copy()
    for label in view.free_labels(int(rng.integers(1, MOST_DRAWN + 1))):
        shape = random_shape(rgb.shape[:2], rng)
        if np.count_nonzero(shape) < LEAST_DRAWN:
            continue
        pixels = _filled(shape, texture, rng)
        if rng.random() < SHADOW_PROBABILITY:
            _cast_shadow(rgb, shape, rng)
        _put(rgb, shape, pixels)
        layers[:, shape > 0] = 0
        layers[0][shape > 0] = label
    return replace(view, rgb=rgb, layers=layers)


def random_shape(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a rod, box, ellipse or blob in an image of this height and width → `[H, W]`, 0 or 255.

    It may reach over the image's border.
    """
    longest = max(size)
    centre = rng.uniform(0.05, 0.95, 2) * size[::-1]
    kind = rng.choice(["rod", "box", "ellipse", "blob"], p=[0.35, 0.25, 0.15, 0.25])
    if kind == "rod":
        half = longest * np.array([rng.uniform(0.08, 0.4), rng.uniform(0.006, 0.03)])
    else:
        half = longest * np.exp(rng.uniform(*np.log([0.025, 0.2]))) * np.ones(2)
        half[1] *= rng.uniform(0.4, 1)
    outline = _round(kind == "blob", rng) if kind in ("ellipse", "blob") else _square()
    cosine, sine = _direction(rng)
    corners = (outline * half) @ np.array([[cosine, sine], [-sine, cosine]]) + centre
    shape = np.zeros(size, np.uint8)
    points = np.rint(corners * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(shape, [points], 255, shift=SUBPIXEL_BITS)
    if rng.random() < 0.5:  # corners are rounded off
        shape[cv2.GaussianBlur(shape, (0, 0), 2.0) <= 127] = 0
    return shape


def _direction(rng: np.random.Generator) -> tuple[float, float]:
    angle = rng.uniform(0, 2 * np.pi)
    return float(np.cos(angle)), float(np.sin(angle))


def _square() -> NDArray[np.float64]:
    return np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])


def _round(is_wavy: bool, rng: np.random.Generator) -> NDArray[np.float64]:
    turns = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    radius = np.ones(CORNERS)
    for wave in range(2, 6) if is_wavy else ():
        radius += rng.normal(0, 0.35 / wave) * np.cos(wave * turns + rng.uniform(0, 2 * np.pi))
    return np.stack([np.cos(turns), np.sin(turns)], 1) * np.clip(radius, 0.3, 2)[:, None]


def _filled(shape: NDArray[np.uint8], texture: RgbImage, rng: np.random.Generator) -> Pixels:
    """Pixels for a shape, with noise and darker towards one side."""
    height, width = shape.shape
    is_textured = rng.random() < 0.4
    pixels = _piece(texture, (width, height), rng) if is_textured else _coloured(shape, rng)
    is_level = rng.random() < 0.5
    ramp = np.linspace(rng.uniform(0.7, 1.1), rng.uniform(0.7, 1.1), width if is_level else height)
    ramp = ramp[None] if is_level else ramp[:, None]
    noise = rng.normal(0, rng.uniform(0, 6), (height // 2 + 1, width // 2 + 1))
    grain = cv2.resize(noise, (width, height))
    return np.asarray(pixels * ramp[:, :, None] + grain[:, :, None], np.float32)


def _piece(texture: RgbImage, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    height, width = (side // 2 for side in texture.shape[:2])
    top, left = int(rng.integers(height + 1)), int(rng.integers(width + 1))
    piece = texture[top : top + height, left : left + width]
    return cv2.resize(piece, size).astype(np.float32)


def _coloured(shape: NDArray[np.uint8], rng: np.random.Generator) -> Pixels:
    """One colour, or, across the shape, a part or stripes of a second one."""
    first, second = random_colours(2, 0.3, rng)
    pixels = np.tile(first, (*shape.shape, 1))
    if rng.random() < 0.5:
        return pixels
    along = random_slope(shape.shape[0], shape.shape[1], rng)
    inside = along[shape > 0]
    along = (along - inside.min()) / max(1.0, float(np.ptp(inside)))
    if rng.random() < 0.5:
        pixels[along > rng.uniform(0.6, 0.95)] = second
    else:
        pixels[np.sin(along * rng.uniform(6, 60)) > rng.uniform(-0.3, 0.7)] = second
    return pixels


def random_slope(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return how far each pixel is from the centre along a random direction, `[H, W]`, pixels."""
    ys, xs = np.mgrid[:height, :width]
    cosine, sine = _direction(rng)
    return np.asarray(cosine * (xs - width / 2) + sine * (ys - height / 2), np.float64)


def random_colours(count: int, grey: float, rng: np.random.Generator) -> Pixels:
    """Draw colours, `float32 [count, 3]`; with the probability `grey` all of them are grey."""
    colours = rng.uniform(10, 245, (count, 3))
    if rng.random() < grey:
        colours[:] = colours.mean(1, keepdims=True)
    return colours.astype(np.float32)


def _cast_shadow(rgb: RgbImage, shape: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Darken `rgb` in place beside a shape, as a light from one side would."""
    reach = max(2.0, 0.25 * float(np.sqrt(np.count_nonzero(shape))))
    x, y = rng.normal(0, 0.5 * reach, 2)
    moved = cv2.warpAffine(shape, np.array([[1, 0, x], [0, 1, y]]), shape.shape[::-1])
    soft = cv2.GaussianBlur(moved, (0, 0), rng.uniform(1, 6)).astype(np.float32) / 255
    rgb[:] = (rgb * (1 - rng.uniform(0.2, 0.7) * soft[:, :, None])).astype(np.uint8)


def _put(rgb: RgbImage, shape: NDArray[np.uint8], pixels: Pixels) -> None:
    """Put pixels where a shape is, in place; its outline is soft."""
    soft = cv2.GaussianBlur(shape, (0, 0), OUTLINE_SIGMA).astype(np.float32)[:, :, None] / 255
    rgb[:] = np.clip(pixels * soft + rgb * (1 - soft), 0, 255).astype(np.uint8)
