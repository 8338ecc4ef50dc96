"""A segmentation as ROS messages; each carries the source image's header, unchanged."""

from __future__ import annotations

import array

import numpy as np
from sensor_msgs.msg import Image, RegionOfInterest
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox2D, Detection2D, Detection2DArray, ObjectHypothesisWithPose

from aopsam_ros.masks.formats import fill_seams
from aopsam_ros.masks.rle import decode
from aopsam_ros.msg import Mask, MaskArray, Prompt, PromptArray
from aopsam_ros.results import InstanceMask, Segmentation
from aopsam_ros.ros.messages.images import array_to_image

_HIGHEST_LABEL = 65535  # of a mono16 image; 0 is background


def mask_array(segmentation: Segmentation, header: Header, age_ms: float) -> MaskArray:
    """Return all masks, in descending order of area; `age_ms` is the image's age now."""
    message = MaskArray(header=header, status=int(segmentation.status), age_ms=age_ms)
    message.height, message.width = segmentation.height, segmentation.width
    message.model, message.prompt_source = segmentation.model, segmentation.prompt_source
    message.masks = [mask_message(instance) for instance in segmentation.masks]
    return message


def mask_message(instance: InstanceMask) -> Mask:
    """Return one instance."""
    message = Mask()
    message.id = instance.id
    x, y, width, height = instance.bbox
    message.roi = RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)
    message.area = instance.area
    message.predicted_iou = float(instance.predicted_iou)
    message.stability_score = float(instance.stability_score)
    message.score = float(instance.score)
    message.prompt_x, message.prompt_y = map(float, instance.prompt)
    message.prompt_confidence = float(instance.prompt_confidence)
    message.label = instance.label
    message.label_score = float(instance.label_score)
    message.parent = instance.parent
    message.level = min(instance.level, 255)
    # The one type that a uint32[] field takes over without checking each number.
    message.counts = array.array("I", instance.counts.astype(np.uint32, copy=False).tobytes())
    return message


def instance_of(message: Mask) -> InstanceMask:
    """Return the instance that a message describes; its run lengths are not checked."""
    roi = message.roi
    return InstanceMask(
        id=message.id,
        bbox=(roi.x_offset, roi.y_offset, roi.width, roi.height),
        area=message.area,
        predicted_iou=message.predicted_iou,
        stability_score=message.stability_score,
        prompt=(message.prompt_x, message.prompt_y),
        prompt_confidence=message.prompt_confidence,
        label=message.label,
        counts=np.array(message.counts, np.uint32),
        score=message.score,
        parent=message.parent,
        level=message.level,
        label_score=message.label_score,
    )


def prompt_array(segmentation: Segmentation, header: Header) -> PromptArray:
    """Return all prompts of the frame, also those that were never decoded."""
    message = PromptArray(header=header)
    message.height, message.width = segmentation.height, segmentation.width
    message.prompts = [
        Prompt(
            x=float(prompt.x),
            y=float(prompt.y),
            confidence=float(prompt.confidence),
            state=int(prompt.state),
        )
        for prompt in segmentation.prompts
    ]
    return message


def label_map(segmentation: Segmentation, header: Header) -> Image:
    """Return a mono16 image of mask ids, 0 where there is none; small masks lie on top.

    Masks overlap, so a label map holds less than `mask_array` does; where they touch it has no
    gaps. Ids beyond 65535, which only long tracking reaches, start again at 1.
    """
    labels = np.zeros((segmentation.height, segmentation.width), np.uint16)
    for mask in segmentation.masks:
        x, y, width, height = mask.bbox
        box = labels[y : y + height, x : x + width]
        box[decode(mask)] = (mask.id - 1) % _HIGHEST_LABEL + 1
    fill_seams(labels)
    return array_to_image(labels, "mono16", header)


def confidence_map(segmentation: Segmentation, header: Header) -> Image | None:
    """Return the prompt confidence map as 32FC1, values 0-1; None where there is none.

    It has the predictor's resolution and covers exactly the image: scale it to lay it over.
    """
    if segmentation.confidence_map is None:
        return None
    values = segmentation.confidence_map.astype(np.float32, copy=False)
    return array_to_image(values, "32FC1", header)


def edges(segmentation: Segmentation, header: Header) -> Image | None:
    """Return the edges as mono8, 255 for the surest; None where they were not asked for."""
    if segmentation.edge_map is None:
        return None
    return array_to_image((255 * segmentation.edge_map).astype(np.uint8), "mono8", header)


def detections(segmentation: Segmentation, header: Header) -> Detection2DArray:
    """Return the masks' boxes: `id` and score are the mask's.

    They are ranked as proposals, by the mean of score and stability score, best first.
    """
    message = Detection2DArray(header=header)
    ranked = sorted(segmentation.masks, key=lambda mask: -mask.proposal_score)
    for mask in ranked:
        x, y, width, height = mask.bbox
        box = BoundingBox2D(size_x=float(width), size_y=float(height))
        # Its centre minus half its size is the top left corner again.
        box.center.position.x, box.center.position.y = x + width / 2.0, y + height / 2.0
        message.detections.append(
            Detection2D(header=header, results=[hypothesis(mask)], bbox=box, id=str(mask.id))
        )
    return message


def hypothesis(mask: InstanceMask) -> ObjectHypothesisWithPose:
    """Return a mask's label and score as a detection's class and score."""
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id = mask.label
    result.hypothesis.score = float(mask.score)
    return result
