"""Depth images: read, and found by stamp while they keep coming."""

import array
import threading
import time

import numpy as np
import pytest

from aopsam_ros.errors import InputError
from aopsam_ros.ros.messages.depth import PATIENCE_S, DepthImages, depth_to_metres
from aopsam_ros.ros.stamp_buffer import PairingOptions
from support.depth_images import depth_image, header

OPTIONS = PairingOptions(tolerance_ms=10, timeout_ms=60_000)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("padding", [0, 3, 8])
def test_both_units_become_metres_with_nan_for_unknown(padding, swapped):
    millimetres = np.array([[0, 1500, 65535], [1, 2, 3]], np.uint16)
    expected = np.array([[np.nan, 1.5, 65.535], [0.001, 0.002, 0.003]])
    found = depth_to_metres(depth_image(millimetres, None, padding, swapped))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    metres = np.array([[np.nan, 1.5], [0.0, np.inf]], np.float32)
    found = depth_to_metres(depth_image(metres, None, padding, swapped))
    np.testing.assert_allclose(found, [[np.nan, 1.5], [np.nan, np.nan]])


FLAT = np.ones((4, 5), np.float32)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoding": "mono8"}, "depth must be 32FC1"),
        ({"encoding": "x" * 500}, "depth must be 32FC1"),
        ({"height": 0}, "is empty: 5x0"),
        ({"width": 2**31, "height": 2**31}, "too large"),
        ({"step": 19}, "step of 19 bytes"),
        ({"data": array.array("B", bytes(79))}, "79 bytes of data, but needs 80"),
    ],
)
def test_damaged_depth_is_refused_in_one_line(changes, reason):
    message = depth_image(FLAT)
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(InputError, match=reason) as caught:
        depth_to_metres(message)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def listening():
    """Depth that has been listened to for long."""
    images = DepthImages()
    images._wanted_since = 0.0
    return images


def wait(images, milliseconds, options=OPTIONS):
    return images.wait_for(header(milliseconds), options, time.monotonic())


def test_depth_that_is_there_is_found_by_stamp():
    images = DepthImages()
    for milliseconds in (1000, 1033, 1066):
        images.put(depth_image(FLAT, milliseconds=milliseconds))
    assert wait(images, 1034).header == header(1033)


def test_depth_that_comes_later_is_waited_for():
    images = DepthImages()
    images.put(depth_image(FLAT, milliseconds=967))
    late = depth_image(FLAT, milliseconds=1000)
    threading.Timer(0.1, lambda: images.put(late)).start()
    assert wait(images, 1000) is late


@pytest.mark.parametrize("with_some", [False, True])
def test_nobody_waits_for_depth_that_will_not_come(with_some):
    images = listening()
    if with_some:
        images.put(depth_image(FLAT, milliseconds=1300))  # the image's own would have been before
    reason = "the nearest 300 ms" if with_some else "no depth came"
    with pytest.raises(InputError, match=reason):  # at once: the limit is a minute
        wait(images, 1000)


def test_waiting_ends_at_the_limit_and_when_everything_is_cleared():
    images = listening()
    images.put(depth_image(FLAT, milliseconds=900))
    with pytest.raises(InputError, match="within 10 ms of the image's stamp, the nearest 100 ms"):
        wait(images, 1000, PairingOptions(tolerance_ms=10, timeout_ms=20))
    threading.Timer(0.1, images.clear).start()
    with pytest.raises(InputError, match="no depth came"):
        wait(images, 1000)


def test_just_after_the_first_listener_came_no_depth_is_no_fault():
    images = DepthImages()
    assert wait_none(images)
    images.want(True)
    assert wait_none(images)
    images._wanted_since -= PATIENCE_S
    images.want(True)
    assert not wait_none(images)
    images.want(False)
    images.want(True)
    assert wait_none(images)


def wait_none(images):
    try:
        return wait(images, 1000) is None
    except InputError:
        return False
