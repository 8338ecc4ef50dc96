"""The node as it comes: the embedded model, on a photograph, over DDS."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from aopsam_ros.masks import decode_full
from aopsam_ros.segmentation.segmenter import Segmenter
from support.messages import image_of

PHOTOGRAPH = Path(__file__).parents[2] / "photographs" / "coffee.jpg"


@pytest.fixture(scope="module")
def rgb():
    return cv2.cvtColor(cv2.imread(str(PHOTOGRAPH)), cv2.COLOR_BGR2RGB)


def test_masks_over_dds_are_those_of_the_library(robot, rgb):
    robot.start_node(autostart=True)
    robot.wait_for_subscription()
    message = robot.answer(image_of(rgb))
    assert message.header.frame_id == "camera_optical_frame"
    with Segmenter.from_bundle("nano") as segmenter:
        expected = segmenter.segment(rgb)
    assert len(message.masks) == len(expected.masks) > 0
    for sent, mask in zip(message.masks, expected.masks, strict=True):
        found = decode_full(sent, *rgb.shape[:2])
        truth = decode_full(mask, *rgb.shape[:2])
        # Sums in another order, by another number of threads, move a boundary by a pixel at most.
        assert (found & truth).sum() >= 0.95 * np.logical_or(found, truth).sum()
    assert robot.fresh_health()[2]["model"] == "nano"
