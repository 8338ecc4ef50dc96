"""Boxes and depth find their image by stamp, whatever the order in which they arrive."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vision_msgs.msg import Detection2DArray

from aopsam_ros.errors import InputError
from aopsam_ros.ros.pairing import (
    DEPTH_GRACE_S,
    MAX_DEPTH_IMAGES,
    MAX_WAITING_IMAGES,
    BoxPairing,
    DepthBuffer,
    Frame,
    nanoseconds,
)
from aopsam_ros.ros.parameter_table import PairingOptions
from aopsam_ros.ros.transforms import MAX_LATE
from support.messages import CONFIGURATION, header, image_of, raw_image
from support.scenes import boxes_scene


class Rig:
    """A pairing of boxes, and what became of its images."""

    def __init__(self, tolerance_ms=10.0, timeout_ms=60_000):
        self.pairs, self.dropped, self.missing = [], 0, []
        options = PairingOptions(tolerance_ms, timeout_ms)
        self.configuration = replace(CONFIGURATION, pairing=options)
        self.pairing = BoxPairing("/boxes", self.forward, self.drop, self.missing.append)

    def forward(self, frame):
        stamps = (frame.image.header, frame.boxes.header)
        self.pairs.append(tuple(nanoseconds(header) // 1_000_000 for header in stamps))

    def drop(self):
        self.dropped += 1

    def image(self, milliseconds):
        message = image_of(boxes_scene())
        message.header = header(milliseconds)
        self.pairing.put_image(Frame(message, time.monotonic(), self.configuration))

    def boxes(self, milliseconds):
        self.pairing.put_boxes(Detection2DArray(header=header(milliseconds)))


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
    assert rig.missing == ["no boxes came on /boxes within 0 ms: is it your detector's topic?"]
    rig.boxes(1210)
    rig.image(1000)
    time.sleep(0.002)
    rig.pairing.expire()
    assert "the nearest 210 ms: a detector has to copy the image's stamp" in rig.missing[1]
    rig = Rig()
    for number in range(MAX_WAITING_IMAGES + 5):
        rig.image(1000 + 33 * number)
    said = f"no boxes came on /boxes within {MAX_WAITING_IMAGES} images"
    assert rig.missing == [f"{said}: is it your detector's topic?"] * 5
    assert rig.dropped == 0
    rig.pairing.clear()
    rig.boxes(1000 + 33 * 14)
    assert not rig.pairs


@settings(max_examples=200)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=60))
def test_in_any_order_pairs_match_and_every_image_is_accounted_for(events):
    rig, images = Rig(tolerance_ms=0, timeout_ms=0), 0
    for is_image, number in events:
        (rig.image if is_image else rig.boxes)(1000 + number)
        images += is_image
    time.sleep(0.001)
    rig.pairing.expire()
    assert all(image == boxes for image, boxes in rig.pairs)
    assert images == len(rig.pairs) + rig.dropped + len(rig.missing)


OPTIONS = PairingOptions(tolerance_ms=10, timeout_ms=60_000)
FLAT = np.ones((4, 5), np.float32)


class Depth:
    """A buffer of depth images with a clock that is set by hand, in seconds."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr("aopsam_ros.ros.pairing.time.monotonic", lambda: self.now)
        self.buffer = DepthBuffer(1)

    def put(self, milliseconds):
        message = raw_image(FLAT, milliseconds=milliseconds)
        self.buffer.put(message)
        return message

    def wait(self, milliseconds, options=OPTIONS):
        image = raw_image(FLAT, milliseconds=milliseconds)
        configuration = replace(CONFIGURATION, pairing=options)
        return self.buffer.wait_for(Frame(image, self.now, configuration))


@pytest.fixture
def depth(monkeypatch):
    """Depth that has been subscribed to for long."""
    depth = Depth(monkeypatch)
    depth.buffer.set_needed(True)
    depth.now += DEPTH_GRACE_S
    return depth


def test_depth_that_has_arrived_is_found_by_stamp(depth):
    for milliseconds in (1000, 1033, 1066):
        depth.put(milliseconds)
    assert depth.wait(1034).header == header(1033)


