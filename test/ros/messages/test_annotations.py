"""Masks as Foxglove's annotations; foxglove_msgs is no wheel: without it, with the same fields."""

import importlib.util
import sys
from dataclasses import field, make_dataclass
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from std_msgs.msg import Header

from aopsam_ros.drawing.palette import colour_of
from aopsam_ros.masks import decode_full
from support.live import TIMEOUT_S
from support.messages import image_of, stamp_of
from support.scenes import boxes_scene, iou

POINTS, LINE_LOOP = 1, 2
# Those of foxglove_msgs from 2025 on.
FIELDS = {
    "Color": "r g b a",
    "Point2": "x y",
    "KeyValuePair": "key value",
    "PointsAnnotation": "timestamp type points outline_color outline_colors fill_color thickness"
    " metadata",
    "TextAnnotation": "timestamp position text font_size text_color background_color metadata",
    "ImageAnnotations": "circles points texts metadata",
}


@pytest.fixture
def annotations(monkeypatch):
    """The function, with foxglove_msgs where it is installed."""
    if importlib.util.find_spec("foxglove_msgs") is None:
        kinds = {
            name: make_dataclass(
                name, [(f, object, field(default_factory=list)) for f in fields.split()], slots=True
            )
            for name, fields in FIELDS.items()
        }
        kinds["PointsAnnotation"].POINTS, kinds["PointsAnnotation"].LINE_LOOP = POINTS, LINE_LOOP
        monkeypatch.setitem(sys.modules, "foxglove_msgs", SimpleNamespace())
        monkeypatch.setitem(sys.modules, "foxglove_msgs.msg", SimpleNamespace(**kinds))
    spec = importlib.util.find_spec("aopsam_ros.ros.messages.annotations")
    module = importlib.util.module_from_spec(spec)  # of this test alone
    spec.loader.exec_module(module)
    return module.annotations


def check(message, masks, height, width):
    """Annotations lie on the masks, and say what these are."""
    *outlines, prompts = message.points
    assert len(masks) == len(outlines) == len(message.texts) == 2
    for mask, outline, text in zip(masks, outlines, message.texts, strict=True):
        pixels = decode_full(mask, height, width)
        corners = np.array([(point.x, point.y) for point in outline.points], np.int32)
        drawn = cv2.fillPoly(np.zeros((height, width), np.uint8), [corners], 1).astype(bool)
        assert iou(pixels, drawn) > 0.95
        assert outline.type == LINE_LOOP
        colour = outline.outline_color
        assert [round(255 * c) for c in (colour.r, colour.g, colour.b)] == list(colour_of(mask.id))
        assert text.text == str(mask.id)
        assert pixels[int(text.position.y), int(text.position.x)]
        for annotation in (outline, text):
            details = {pair.key: pair.value for pair in annotation.metadata}
            assert details["id"] == str(mask.id) and details["area"] == str(mask.area)
    assert prompts.type == POINTS
    assert len(prompts.points) == len(prompts.outline_colors) >= 2


def test_annotations_lie_on_their_masks_at_the_images_stamp(annotations, tiny):
    segmentation, header = tiny.segment(boxes_scene()), Header()
    header.stamp.sec = 7
    message = annotations(segmentation, header)
    check(message, segmentation.masks, segmentation.height, segmentation.width)
    assert {each.timestamp.sec for each in (*message.points, *message.texts)} == {7}


@pytest.mark.needs("foxglove_msgs")
def test_a_live_nodes_annotations_lie_on_its_masks(active):
    from foxglove_msgs.msg import ImageAnnotations

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
    check(message, masks.masks, masks.height, masks.width)
