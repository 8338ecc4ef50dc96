"""IoU between masks at the source's resolution, and what follows from one image's IoU matrix."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.rle import Box, decode, tight_box
from aopsam_ros.results import InstanceMask, Segmentation

COPY_IOU = 0.8  # above it, a mask shows again what a better one shows
SCORE_BINS = 10
ScoreBin = Mapping[str, float]  # mean "score" and "iou" of the "masks" in one tenth of the scores


class Crop(NamedTuple):
    """A mask inside its tight box: `box` x, y, w, h; `pixels` bool `[h, w]`; pixels set."""

    box: Box
    pixels: NDArray[np.bool_]
    area: int


def crop_of(mask: InstanceMask | NDArray[np.bool_]) -> Crop:
    """Cut out a predicted mask or a whole one, bool `[H, W]`."""
    if isinstance(mask, InstanceMask):
        return Crop(mask.bbox, decode(mask), mask.area)
    x, y, w, h = box = tight_box(mask)
    pixels = mask[y : y + h, x : x + w]
    return Crop(box, pixels, int(np.count_nonzero(pixels)))


def pairwise_iou(
    first: Sequence[Crop], second: Sequence[Crop], at_least: float = 0.0
) -> NDArray[np.float64]:
    """IoU of every pair of masks, `[first, second]`.

    Only pairs whose boxes and areas allow an IoU above `at_least` are compared pixel by pixel; the
    others are 0.
    """
    iou = np.zeros((len(first), len(second)))
    if not iou.size:
        return iou
    corners, areas = _corners(first)[:, None], np.array([crop.area for crop in first])[:, None]
    others, other_areas = _corners(second)[None], np.array([crop.area for crop in second])[None]
    low = np.maximum(corners[..., :2], others[..., :2])
    sides = np.maximum(np.minimum(corners[..., 2:], others[..., 2:]) - low, 0)
    most = np.minimum(sides.prod(-1), np.minimum(areas, other_areas))
    for i, j in np.argwhere(most > at_least * (areas + other_areas - most)):
        (left, top), (width, height) = low[i, j], sides[i, j]
        seen = [_window(crop, left, top, width, height) for crop in (first[i], second[j])]
        overlap = int(np.count_nonzero(seen[0] & seen[1]))
        iou[i, j] = overlap / (first[i].area + second[j].area - overlap)
    return iou


def _corners(crops: Sequence[Crop]) -> NDArray[np.int64]:
    boxes = np.array([crop.box for crop in crops], np.int64)
    return np.hstack((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]))


def _window(crop: Crop, left: int, top: int, width: int, height: int) -> NDArray[np.bool_]:
    """View the part of a mask inside a rectangle that lies in its box."""
    y, x = top - crop.box[1], left - crop.box[0]
    return crop.pixels[y : y + height, x : x + width]


def iou_matrix(
    segmentation: Segmentation, ground_truth: Iterable[NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """IoU of every predicted mask with every ground-truth one, `[predicted, ground truth]`."""
    return pairwise_iou(
        [crop_of(mask) for mask in segmentation.masks], [crop_of(mask) for mask in ground_truth]
    )


def match_one_to_one(iou: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pair rows and columns of an IoU matrix greedily, best pairs first; pairs of IoU 0 do not."""
    left = iou.copy()
    pairs = []
    for _ in range(min(iou.shape)):
        row, column = np.unravel_index(int(left.argmax()), left.shape)
        if left[row, column] <= 0:
            break
        pairs.append((int(row), int(column)))
        left[row, :] = -1
        left[:, column] = -1
    return pairs


def one_to_one(iou: NDArray[np.float64]) -> float:
    """Mean IoU over the ground truth, matched one-to-one, where the unmatched count 0.

    Args:
        iou: `[predicted, ground truth]`, ground truth >= 1.
    """
    return sum(float(iou[pair]) for pair in match_one_to_one(iou)) / iou.shape[1]


def closest(iou: NDArray[np.float64]) -> float:
    """The paper's reading: every predicted mask with its closest ground-truth one, averaged."""
    return float(iou.max(1).mean()) if iou.size else 0.0


def coverage(iou: NDArray[np.float64], threshold: float) -> float:
    """Share of the ground-truth masks that some predicted mask reaches with at least this IoU.

    Args:
        iou: `[predicted, ground truth]`, ground truth >= 1.
        threshold: IoU in 0-1.
    """
    return float((iou.max(0) >= threshold).mean()) if iou.size else 0.0


def near_copies(masks: Sequence[Crop], scores: Sequence[float]) -> float:
    """Share of the masks that have an IoU above 0.8 with one of a higher score, in 0-1.

    Of equal scores the earlier mask ranks better.
    """
    if not masks:
        return 0.0
    order = np.argsort(-np.asarray(scores), kind="stable")
    ranked = [masks[index] for index in order]
    above = np.tril(pairwise_iou(ranked, ranked, COPY_IOU) > COPY_IOU, -1)
    return float(above.any(1).mean())


def reliability(scores: Sequence[float], ious: Sequence[float]) -> list[ScoreBin]:
    """Sort masks into ten bins by score; bins without a mask are left out.

    Args:
        scores: of the masks, 0-1.
        ious: of each mask with its closest ground-truth one.
    """
    score, iou = np.asarray(scores, np.float64), np.asarray(ious, np.float64)
    bins = np.clip((score * SCORE_BINS).astype(np.int64), 0, SCORE_BINS - 1)
    members = [bins == number for number in np.unique(bins)]
    return [
        {
            "score": float(score[inside].mean()),
            "iou": float(iou[inside].mean()),
            "masks": int(inside.sum()),
        }
        for inside in members
    ]


def expected_calibration_error(bins: Sequence[ScoreBin]) -> float | None:
    """Mean distance of score and IoU over the bins, weighted by their masks; None without any."""
    if not bins:
        return None
    distances = [abs(each["score"] - each["iou"]) for each in bins]
    return float(np.average(distances, weights=[each["masks"] for each in bins]))
