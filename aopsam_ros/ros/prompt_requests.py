"""Requests of the service `~/segment`: read, carried out, answered."""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from aopsam_ros.errors import InputError
from aopsam_ros.ros.messages import segmentations
from aopsam_ros.ros.messages.images import image_to_rgb
from aopsam_ros.segmentation.interactive import UserPrompt, segment_prompt
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.srv import Segment


def prompt_of(request: Segment.Request) -> UserPrompt:
    """Return the prompt of a request.

    Raises:
        InputError: if its fields contradict each other, or there is no prompt.
    """
    numbers = np.array(request.points, np.float64)
    if len(numbers) % 2:
        raise InputError(f"points are x0, y0, x1, y1, ...: {len(numbers)} numbers are too few")
    points = numbers.reshape(-1, 2)
    labels = np.array(request.labels, np.uint8)
    if not len(labels):
        labels = np.full(len(points), Segment.Request.OBJECT, np.uint8)
    roi = request.box
    left, top = float(roi.x_offset), float(roi.y_offset)
    box = (left, top, left + roi.width, top + roi.height) if roi.width else None
    return UserPrompt(points, labels, box)


def answer(
    segmenter: Segmenter, request: Segment.Request, newest: Image | CompressedImage | None
) -> Segment.Response:
    """Carry out a request.

    Args:
        segmenter: no other thread may be using it.
        request: without data in its image, `newest` is meant.
        newest: the newest image received, if any.

    Raises:
        AopsamError: if it cannot be done; the message says why.
    """
    prompt, given = prompt_of(request), request.image
    image = given if given.width or given.height or len(given.data) else newest
    if image is None:
        raise InputError("no image has come yet")
    rgb = image_to_rgb(image)
    masks = segment_prompt(segmenter, segmenter.encode(rgb), prompt, request.all_masks)
    response = Segment.Response(success=True, header=image.header)
    response.height, response.width = rgb.shape[:2]
    response.masks = [segmentations.mask_message(mask) for mask in masks]
    return response
