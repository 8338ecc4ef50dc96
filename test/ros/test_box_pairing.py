"""A detector's boxes: read from its message, and put together with their image by stamp."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from aopsam_ros.errors import InputError
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.results import InstanceMask, Segmentation
from aopsam_ros.ros.box_pairing import MOST_IMAGES, BoxPairing
from aopsam_ros.ros.frame import Frame
from aopsam_ros.ros.messages.boxes import MOST_DETECTIONS, boxes_of, named
from aopsam_ros.ros.parameter_table import Configuration
from aopsam_ros.ros.stamp_buffer import PairingOptions, StampBuffer, nanoseconds
from support.live import image_of, scene


def detection(x, y, width, height, scores=(), theta=0.0):
    found = Detection2D()
    found.bbox.center.position.x, found.bbox.center.position.y = float(x), float(y)
    found.bbox.center.theta = float(theta)
    found.bbox.size_x, found.bbox.size_y = float(width), float(height)
    for score in scores:
        result = ObjectHypothesisWithPose()
        result.hypothesis.score = float(score)
        found.results.append(result)
    return found


def test_corners_lie_half_a_size_from_the_centre_and_the_best_score_counts():
    message = Detection2DArray(
        detections=[detection(10, 20, 4, 6, (0.2, 0.7)), detection(5, 5, 2, 2)]
    )
    boxes = boxes_of(message)
    np.testing.assert_array_equal(boxes.corners, [[8, 17, 12, 23], [4, 4, 6, 6]])
    np.testing.assert_allclose(boxes.confidence, [0.7, 1.0])
    assert len(boxes_of(Detection2DArray())) == 0


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.floats(-7, 7), st.floats(0, 50), st.floats(0, 50))
def test_a_turned_box_becomes_the_upright_one_around_it(theta, width, height):
    found = boxes_of(Detection2DArray(detections=[detection(3, 4, width, height, (), theta)]))
    half = np.array([[a * width / 2, b * height / 2] for a in (-1, 1) for b in (-1, 1)])
    turn = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    turned = half @ turn.T + [3, 4]
    expected = np.concatenate([turned.min(0), turned.max(0)])
    np.testing.assert_allclose(found.corners[0], expected, atol=1e-9)


@pytest.mark.parametrize(
    "bad",
    [
        detection(math.nan, 0, 1, 1),
        detection(0, 0, math.inf, 1),
        detection(0, 0, 1, -1),
        detection(0, 0, 1, 1, theta=math.nan),
        detection(0, 0, 1, 1, (math.nan,)),
    ],
)
def test_an_impossible_box_is_refused_in_one_line(bad):
    with pytest.raises(InputError, match="detection 1") as caught:
        boxes_of(Detection2DArray(detections=[detection(0, 0, 1, 1), bad]))
    assert "\n" not in str(caught.value)


def test_more_boxes_than_any_image_has_are_refused():
    full = Detection2DArray(detections=[Detection2D()] * MOST_DETECTIONS)
    assert len(boxes_of(full)) == MOST_DETECTIONS
    full.detections = [*full.detections, Detection2D()]
    with pytest.raises(InputError, match="1025 detections in one image are more than 1024"):
        boxes_of(full)


def mask_prompted_at(x, y):
    return InstanceMask(1, (0, 0, 1, 1), 1, 0.5, 1.0, (x, y), 1.0, "", np.array([0, 1], np.uint32))


def test_masks_are_named_after_the_detection_whose_box_prompted_them():
    unsure, sure = detection(10, 20, 4, 6, (0.2,)), detection(10, 20, 8, 2, (0.9, 0.1))
    beyond = detection(100, 50, 40, 20, (0.5,))  # the image ends in its middle
    nameless = detection(60, 60, 4, 4)
    for found, names in ((unsure, ["dog"]), (sure, ["cat", "cow"]), (beyond, ["car"])):
        for result, name in zip(found.results, names, strict=True):
            result.hypothesis.class_id = name
    message = Detection2DArray(detections=[unsure, sure, beyond, nameless])
    places = [(9.5, 19.5), (89.5, 49.5), (59.5, 59.5), (9.5, 25.0)]
    masks = tuple(mask_prompted_at(*place) for place in places)
    segmentation = Segmentation(80, 100, masks, (), 0, {}, None, "", "")
    found = named(segmentation, boxes_of(message), message)
    assert [mask.label for mask in found.masks] == ["cat", "car", "", ""]
    nothing = Detection2DArray()
    assert named(segmentation, boxes_of(nothing), nothing).masks == masks


class Rig:
    """A pairing, and what it said."""

    def __init__(self, tolerance_ms=10.0, timeout_ms=60_000):
        self.pairs, self.dropped, self.missing = [], 0, []
        options = PairingOptions(tolerance_ms, timeout_ms)
        self.configuration = Configuration(SegmenterOptions(), pairing=options)
        self.pairing = BoxPairing("/boxes", self.forward, self.drop, self.missing.append)

    def forward(self, frame):
        stamps = (frame.image.header, frame.boxes.header)
        self.pairs.append(tuple(nanoseconds(header) // 1_000_000 for header in stamps))

    def drop(self):
        self.dropped += 1

    def image(self, milliseconds):
        message = stamped(image_of(scene()), milliseconds)
        self.pairing.put_image(Frame(message, time.monotonic(), self.configuration))

    def boxes(self, milliseconds):
        self.pairing.put_boxes(stamped(Detection2DArray(), milliseconds))


def stamped(message, milliseconds):
    message.header.stamp.sec = milliseconds // 1000
    message.header.stamp.nanosec = milliseconds % 1000 * 1_000_000
    return message


def test_boxes_may_come_before_or_after_their_image():
    rig = Rig()
    rig.image(1000)
    assert not rig.pairs
    rig.boxes(1000)
    rig.boxes(1033)
    rig.image(1033)
    assert rig.pairs == [(1000, 1000), (1033, 1033)]
    assert (rig.dropped, rig.missing) == (0, [])


def test_images_that_the_detector_skipped_are_let_go():
    rig = Rig()
    for milliseconds in (1000, 1033, 1066, 1100):
        rig.image(milliseconds)
    rig.boxes(1066)
    assert (rig.pairs, rig.dropped) == ([(1066, 1066)], 2)
    rig.boxes(1100)
    assert rig.pairs[1:] == [(1100, 1100)]


def test_only_near_stamps_are_a_pair_and_the_nearest_is_taken():
    rig = Rig(tolerance_ms=10)
    rig.image(1000)
    rig.boxes(1011)
    assert not rig.pairs
    rig.boxes(1010)
    assert rig.pairs == [(1000, 1010)]
    rig = Rig(tolerance_ms=10)
    for milliseconds in (995, 1002, 1008):
        rig.boxes(milliseconds)
    rig.image(1000)
    assert rig.pairs == [(1000, 1002)]


def test_without_boxes_images_are_bounded_and_end_with_a_reason():
    rig = Rig(timeout_ms=0)
    rig.image(1000)
    time.sleep(0.002)
    rig.pairing.expire()
    assert rig.missing == ["no boxes came on /boxes within 0 ms of the image"]
    rig.boxes(1210)
    rig.image(1000)
    time.sleep(0.002)
    rig.pairing.expire()
    assert "the nearest 210 ms: a detector has to copy the image's stamp" in rig.missing[1]
    rig = Rig()
    for number in range(MOST_IMAGES + 5):
        rig.image(1000 + 33 * number)
    assert rig.dropped == 5
    rig.pairing.clear()
    rig.boxes(1000 + 33 * 14)
    assert not rig.pairs


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=60))
def test_in_any_order_pairs_match_and_nothing_is_lost_without_a_word(events):
    rig, images = Rig(tolerance_ms=0), 0
    for is_image, number in events:
        (rig.image if is_image else rig.boxes)(1000 + number)
        images += is_image
    assert all(image == boxes for image, boxes in rig.pairs)
    waiting = len(rig.pairing._frames)
    assert waiting <= MOST_IMAGES
    assert images == len(rig.pairs) + rig.dropped + waiting


def test_the_buffer_keeps_the_newest_and_finds_the_nearest():
    buffer = StampBuffer(3)
    for milliseconds in (1, 2, 3, 4):
        buffer.put(stamped(Detection2DArray(), milliseconds).header, milliseconds)
    assert len(buffer) == 3
    assert buffer.nearest(stamped(Detection2DArray(), 1).header) == (1.0, 2)
    buffer.clear()
    assert buffer.nearest(stamped(Detection2DArray(), 1).header) is None
