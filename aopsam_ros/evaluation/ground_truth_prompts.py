"""The promptable model on its own: prompts made from the ground truth, how good are the masks?

Centres, random points and boxes are decoded once. Clicks are made as SAM's authors made them: the
first at the innermost pixel, each further one at the innermost pixel of the largest error region,
with the mask before as input where the decoder takes one. The mask that counts is the one that a
user would get: see `answers`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.signatures import MASKS
from aopsam_ros.engines.base import all_logits
from aopsam_ros.engines.engine import Engine
from aopsam_ros.errors import OptionError, quoted
from aopsam_ros.evaluation.images import EvaluationImage
from aopsam_ros.masks.iou import Crop, crop_of, pairwise_iou
from aopsam_ros.masks.rle import decode, tight_box
from aopsam_ros.masks.upscaling import Upscaler
from aopsam_ros.prompting.user_prompts import BACKGROUND, BOTTOM_RIGHT, OBJECT, TOP_LEFT
from aopsam_ros.segmentation.answers import answer_of
from aopsam_ros.segmentation.segmenter import FrameEmbedding, Segmenter
from aopsam_ros.training.prompt_sampling import innermost_pixel

DECODED_AT_ONCE = 16
KINDS = "centre, random, box or clicks:N"
MOST_CLICKS = 100  # that correct: each instance is decoded again for each of them
PADDING = -1  # label of a point that is none

PointPrompt = tuple[NDArray[np.float64], NDArray[np.float64]]  # coordinates [K, 2] and labels [K]


def parse_kind(text: str) -> tuple[str, int]:
    """Read `centre`, `random`, `box` or `clicks:N`: the kind, and how many clicks correct.

    Raises:
        OptionError: if it is none of these.
    """
    name, _, count = text.partition(":")
    if text in ("centre", "random", "box"):
        return text, 0
    if name == "clicks" and count in map(str, range(MOST_CLICKS + 1)):
        return name, int(count)
    raise OptionError(f"--points is {KINDS}, N at most {MOST_CLICKS}, not {quoted(text)}")


def evaluate_prompts(
    segmenter: Segmenter, image: EvaluationImage, kind: str, rng: np.random.Generator
) -> dict[str, Any]:
    """Prompt every instance of an image; `rng` picks random points.

    Returns:
        best: mean IoU of the best mask of each prompt, after the first click.
        chosen: mean IoU of the mask that a user would get.
        instances: how many were prompted.
        after_click: mean IoU of the chosen mask after each click, the first one included; only of
            clicks.

    Raises:
        OptionError: if there is no such kind of prompts.
        InferenceError: if a graph fails.
    """
    name, corrections = parse_kind(kind)
    frame = segmenter.encode(image.rgb)
    best: list[float] = []
    after_click: list[list[float]] = [[] for _ in range(corrections + 1)]
    step = min(DECODED_AT_ONCE, segmenter.engine.largest_batch or DECODED_AT_ONCE)
    for start in range(0, len(image.ground_truth), step):
        masks = image.ground_truth[start : start + step]
        prompts = [first_prompt(mask, name, rng) for mask in masks]
        decoded: list[_Decoded] = []
        for click, ious in enumerate(after_click):
            decoded = _decode(segmenter.engine, frame, prompts, masks, decoded)
            best += [one.best for one in decoded] if click == 0 else []
            ious += [one.iou for one in decoded]
            prompts = [
                corrected(prompt, mask, one.chosen)
                for prompt, mask, one in zip(prompts, masks, decoded, strict=True)
            ]
    means = [float(np.mean(ious)) for ious in after_click]
    return {
        "best": float(np.mean(best)),
        "chosen": means[0],
        "instances": len(best),
        "after_click": means if name == "clicks" else [],
    }


def first_prompt(mask: NDArray[np.bool_], kind: str, rng: np.random.Generator) -> PointPrompt:
    """Prompt a ground-truth mask with its tight box, any of its pixels, or its innermost one."""
    if kind == "box":
        x, y, w, h = tight_box(mask)
        corners = np.array([[x, y], [x + w, y + h]], np.float64)
        return corners, np.array([TOP_LEFT, BOTTOM_RIGHT], np.float64)
    if kind == "random":
        rows, columns = np.nonzero(mask)
        pick = rng.integers(len(rows))
        point = columns[pick], rows[pick]
    else:
        point = innermost_pixel(mask)[:2]
    return np.array([point], np.float64), np.array([OBJECT], np.float64)


def corrected(prompt: PointPrompt, ground_truth: NDArray[np.bool_], found: Crop) -> PointPrompt:
    """Add a click at the innermost pixel of the largest region that `found` got wrong.

    It is a foreground point where pixels are missing, a background point where they are too many,
    and padding where nothing is wrong.
    """
    x, y, w, h = found.box
    whole = np.zeros_like(ground_truth)
    whole[y : y + h, x : x + w] = found.pixels
    missing, extra = ground_truth & ~whole, whole & ~ground_truth
    regions = {OBJECT: _largest_region(missing), BACKGROUND: _largest_region(extra)}
    label = max(regions, key=lambda label: int(np.count_nonzero(regions[label])))
    is_wrong = regions[label].any()
    point, label = (innermost_pixel(regions[label])[:2], label) if is_wrong else ((0, 0), PADDING)
    coords, labels = np.vstack((prompt[0], [point])), np.append(prompt[1], label)
    # Decoders of one prompt that others published have points before all padding.
    order = np.argsort(labels == PADDING, kind="stable")
    return coords[order], labels[order]


def _largest_region(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected region of a mask."""
    count, regions, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count == 1:
        return mask
    return np.asarray(regions == 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax()), np.bool_)


