"""Masks as Foxglove's annotations, where foxglove_msgs is installed: it is no wheel."""

import cv2
import numpy as np
import pytest

pytest.importorskip("foxglove_msgs")

from foxglove_msgs.msg import ImageAnnotations, PointsAnnotation

from aopsam_ros.drawing.palette import colour_of
from aopsam_ros.masks import decode_full
from support.live import TIMEOUT_S
from support.messages import image_of, stamp_of
from support.scenes import boxes_scene


def filled(outline, shape):
    corners = np.array([(point.x, point.y) for point in outline.points], np.int32)
    return cv2.fillPoly(np.zeros(shape, np.uint8), [corners], 1).astype(bool)


def test_a_live_nodes_annotations_lie_on_its_masks(active):
    subscription = active.listen("annotations", ImageAnnotations)
    received = active.received["annotations"]
    try:

        def answered():
            active.send(image_of(boxes_scene()))
            active.spin(0.3)
            masks = {stamp_of(message): message for message in active.received["masks"]}
            stamps = [(m.points[-1].timestamp.nanosec, m) for m in received if m.points]
            return next(((masks[stamp], m) for stamp, m in stamps if stamp in masks), None)

        masks, message = active.wait(answered, "no annotations", TIMEOUT_S)
    finally:
        active.node.destroy_subscription(subscription)
    *outlines, prompts = message.points
    assert len(masks.masks) == len(outlines) == len(message.texts) == 2
    for mask, outline, text in zip(masks.masks, outlines, message.texts, strict=True):
        pixels = decode_full(mask, masks.height, masks.width)
        drawn = filled(outline, pixels.shape)
        assert (pixels & drawn).sum() / (pixels | drawn).sum() > 0.95
        assert outline.type == PointsAnnotation.LINE_LOOP
        colour = outline.outline_color
        assert [round(255 * c) for c in (colour.r, colour.g, colour.b)] == list(colour_of(mask.id))
        assert text.text == str(mask.id)
        assert pixels[int(text.position.y), int(text.position.x)]
        details = {pair.key: pair.value for pair in outline.metadata}
        assert details["id"] == str(mask.id) and details["area"] == str(mask.area)
    assert prompts.type == PointsAnnotation.POINTS
    assert len(prompts.points) == len(prompts.outline_colors) >= 2
