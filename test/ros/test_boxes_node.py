"""Prompts from a detector in the live node: its boxes are paired with their image by stamp."""

import math

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from vision_msgs.msg import Detection2DArray

from support.live import RELIABLE
from support.messages import box_of, detection_of, image_of, stamp_of
from support.scenes import boxes_scene

GREEN, BLUE = (20, 30, 40, 20), (70, 60, 30, 50)  # x, y, width, height in the scene
CUP, SHELF = detection_of(BLUE, [0.8], ["cup"]), detection_of(GREEN, [0.8], ["shelf"])
SIDE = len(boxes_scene())
STREAMED = image_of(boxes_scene())


class Detector:
    """Publishes boxes for images, as a detector beside the node does."""

    def __init__(self, robot):
        self.robot = robot
        self.publisher = robot.node.create_publisher(Detection2DArray, "/boxes", RELIABLE)

    def publish(self, stamp, *detections):
        message = Detection2DArray(detections=list(detections))
        message.header.stamp, message.header.frame_id = stamp, "camera_optical_frame"
        self.publisher.publish(message)

    def answer(self, *detections, image=STREAMED):
        """The masks of an image with these detections."""
        stamps = []

        def answered():
            stamps.append(self.robot.send(image).nanosec)
            self.publish(image.header.stamp, *detections)
            self.robot.spin(0.1)
            return [m for m in self.robot.received["masks"] if stamp_of(m) in stamps]

        return self.robot.wait(answered, "no masks for the boxes")[0]


@pytest.fixture
def detector(active, request):
    source = getattr(request, "param", "boxes")
    # No image is given up on a busy machine.
    patience = {"pairing__tolerance_ms": 0.0, "pairing__timeout_ms": 60_000}
    active.configure_anew(prompt_source=source, **patience)
    detector = Detector(active)
    active.wait(detector.publisher.get_subscription_count, "the node takes no boxes")
    yield detector
    active.node.destroy_publisher(detector.publisher)


@pytest.mark.parametrize("detector", ["boxes", "box_centres"], indirect=True)
def test_each_box_becomes_a_mask_with_its_class(detector):
    (mask,) = detector.answer(CUP).masks
    assert np.abs(np.subtract(box_of(mask), BLUE)).max() <= 2
    assert (mask.label, mask.prompt_x, mask.prompt_y) == ("cup", 84.5, 84.5)
    assert mask.prompt_confidence == pytest.approx(0.8)

    detector.robot.forget()
    both = detector.answer(CUP, SHELF)
    assert {mask.label for mask in both.masks} == {"cup", "shelf"}
    detections = detector.robot.with_stamp("detections", stamp_of(both)).detections
    assert {found.results[0].hypothesis.class_id for found in detections} == {"cup", "shelf"}

    detector.robot.forget()
    assert detector.answer().masks == []  # the detector found nothing: an answer as any other
    assert detector.robot.fresh_health()[2]["frames_failed"] == "0"


def test_masks_of_one_class_that_show_one_thing_are_united(detector):
    rgb = np.zeros((SIDE, SIDE, 3), np.uint8)
    rgb[40:60, 20:100, 1:], rgb[60:80, 20:100, 1:] = (220, 60), (120, 60)
    rgb[48:52, 58:62, 0] = rgb[68:72, 58:62, 0] = 255
    halves = (20, 40, 80, 20), (20, 60, 80, 20)
    mugs, others = (
        [detection_of(half, [0.8], [name]) for half, name in zip(halves, names, strict=True)]
        for names in (("mug", "mug"), ("mug", "cup"))
    )
    robot, image = detector.robot, image_of(rgb)
    assert [mask.label for mask in detector.answer(*mugs, image=image).masks] == ["mug", "mug"]
    assert robot.set(labels__merge=True, labels__merge_affinity=0.01) == []
    robot.forget()
    masks = detector.answer(*mugs, image=image).masks
    assert [(mask.label, mask.parent) for mask in masks] == [("mug", 0), ("", 1), ("", 1)]
    robot.wait(lambda: robot.node.count_subscribers("/depth"), "depth is not subscribed to")
    robot.forget()
    assert {mask.label for mask in detector.answer(*others, image=image).masks} == {"mug", "cup"}


def test_missing_and_impossible_boxes_are_reported_and_the_next_are_taken(detector):
    robot = detector.robot
    robot.set(pairing__timeout_ms=100)
    missing = "no boxes came on /boxes within 100 ms: is it your detector's topic?"
    robot.reported(DiagnosticStatus.ERROR, missing, STREAMED)
    assert robot.logged("image skipped: no boxes came on /boxes")
    robot.set(pairing__timeout_ms=60_000)
    impossible = detection_of((70, 60, math.nan, 50))

    def refused():
        detector.publish(robot.send(STREAMED), impossible)
        level, text, _ = robot.next_health()
        return level == DiagnosticStatus.ERROR and "detection 0 has an impossible box" in text

    robot.wait(refused, "the impossible box was not reported")
    assert len(detector.answer(CUP).masks) == 1
    assert not robot.logged("Traceback"), robot.log.read_text()


def test_ids_stay_with_what_the_detector_finds(detector):
    robot = detector.robot
    assert robot.set(tracking__enabled=True) == []
    first = detector.answer(CUP, SHELF)
    ids = {mask.label: mask.id for mask in first.masks}
    robot.forget()
    (cup,) = detector.answer(CUP).masks
    assert (cup.label, cup.id) == ("cup", ids["cup"])
    assert "exclude each other" in robot.set(grid__crop_layers=1)[0]