class _Decoded(NamedTuple):
    """The best IoU of a prompt's masks; the chosen mask, its IoU, and its logits `[M, M]`."""

    best: float
    iou: float
    chosen: Crop
    logits: NDArray[np.float32]


def _decode(
    engine: Engine,
    frame: FrameEmbedding,
    prompts: Sequence[PointPrompt],
    ground_truth: Sequence[NDArray[np.bool_]],
    before: Sequence[_Decoded],
) -> list[_Decoded]:
    """Decode prompts of as many points each; `before` is what the same ones gave without the last.

    Masks: the three alternatives of a point, after SAM's single mask where the decoder gives it.
    """
    coords = np.stack([prompt[0] for prompt in prompts])
    labels = np.stack([prompt[1] for prompt in prompts]).astype(np.float32)
    has_input = engine.accepts_mask_input and len(before) > 0
    mask_input = np.stack([one.logits for one in before])[:, None] if has_input else None
    points = frame.geometry.to_resized(coords)
    decoded = engine.decode(frame.handle, points, labels, mask_input)
    logits, predicted = all_logits(decoded), decoded.predicted_iou
    upscale = Upscaler(frame.geometry, logits.shape[-1])
    first = engine.num_masks - MASKS
    found = []
    for index, wanted in enumerate(ground_truth):
        clicks = coords[index], labels[index], frame.geometry
        previous = before[index].logits if has_input else None
        is_ambiguous = coords.shape[1] == 1
        _, answer = answer_of(logits[index], predicted[index], *clicks, is_ambiguous, previous)
        *masks, chosen = (
            Crop(mask.bbox, decode(mask), mask.area)
            for mask in upscale(np.stack([*logits[index, first:], answer]))
        )
        *ious, iou = pairwise_iou([*masks, chosen], [crop_of(wanted)])[:, 0].tolist()
        found.append(_Decoded(max(ious), iou, chosen, answer))
    return found


def mean_prompted(images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average over images, each counting once; `instances` add up."""
    means = {name: np.mean([image[name] for image in images], 0).tolist() for name in images[0]}
    return {**means, "instances": sum(image["instances"] for image in images)}
