"""An image segmented whole and once more in crops, so that small things are seen larger.

The semantics are those of SAM's automatic mask generator (segment-anything, `generate_crop_boxes`
and `SamAutomaticMaskGenerator`): layer i has 2^i x 2^i overlapping crops, a mask that a crop's edge
may have cut is left out, and where boxes of two crops overlap the mask of the smaller crop stays.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.masks.hierarchy import find_hierarchy, linked
from aopsam_ros.masks.overlap import SampleGrid
from aopsam_ros.masks.suppression import suppress_corners
from aopsam_ros.results import InstanceMask, Prompt, Segmentation, Status

CropBox = tuple[int, int, int, int]  # left, top, right, bottom (exclusive), source pixels

OVERLAP = 512 / 1500  # of the image's short side, in the first layer
EDGE = 20  # a mask whose box comes so near to a crop's edge, in pixels, may have been cut


def crop_boxes(height: int, width: int, layers: int) -> list[CropBox]:
    """List the whole image, then the crops of each layer, column by column."""
    boxes = [(0, 0, width, height)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(OVERLAP * min(height, width) * (2 / count))
        crop_width = math.ceil((overlap * (count - 1) + width) / count)
        crop_height = math.ceil((overlap * (count - 1) + height) / count)
        lefts = [(crop_width - overlap) * i for i in range(count)]
        tops = [(crop_height - overlap) * i for i in range(count)]
        found = [
            (x, y, min(x + crop_width, width), min(y + crop_height, height))
            for x in lefts
            for y in tops
        ]
        # A tiny image does not fill its last crops.
        boxes += [box for box in found if box[0] < box[2] and box[1] < box[3]]
    return boxes


def segment_crops(
    segment: Callable[[NDArray[np.uint8]], Segmentation],
    rgb: NDArray[np.uint8],
    layers: int,
    threshold: float,
    in_time: Callable[[int], bool] = lambda _: True,
    granularity: str = "all",
) -> Segmentation:
    """Segment an image and its crops, and join what they gave.

    Args:
        segment: finds the masks of an image, of all granularities, on one stopwatch for all images.
        rgb: uint8 `[H, W, 3]`.
        layers: of crops, at least 1.
        threshold: box IoU above which the mask of the larger crop is dropped.
        in_time: whether there is time for another crop, given how many images were segmented.
        granularity: of the masks that stay: what lies in another may come from another crop.

    Returns:
        A segmentation in coordinates of the whole image; its confidence map is that of the image.
    """
    height, width = rgb.shape[:2]
    parts: list[Segmentation] = []
    stopped = False
    found: list[tuple[InstanceMask, CropBox, int]] = []
    for number, box in enumerate(crop_boxes(height, width, layers)):
        if number and not in_time(number):
            stopped = True
            break
        left, top, right, bottom = box
        part = _moved(segment(np.ascontiguousarray(rgb[top:bottom, left:right])), left, top)
        parts.append(part)
        found += [(mask, box, number) for mask in part.masks]
    kept = [found[i] for i in _keep(found, (0, 0, width, height), threshold)]
    kept.sort(key=lambda one: -one[0].area)
    grid = SampleGrid.over(height, width)
    sampled = np.array([grid.sample(mask) for mask, _, _ in kept], np.bool_)
    tree = find_hierarchy(sampled.reshape(len(kept), len(grid.y), len(grid.x)))
    chosen = tree.of_granularity(granularity)
    shown = [kept[i] for i in chosen]
    prompts: list[Prompt] = []
    for number, part in enumerate(parts):
        prompts += part.prompts_of(mask for mask, _, crop in shown if crop == number)
    return replace(
        parts[0],
        height=height,
        width=width,
        masks=linked([mask for mask, _, _ in shown], tree.take(chosen)),
        prompts=tuple(prompts),
        prompts_decoded=sum(part.prompts_decoded for part in parts),
        timings_ms=parts[-1].timings_ms,  # one stopwatch: the last reading holds them all
        status=_joint_status(parts, stopped),
    )


def _joint_status(parts: Sequence[Segmentation], stopped: bool) -> Status:
    """Return the status of an image by those of its crops; `stopped` says that some are missing."""
    found = {part.status for part in parts}
    if found == {Status.NO_TIME}:
        return Status.NO_TIME
    return Status.CUT if stopped or found != {Status.COMPLETE} else Status.COMPLETE


def _moved(part: Segmentation, x: int, y: int) -> Segmentation:
    """Give a crop's masks and prompts the coordinates of the whole image."""
    masks = [
        replace(
            mask,
            bbox=(mask.bbox[0] + x, mask.bbox[1] + y, *mask.bbox[2:]),
            prompt=(mask.prompt[0] + x, mask.prompt[1] + y),
            merged_prompts=tuple((left + x, top + y) for left, top in mask.merged_prompts),
        )
        for mask in part.masks
    ]
    prompts = [replace(prompt, x=prompt.x + x, y=prompt.y + y) for prompt in part.prompts]
    return replace(part, masks=tuple(masks), prompts=tuple(prompts))


def _keep(
    found: Sequence[tuple[InstanceMask, CropBox, int]], image: CropBox, threshold: float
) -> list[int]:
    """Return the indices of the masks that stay, those of the smallest crops first."""
    whole = [i for i, (mask, crop, _) in enumerate(found) if not _cut(mask.corners, crop, image)]
    order = sorted(whole, key=lambda i: (_area(found[i][1]), -found[i][0].score))
    corners = np.array([found[i][0].corners for i in order], np.int64).reshape(-1, 4)
    rank = -np.arange(len(order), dtype=np.float32)
    return [order[i] for i in suppress_corners(corners, rank, threshold).tolist()]


def _cut(box: CropBox, crop: CropBox, image: CropBox) -> bool:
    """Return whether a box comes near an edge of its crop that is no edge of the image."""
    sides = zip(box, crop, image, strict=True)
    return any(abs(b - c) <= EDGE and abs(b - i) > EDGE for b, c, i in sides)


def _area(box: CropBox) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