def test_of_stamps_that_are_as_near_the_last_is_taken(depth):
    """A driver that sets no stamps: what came a second ago is not of this image."""
    assert [depth.put(0) for _ in range(3)][-1] is depth.wait(0)
    rig = Rig()
    for milliseconds in (990, 1010):
        rig.boxes(milliseconds)
    rig.image(1000)
    assert rig.pairs == [(1000, 1010)]


def test_the_depth_of_an_image_outlasts_long_work_on_it(depth):
    depth.put(1000)
    depth.buffer.expect(header(1000))
    for number in range(1, 2 * MAX_DEPTH_IMAGES):
        depth.put(1000 + 33 * number)
    assert depth.wait(1000).header == header(1000)
    depth.buffer.expect(header(9000))  # begun before its depth has come
    for number in range(2 * MAX_DEPTH_IMAGES):
        depth.put(9000 + 33 * number)
    assert depth.wait(9000).header == header(9000)
    with pytest.raises(InputError, match="no depth is within"):  # no longer at work
        depth.wait(1000)


def test_depth_that_comes_later_is_waited_for(depth):
    depth.put(967)
    late = []
    threading.Timer(0.05, lambda: late.append(depth.put(1000))).start()
    assert depth.wait(1000) is late[0]


def test_the_first_image_of_a_recording_that_begins_anew_waits_for_its_depth(depth):
    depth.buffer.expect(header(9000))
    depth.put(9000)
    depth.buffer.expect(header(1000))
    late = []
    threading.Timer(0.05, lambda: late.append(depth.put(1000))).start()
    assert depth.wait(1000) is late[0]


def test_depth_that_will_not_come_is_not_waited_for_nor_beyond_the_limit(depth):
    with pytest.raises(InputError, match="no depth came"):  # at once: the limit is a minute
        depth.wait(1000)
    depth.put(1300)  # the image's own would have come before
    with pytest.raises(InputError, match="the nearest 300 ms"):
        depth.wait(1000)
    depth.put(900)  # nor beyond the limit
    with pytest.raises(InputError, match="within 10 ms of the image's stamp, the nearest 100 ms"):
        depth.wait(1000, PairingOptions(tolerance_ms=10, timeout_ms=0))


def test_depth_that_always_comes_too_late_holds_no_image_up_until_it_is_near(depth):
    """Each image would wait in vain, and the next one's masks for it."""

    def come(milliseconds, after_s=0.0):
        depth.now += after_s
        depth.put(milliseconds)

    for number in range(MAX_LATE):  # 100 s behind, where the limit is a minute
        come(1000 * number)
        threading.Timer(0.02, come, (1000 * number + 1, 60.0)).start()
        with pytest.raises(InputError, match="no depth is within"):
            depth.wait(100_000 + 1000 * number)
    stopped = threading.Timer(10.0, depth.buffer.clear)
    stopped.start()
    with pytest.raises(InputError, match="no depth is within"):
        depth.wait(200_000)
    stopped.cancel()
    come(199_000)
    threading.Timer(0.05, come, (200_000,)).start()
    assert depth.wait(200_000).header == header(200_000)


def test_waiting_ends_when_everything_is_cleared(depth):
    depth.put(900)
    threading.Timer(0.05, depth.buffer.clear).start()
    with pytest.raises(InputError, match="no depth came"):
        depth.wait(1000)


def test_depth_that_nobody_needs_any_more_is_not_kept(depth):
    depth.put(1000)
    for needed in (False, True):
        depth.buffer.set_needed(needed)
    assert depth.wait(1000) is None


def test_depth_is_given_time_to_begin_once_it_is_needed(monkeypatch):
    depth = Depth(monkeypatch)
    depth.buffer.set_needed(True)
    assert depth.wait(1000) is None
    depth.put(1033)  # the first that came since it was subscribed to: of a later image
    assert depth.wait(1000) is None
    depth.now += DEPTH_GRACE_S
    depth.buffer.set_needed(True)
    with pytest.raises(InputError, match="the nearest 33 ms"):
        depth.wait(1000)
    for needed in (False, True):
        depth.buffer.set_needed(needed)
    assert depth.wait(1000) is None
