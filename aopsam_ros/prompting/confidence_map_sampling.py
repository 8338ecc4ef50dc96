"""ASF, coarse: from the prompt confidence map (PCM) to candidate prompts.

Each is a point, with the box that the predictor expects around it where the model has extents.
Prompts whose boxes agree are taken for one object: all but the surest are eliminated before
anything is decoded.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.errors import OptionError
from aopsam_ros.geometry import FrameGeometry, paired_iou
from aopsam_ros.prompting.prompts import FrameInput, PromptSet, PromptSource

# A candidate map with more maxima than this keeps the best of them: no image needs more prompts.
MAX_MAXIMA = 20_000
_COMPARED = 64  # boxes at a time with all before them: any number fits into memory


class PredictorSource(PromptSource):
    """AoP-SAM: local maxima of the prompt confidence map, each with the box expected around it."""

    name = defaults_group = "predictor"
    needs_confidence_map = True
    adaptive = spread = True
    defaults = {}  # noqa: RUF012
    own_options = (
        "asf.smoothing_sigma", "asf.confidence_threshold", "asf.min_spacing", "asf.sampling",
        "asf.prompts", "asf.prompt_form", "asf.extent_overlap", "asf.filtering",
        "asf.elimination_", "reuse.", "mask.refine",
    )  # fmt: skip

    def propose(self, frame: FrameInput) -> PromptSet:
        """See `PromptSource`; only the part of the map that shows the image is sampled."""
        confidence_map = frame.confidence_map
        if confidence_map is None:
            raise OptionError("the prompt source 'predictor' needs a confidence map")
        rows, columns = frame.geometry.valid_cells(len(confidence_map))
        asf = frame.options.asf
        cells, confidence = sample(
            confidence_map[:rows, :columns],
            asf.smoothing_sigma,
            asf.confidence_threshold,
            asf.min_spacing,
            fill=asf.sampling == "fill",
        )
        points = frame.geometry.cells_to_source(cells[:, ::-1], len(confidence_map))
        if frame.extent_map is None or asf.prompts == "points":
            return PromptSet(points, confidence)
        boxes = boxes_at(cells, frame.extent_map, frame.geometry)
        duplicate = find_duplicates(boxes, asf.extent_overlap)
        return PromptSet(points, confidence, boxes, asf.prompt_form, duplicate)


def smooth(confidence_map: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian filter of a map `[rows, columns]`, reflected at its edges; 0 leaves it as it is.

    Give only the part that shows the image: padding would darken its edge.
    """
    if sigma <= 0.0:
        return confidence_map
    size = 2 * int(4.0 * sigma + 0.5) + 1
    return cv2.GaussianBlur(confidence_map, (size, size), sigma, borderType=cv2.BORDER_REFLECT)


def local_maxima(values: NDArray[np.float32], threshold: float) -> NDArray[np.int64]:
    """Find the pixels at or above `threshold` that none of their eight neighbours exceeds.

    Every pixel of a level top counts; `space_out` thins them. Returned as by `_by_value`.
    """
    neighbours = cv2.dilate(values, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return _by_value(values, (values >= neighbours) & (values >= threshold))


def _by_value(values: NDArray[np.float32], chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows and columns of the chosen pixels, int64 `[n, 2]`, by descending value, then in order."""
    flat = np.flatnonzero(chosen)
    order = np.argsort(-values.ravel()[flat], kind="stable")
    rows, columns = np.divmod(flat[order], values.shape[1])
    return np.stack((rows, columns), axis=1).astype(np.int64)


def space_out(
    points: NDArray[np.int64], min_spacing: int, shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Keep points greedily, best first, each at least `min_spacing` from all kept before it.

    The distance is Euclidean between pixel centres; exactly `min_spacing` apart is far enough. The
    result is maximal: every point left out is nearer than that to a better one that was kept.
    Points are rows and columns `[n, 2]` of a map of that shape; indices of the kept are returned.
    """
    reach = min_spacing - 1
    offsets = np.arange(-reach, reach + 1)
    too_near = offsets[:, None] ** 2 + offsets[None, :] ** 2 < min_spacing**2
    # A margin as wide as the disc lets it be stamped near the edge without being cut.
    taken = np.zeros((shape[0] + 2 * reach, shape[1] + 2 * reach), np.bool_)
    kept = []
    for index, (row, column) in enumerate(points.tolist()):
        if taken[row + reach, column + reach]:
            continue
        kept.append(index)
        taken[row : row + 2 * reach + 1, column : column + 2 * reach + 1] |= too_near
    return np.array(kept, np.int64)


def sample(
    confidence_map: NDArray[np.float32],
    sigma: float,
    threshold: float,
    min_spacing: int,
    fill: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Sample point prompts from a PCM (AoP-SAM, adaptive sampling).

    The paper takes the map's peaks. `fill` goes on where the map is high but has no peak of its
    own: on the slopes between objects that a small predictor does not tell apart.

    Args:
        confidence_map: float32 `[rows, columns]` in 0-1, only the part that shows the image.
        sigma: of the Gaussian filter, in pixels of the map.
        threshold: least smoothed confidence.
        min_spacing: least distance between two prompts, in pixels of the map.
        fill: every place that is confident enough is then nearer than `min_spacing` to a prompt.

    Returns:
        rows and columns `[n, 2]`, peaks first, each kind by descending confidence, and their
        smoothed confidences, float32 `[n]`.
    """
    smoothed = smooth(np.ascontiguousarray(confidence_map, np.float32), sigma)
    candidates = local_maxima(smoothed, threshold)[:MAX_MAXIMA]
    if fill:
        candidates = np.concatenate((candidates, _by_value(smoothed, smoothed >= threshold)))
    points = candidates[space_out(candidates, min_spacing, smoothed.shape)]
    return points, np.clip(smoothed[points[:, 0], points[:, 1]], 0.0, 1.0)


def boxes_at(
    cells: NDArray[np.int64], extent_map: NDArray[np.float32], geometry: FrameGeometry
) -> NDArray[np.float64]:
    """Read the boxes at some rows and columns `[N, 2]` of the extent map; see `Prediction`.

    They are in source pixels, measured at the pixels' edges, cut at the image's; those of no width
    or height are a pixel wide or high.
    """
    rows, columns = cells.T
    reach = extent_map[:, rows, columns].astype(np.float64) * geometry.image_size
    stride = geometry.image_size / extent_map.shape[-1]
    x, y = (columns + 0.5) * stride, (rows + 0.5) * stride
    square = np.stack([x - reach[0], y - reach[1], x + reach[2], y + reach[3]], axis=1)
    size = np.array([geometry.width, geometry.height], np.float64)
    corners = np.clip(square / np.tile(geometry.scale, 2), 0.0, np.tile(size, 2))
    top_left = np.minimum(corners[:, :2], size - 1.0)
    return np.hstack((top_left, np.maximum(corners[:, 2:], top_left + 1.0)))


def find_duplicates(
    boxes: NDArray[np.float64], max_overlap: float, num_protected: int = 0
) -> NDArray[np.bool_]:
    """Tell which boxes, the surest first, agree with a better one that is no duplicate itself.

    Those of an IoU above `max_overlap` are one object's; the first `num_protected` stay anyway.
    """
    duplicate = np.zeros(len(boxes), np.bool_)
    for start in range(0, len(boxes), _COMPARED):
        end = min(start + _COMPARED, len(boxes))
        agree = paired_iou(boxes[start:end, None], boxes[None, :end]) > max_overlap
        for index in range(max(1, num_protected, start), end):
            duplicate[index] = (agree[index - start, :index] & ~duplicate[:index]).any()
    return duplicate
