"""Walls and floors of tiles or bricks drawn into a view, each tile a thing."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.labelled_images import LabelledImage
from aopsam_ros.images.compressed import RgbImage
from aopsam_ros.training.views.drawn_things import Pixels, random_colours, random_slope

PART_PROBABILITY = 0.4  # of a wall covering a part of the view only
LEAST_SIDE = 3  # of a tile, pixels


@dataclass(frozen=True)
class _Wall:
    pixels: Pixels  # [S, S, 3]
    tiles: NDArray[np.uint16]  # [S, S], 0 between them


def draw_tiles(view: LabelledImage, texture: RgbImage, rng: np.random.Generator) -> LabelledImage:
    """Cover a view or a part of it with a wall in rows of tiles, turned and seen at a slant.

    Their surface is a colour with some of `texture`, any photograph, `uint8 [H, W, 3]`. What the
    wall covers is cut from the instances below.
    """
    height, width = view.rgb.shape[:2]
    longest = max(height, width)
    wall = _random_wall(int(1.5 * longest), longest, texture, rng)
    matrix = _random_pose(len(wall.tiles), (height, width), rng)
    size, nearest = (width, height), cv2.INTER_NEAREST
    pixels = cv2.warpPerspective(wall.pixels, matrix, size)
    tiles = cv2.warpPerspective(wall.tiles, matrix, size, flags=nearest)
    covered = cv2.warpPerspective(np.ones_like(wall.tiles), matrix, size, flags=nearest) > 0
    if rng.random() < PART_PROBABILITY:
        # one side of a line near the centre
        covered &= random_slope(height, width, rng) > rng.normal(0, 0.1) * longest
    pixels = cv2.GaussianBlur(np.clip(pixels, 0, 255), (0, 0), rng.uniform(0.4, 1.2))
    rgb, layers = view.rgb.copy(), view.layers.copy()
    rgb[covered] = pixels[covered].astype(np.uint8)
    layers[:, covered] = 0
    shown = covered & (tiles > 0)
    layers[0][shown] = view.free_labels(int(tiles.max()))[tiles[shown] - 1]
    return replace(view, rgb=rgb, layers=layers)


def _random_wall(side: int, longest: int, texture: RgbImage, rng: np.random.Generator) -> _Wall:
    """Lay tiles in rows on a square, `longest` being the view's longer side."""
    length, width = rng.uniform(0.04, 0.16, 2) * longest * [rng.uniform(1, 2.5), 1]
    joint = max(1.5, rng.uniform(0.03, 0.15) * min(length, width))
    stagger = rng.choice([0.0, 0.5, rng.random()])  # of each row against the one before
    base, between = random_colours(2, 0.4, rng)
    spread, strength = rng.uniform(0, 25), rng.uniform(0, 0.5)
    grain = strength * (cv2.resize(texture, (side, side)).astype(np.float32) - texture.mean((0, 1)))
    pixels, tiles = np.tile(between, (side, side, 1)), np.zeros((side, side), np.uint16)
    starts = (
        (column * length - length * (stagger * row % 1), row * width)
        for row in range(int(side / width))
        for column in range(int(side / length) + 2)
    )
    for number, start in enumerate(starts, 1):
        low = np.clip(np.rint(np.add(start, joint / 2)), 0, side).astype(int)
        high = np.clip(np.rint(np.add(start, [length, width]) - joint / 2), 0, side).astype(int)
        if (high - low).min() >= LEAST_SIDE:
            place = np.s_[low[1] : high[1], low[0] : high[0]]
            tiles[place] = number
            pixels[place] = base + rng.normal(0, spread) + grain[place]
    return _Wall(pixels.astype(np.float32), tiles)


def _random_pose(side: int, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Homography from a wall of that side to a view of that height and width."""
    turn = rng.choice([0.0, 90.0, rng.uniform(0, 180)]) + rng.normal(0, 4)
    pose = cv2.getRotationMatrix2D((side / 2, side / 2), turn, rng.uniform(0.9, 1.4))
    pose[:, 2] += np.array(size[::-1]) / 2 - side / 2
    tilt = np.eye(3)
    tilt[2, :2] = rng.normal(0, 0.25, 2) / max(size)
    return tilt @ np.vstack([pose, [0, 0, 1]])
