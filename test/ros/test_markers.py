"""Prompt markers: where they stand, what colour they have, and that their ids stay."""

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from aopsam_ros.drawing.glyphs import PROMPT_STYLES
from aopsam_ros.results import Prompt, PromptState, Segmentation
from aopsam_ros.ros.messages.markers import MarkerOptions, PromptMarkers

HEADER = Header(frame_id="camera")
MATRIX = np.array([[500.0, 0, 320], [0, 400, 240], [0, 0, 1]])


def frame_of(*points, states=None):
    states = states or [PromptState.DECODED] * len(points)
    prompts = tuple(Prompt(x, y, 0.5, state) for (x, y), state in zip(points, states, strict=True))
    return Segmentation(480, 640, (), prompts, 0, {}, None, "", "")


def calibration(**changes):
    info = CameraInfo(width=640, height=480, distortion_model="plumb_bob", d=[0.0] * 5)
    info.header.frame_id = "camera"
    info.k = MATRIX.ravel().tolist()
    info.p = [600.0, 0.0, 300.0, 0.0, 0.0, 600.0, 200.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(info, name, value)
    return info


def positions(message):
    return [(m.pose.position.x, m.pose.position.y, m.pose.position.z) for m in message.markers]


def markers(frame, info, **options):
    return PromptMarkers().message(frame, HEADER, info, MarkerOptions(**options))


def test_on_the_pixels_rays_at_the_depth():
    message = markers(frame_of((320, 240), (420, 40)), calibration(), depth=2.0, size=10.0)
    assert positions(message) == [(0, 0, 2.0), (0.4, -1.0, 2.0)]
    assert message.markers[0].scale.x == pytest.approx(10.0 * 2.0 / 500.0)
    assert all(marker.header == HEADER for marker in message.markers)


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("plumb_bob", [-0.2, 0.05, 0.001, -0.002, 0.01]),
        ("rational_polynomial", [-0.2, 0.05, 0.001, -0.002, 0.01, 0.02, 0.01, 0.003]),
        ("equidistant", [0.02, -0.01, 0.003, -0.001]),
    ],
)
def test_the_lens_is_undone(model, coefficients):
    points = np.array([[0.3, -0.2, 1.0], [-0.1, 0.25, 1.0]])
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    zero = np.zeros(3)
    if model == "equidistant":
        pixels, _ = project(points[:, None], zero, zero, MATRIX, np.array(coefficients))
    else:
        pixels, _ = project(points, zero, zero, MATRIX, np.array(coefficients))
    info = calibration(distortion_model=model, d=coefficients)
    found = positions(markers(frame_of(*pixels.reshape(-1, 2).tolist()), info))
    np.testing.assert_allclose(found, points, atol=1e-4)


def test_a_rectified_image_has_the_projection_and_no_lens():
    info = calibration(d=[-0.2, 0.05, 0.0, 0.0, 0.0])
    message = markers(frame_of((360, 140)), info, rectified=True)
    assert positions(message) == [(0.1, -0.1, 1.0)]


@pytest.mark.parametrize(
    "info",
    [
        None,
        calibration(width=320),
        calibration(height=0),
        calibration(header=Header(frame_id="other")),
        calibration(k=[0.0] * 9),
        calibration(k=[float("nan")] * 9),
        calibration(binning_x=2),
        CameraInfo(),
    ],
)
def test_without_a_calibration_that_fits_they_stand_on_a_plane(info):
    message = markers(frame_of((100, 200)), info, pixel_size=0.01, size=5.0)
    assert positions(message) == [(1.0, 2.0, 0.0)]
    assert message.markers[0].scale.x == pytest.approx(0.05)
    assert message.markers[0].header.frame_id == "camera"


def test_an_unknown_lens_is_ignored():
    message = markers(frame_of((420, 240)), calibration(d=[0.1] * 7))
    assert positions(message) == [(0.2, 0.0, 1.0)]


def test_colours_tell_the_state():
    states = list(PromptState)
    message = markers(frame_of(*[(1, 1)] * 4, states=states), None)
    for marker, state in zip(message.markers, states, strict=True):
        colour = [round(255 * c) for c in (marker.color.r, marker.color.g, marker.color.b)]
        assert tuple(colour) == PROMPT_STYLES[state].colour
        assert marker.color.a == 1.0
        assert marker.type == Marker.SPHERE


def test_ids_stay_and_only_the_surplus_is_deleted():
    source = PromptMarkers()
    shown = set()
    for count in (3, 5, 2, 2, 0, 1):
        frame = frame_of(*[(i, i) for i in range(count)])
        for marker in source.message(frame, HEADER, None, MarkerOptions()).markers:
            assert marker.action in (Marker.ADD, Marker.DELETE)
            assert (marker.ns, marker.header) == ("prompts", HEADER)
            if marker.action == Marker.ADD:
                shown.add(marker.id)
            else:
                shown.remove(marker.id)  # never one that is not there
        assert shown == set(range(count))
    cleared = source.clear().markers
    assert [(marker.id, marker.action) for marker in cleared] == [(0, Marker.DELETE)]
    assert source.clear().markers == []


def test_no_prompts_no_markers():
    assert markers(frame_of(), calibration()).markers == []
