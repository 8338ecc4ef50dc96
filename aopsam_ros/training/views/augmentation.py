"""Random views of a labelled photograph, at the size that the encoder takes."""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.labelled_images import LabelledImage, resize_layers
from aopsam_ros.images.compressed import RgbImage

Layers = NDArray[np.uint16]
LEAST_SCALE, MOST_SCALE = 0.6, 1.7  # 1: as the encoder sees a photograph
MOST_PASTED = 3  # instances of another photograph
WHOLE_PROBABILITY = 0.25  # of the photograph being shown whole, as at inference
TURN_PROBABILITY, ANY_TURN = 0.1, 0.2  # of a view being turned, and of that by any angle
TURN_SIGMA = 15.0  # degrees of other turns
STRETCH_PROBABILITY, MOST_STRETCH = 0.25, 0.2  # of and by how much a view's sides change, log


def random_view(
    image: LabelledImage,
    canvas: tuple[int, int],
    image_size: int,
    rng: np.random.Generator,
    always_whole: bool = False,
) -> LabelledImage:
    """Flip, scale, stretch, turn, crop and recolour a photograph; points are left out.

    `canvas` is the largest height and width of the view, `image_size` the encoder's input size:
    scale 1 makes the photograph's long side this long. With `always_whole` the photograph is as
    it is at inference, but for flips and colours.
    """
    longest = max(image.rgb.shape[:2])
    if rng.random() < WHOLE_PROBABILITY or always_whole:
        factor = min(canvas[0] / image.rgb.shape[0], canvas[1] / image.rgb.shape[1])
    else:
        factor = image_size / longest * np.exp(rng.uniform(*np.log([LEAST_SCALE, MOST_SCALE])))
    stretch = 0.0
    if not always_whole and rng.random() < STRETCH_PROBABILITY:
        stretch = rng.uniform(-MOST_STRETCH, MOST_STRETCH)
    view = _resize(image, factor, stretch)
    if not always_whole and rng.random() < TURN_PROBABILITY:
        view = _turn(view, rng)
    view = _crop(view, canvas, rng)
    if rng.random() < 0.5:
        view = replace(view, rgb=view.rgb[:, ::-1], layers=view.layers[:, :, ::-1])
    rgb = recolour(np.ascontiguousarray(view.rgb), rng)
    return replace(view, rgb=rgb, layers=np.ascontiguousarray(view.layers))


def _resize(image: LabelledImage, factor: float, stretch: float) -> LabelledImage:
    """Scale an image, and by the logarithm `stretch` its height over its width."""
    factors = factor * np.exp([stretch / 2, -stretch / 2])
    height, width = (max(16, round(s)) for s in image.rgb.shape[:2] * factors)
    shrink = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    rgb = cv2.resize(image.rgb, (width, height), interpolation=shrink)
    return replace(image, rgb=rgb, layers=resize_layers(image.layers, height, width), points=None)


def _turn(view: LabelledImage, rng: np.random.Generator) -> LabelledImage:
    """Turn a view about its centre; what comes in from outside is mirrored, and unlabelled."""
    height, width = view.rgb.shape[:2]
    angle = rng.uniform(-180, 180) if rng.random() < ANY_TURN else rng.normal(0, TURN_SIGMA)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
    size, nearest = (width, height), cv2.INTER_NEAREST
    rgb = cv2.warpAffine(view.rgb, matrix, size, borderMode=cv2.BORDER_REFLECT_101)
    layers = [cv2.warpAffine(layer, matrix, size, flags=nearest) for layer in view.layers]
    return replace(view, rgb=np.asarray(rgb, np.uint8), layers=np.stack(layers))


def _crop(view: LabelledImage, canvas: tuple[int, int], rng: np.random.Generator) -> LabelledImage:
    """Cut a window around a random labelled pixel, so that few crops are empty."""
    height, width = view.rgb.shape[:2]
    if height <= canvas[0] and width <= canvas[1]:
        return view
    ys, xs = np.nonzero(view.layers[rng.integers(len(view.layers))])
    pick = rng.integers(len(ys)) if len(ys) else 0
    y, x = (int(ys[pick]), int(xs[pick])) if len(ys) else (height // 2, width // 2)
    top = _window_start(y, height, canvas[0], rng)
    left = _window_start(x, width, canvas[1], rng)
    rows, columns = slice(top, top + canvas[0]), slice(left, left + canvas[1])
    return replace(view, rgb=view.rgb[rows, columns], layers=view.layers[:, rows, columns])


def _window_start(at: int, length: int, canvas: int, rng: np.random.Generator) -> int:
    low, high = max(0, at - canvas + 1), min(at, length - canvas)
    return int(rng.integers(low, high + 1)) if high >= low else 0


def recolour(rgb: RgbImage, rng: np.random.Generator) -> RgbImage:
    """Change brightness, contrast, colour balance and saturation; now and then blur or add noise.

    All but blur and noise is one affine map of colours, which OpenCV applies to bytes directly.
    """
    contrast = rng.uniform(0.75, 1.25)
    saturation = 0.0 if rng.random() < 0.04 else rng.uniform(0.6, 1.4)
    gain = rng.uniform(0.75, 1.25) * rng.uniform(0.93, 1.07, 3)
    mean = np.array(cv2.mean(rgb)[:3])
    mix = contrast * (saturation * np.eye(3) + (1 - saturation) / 3)
    offset = gain * mean - mix @ mean
    pixels = cv2.transform(rgb, np.column_stack([mix, offset]))
    if rng.random() < 0.1:
        pixels = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.4, 1.5)))
    if rng.random() < 0.1:
        noise = rng.normal(0, rng.uniform(2, 10), pixels.shape)
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    return np.asarray(pixels, np.uint8)


def paste_objects(
    view: LabelledImage, donor: LabelledImage, rng: np.random.Generator
) -> LabelledImage:
    """Copy a few instances of another view in front of this one (Simple Copy-Paste).

    Source: arXiv 2012.07177. What they cover is cut from the instances below.
    """
    labels = donor.instances()
    if not labels:
        return view
    rgb, layers, classes = view.rgb.copy(), view.layers.copy(), dict(view.classes)
    picks = rng.permutation(len(labels))[: rng.integers(1, MOST_PASTED + 1)]
    for pick, new in zip(picks, view.free_labels(len(picks)).tolist(), strict=True):
        layer, value = labels[pick]
        mask = donor.layers[layer] == value
        if _paste(rgb, layers, donor.rgb, mask, new, rng):
            classes[new] = donor.classes.get(value, "")
    return replace(view, rgb=rgb, layers=layers, classes=classes)


def _paste(
    rgb: RgbImage,
    layers: Layers,
    source: RgbImage,
    mask: NDArray[np.bool_],
    label: int,
    rng: np.random.Generator,
) -> bool:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    rows, columns = rgb.shape[:2]
    if width * height < 400 or width > columns * 0.7 or height > rows * 0.7:
        return False
    top = int(rng.integers(0, rows - height + 1))
    left = int(rng.integers(0, columns - width + 1))
    shape = mask[y : y + height, x : x + width]
    target = np.s_[top : top + height, left : left + width]
    soft = cv2.GaussianBlur(shape.astype(np.float32), (0, 0), 0.8)[:, :, None] * shape[:, :, None]
    patch = source[y : y + height, x : x + width]
    rgb[target] = (patch * soft + rgb[target] * (1 - soft)).astype(np.uint8)
    layers[:, top : top + height, left : left + width][:, shape] = 0
    layers[0][target][shape] = label
    return True
