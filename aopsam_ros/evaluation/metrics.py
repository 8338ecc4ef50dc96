"""IoU between masks at the source's resolution, and what follows from one image's IoU matrix.

That is `[predicted, ground truth]`, with one ground-truth mask at least.
"""

from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.iou import Crop, crop_of, pairwise_iou
from aopsam_ros.results import Segmentation

BOUNDARY_SHARE = 0.02  # of the diagonal: how far inside an outline pixels still belong to it
COPY_IOU = 0.8  # above it, a mask shows again what a better one shows
SCORE_BINS = 10
ScoreBin = Mapping[str, float]  # mean "score" and "iou" of the "masks" in one tenth of the scores


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
    """Mean IoU over the ground truth, matched one-to-one, where the unmatched count 0."""
    return sum(float(iou[pair]) for pair in match_one_to_one(iou)) / iou.shape[1]


def mean_boundary_iou(
    masks: Sequence[Crop],
    ground_truth: Sequence[Crop],
    iou: NDArray[np.float64],
    size: tuple[int, int],
) -> float:
    """Mean boundary IoU over the ground truth, matched one-to-one by mask IoU; unmatched count 0.

    How well outlines agree, whatever a mask's size (Cheng et al., arXiv 2103.16562); `size` is the
    image's height and width.
    """
    width = max(1, round(BOUNDARY_SHARE * float(np.hypot(*size))))
    pairs = match_one_to_one(iou)
    return sum(boundary_iou(masks[i], ground_truth[j], width) for i, j in pairs) / iou.shape[1]


def boundary_iou(first: Crop, second: Crop, width: int) -> float:
    """IoU of two masks' pixels that are at most `width` from their outside, 0-1."""
    return float(pairwise_iou([_boundary(first, width)], [_boundary(second, width)])[0, 0])


def _boundary(mask: Crop, width: int) -> Crop:
    """Keep the pixels at most `width` from the outside; the image's border is outside, too."""
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    pixels = mask.pixels.astype(np.uint8)
    inner = cv2.erode(pixels, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    ring = mask.pixels & (inner == 0)
    return Crop(mask.box, ring, int(np.count_nonzero(ring)))


def closest(iou: NDArray[np.float64]) -> float:
    """The paper's reading: every predicted mask with its closest ground-truth one, averaged."""
    return float(iou.max(1).mean()) if iou.size else 0.0


def coverage(iou: NDArray[np.float64], threshold: float) -> float:
    """Share of the ground-truth masks that some predicted mask reaches with at least this IoU."""
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
    """Sort masks into ten bins by score, 0-1; bins without a mask are left out."""
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
