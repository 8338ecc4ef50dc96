"""A detector's message as box prompts, and its classes as the names of the masks."""

import math
from dataclasses import replace

import numpy as np
from vision_msgs.msg import Detection2D, Detection2DArray

from aopsam_ros.errors import InputError
from aopsam_ros.geometry import paired_iou
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.results import InstanceMask, Segmentation

MAX_DETECTIONS = 1024  # in one image; all of them are decoded
_SAME_PLACE = 1e-3  # pixels


def boxes_of(message: Detection2DArray) -> Boxes:
    """Return the boxes of a detector's message, in its order.

    A rotated box is replaced by the upright one around it; the confidence is a detection's best
    score, 1 where it has none.

    Raises:
        InputError: if a number is not finite, a size is negative, or there are too many.
    """
    if len(message.detections) > MAX_DETECTIONS:
        raise InputError(
            f"{len(message.detections)} detections in one image are more than {MAX_DETECTIONS}"
        )
    rows = [_corners(detection, index) for index, detection in enumerate(message.detections)]
    scores = [_score(detection, index) for index, detection in enumerate(message.detections)]
    return Boxes(np.array(rows, np.float64).reshape(-1, 4), np.array(scores, np.float32))


def with_labels(
    segmentation: Segmentation, boxes: Boxes, message: Detection2DArray
) -> Segmentation:
    """Label each mask with class and score of the detection that prompted it.

    Masks of other prompts, and of detections without a class, keep what label they have.

    `boxes` are those of the message. A prompt is identified by its position: the centre of the part
    of a box that lies in the image. Of several boxes with the same centre, as a plate's and that of
    the cup on it, the one that fits the mask's best counts; of equals the one of higher confidence.
    """
    size = [segmentation.width, segmentation.height]
    shown = replace(boxes, corners=np.clip(boxes.corners, 0.0, size * 2))
    centres, best_first = shown.centres(segmentation), np.argsort(-boxes.confidence, kind="stable")

    def labelled(mask: InstanceMask) -> InstanceMask:
        distance = np.abs(centres[best_first] - mask.prompt).max(axis=1, initial=0.0)
        found = best_first[distance < _SAME_PLACE]
        if not len(found):
            return mask
        fit = paired_iou(shown.corners[found], np.array(mask.corners))
        score, label = _best(message.detections[found[fit.argmax()]])
        return replace(mask, label=label, label_score=min(max(score, 0.0), 1.0)) if label else mask

    return replace(segmentation, masks=tuple(map(labelled, segmentation.masks)))


def _corners(detection: Detection2D, index: int) -> tuple[float, float, float, float]:
    box = detection.bbox
    x, y, theta = box.center.position.x, box.center.position.y, box.center.theta
    width, height = box.size_x, box.size_y
    if not all(map(math.isfinite, (x, y, theta, width, height))) or min(width, height) < 0:
        raise InputError(
            f"detection {index} has an impossible box: {width:g} x {height:g} pixels at "
            f"({x:g}, {y:g})"
        )
    cosine, sine = abs(math.cos(theta)), abs(math.sin(theta))
    across = (width * cosine + height * sine) / 2
    down = (width * sine + height * cosine) / 2
    return x - across, y - down, x + across, y + down


def _score(detection: Detection2D, index: int) -> float:
    score, _ = _best(detection)
    if not all(math.isfinite(result.hypothesis.score) for result in detection.results):
        raise InputError(f"detection {index} has a score that is not finite")
    return score


def _best(detection: Detection2D) -> tuple[float, str]:
    """Return score and class of the surest hypothesis; 1 and "" where there is none."""
    known = [(float(r.hypothesis.score), str(r.hypothesis.class_id)) for r in detection.results]
    return max(known, key=lambda found: found[0], default=(1.0, ""))
