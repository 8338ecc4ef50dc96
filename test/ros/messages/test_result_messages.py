"""A segmentation as messages and markers: nothing is lost, and the header is the image's."""

import array
from dataclasses import replace

import cv2
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from visualization_msgs.msg import ImageMarker, Marker

from aopsam_ros.drawing.palette import PROMPT_STYLES, colour_of
from aopsam_ros.msg import Mask, MaskArray, PromptArray
from aopsam_ros.results import Prompt, PromptState, Segmentation, Status
from aopsam_ros.ros.messages import markers, segmentations
from aopsam_ros.ros.messages.markers import MarkerOptions
from support.drawn_masks import instance_of, rectangle
from support.messages import box_of, calibration_of

HEADER = Header(frame_id="camera_optical_frame")
HEADER.stamp.sec, HEADER.stamp.nanosec = 12, 34


def drawn(*rows):
    return np.array([[character == "#" for character in row] for row in rows])


def frame_of(height, width, masks=(), prompts=(), confidence_map=None):
    return Segmentation(height, width, masks, prompts, 0, {}, confidence_map, "", "")


# Numbers that 32 bits hold exactly.
SCORES = {"predicted_iou": 0.75, "stability_score": 0.5, "prompt_confidence": 0.25, "score": 0.5}
RING = drawn(".####...", ".#..#...", ".####...", "........", "........")
LARGE = instance_of(RING, 1, prompt=(1.5, 0.25), **SCORES)
CUP = drawn("........", "....##..", "...##...", "........", "........")
SMALL = instance_of(CUP, 2, label="cup", parent=1, level=1, **SCORES)
PROMPTS = tuple(Prompt(x + 0.5, 2.0, x / 4, PromptState(x)) for x in range(4))
VALUES = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
FRAME = frame_of(5, 8, (LARGE, SMALL), PROMPTS, VALUES)


def over_the_wire(message):
    return deserialize_message(serialize_message(message), type(message))


def test_masks_arrive_as_they_were():
    frame = replace(FRAME, status=Status.CUT, model="nano", prompt_source="predictor")
    sent = segmentations.mask_array(frame, HEADER, 12.5)
    message = over_the_wire(sent)
    assert message == sent and message.header == HEADER
    assert (message.height, message.width) == (5, 8)
    assert (message.status, message.age_ms) == (MaskArray.STATUS_CUT, 12.5)
    assert (message.model, message.prompt_source) == ("nano", "predictor")
    for mask, sent in zip(FRAME.masks, message.masks, strict=True):
        assert box_of(sent) == mask.bbox
        assert (sent.id, sent.area, sent.label) == (mask.id, mask.area, mask.label)
        assert sent.predicted_iou == mask.predicted_iou
        assert sent.stability_score == mask.stability_score
        assert (sent.score, sent.parent, sent.level) == (mask.score, mask.parent, mask.level)
        assert (sent.prompt_x, sent.prompt_y) == mask.prompt
        assert sent.prompt_confidence == mask.prompt_confidence
        assert sent.counts.typecode == "I" and sent.counts.tolist() == mask.counts.tolist()
        assert not sent.roi.do_rectify


def test_prompts_keep_their_state():
    message = over_the_wire(segmentations.prompt_array(FRAME, HEADER))
    assert isinstance(message, PromptArray)
    assert message.header == HEADER
    sent = [(p.x, p.y, p.confidence, p.state) for p in message.prompts]
    assert sent == [(p.x, p.y, p.confidence, p.state.value) for p in PROMPTS]


def test_label_map_paints_small_masks_on_top_without_gaps_where_they_touch():
    message = segmentations.label_map(FRAME, HEADER)
    assert (message.encoding, message.header) == ("mono16", HEADER)
    labels = np.frombuffer(message.data, np.uint16).reshape(5, 8)
    expected = ["01111000", "01122200", "01122000", "00000000", "00000000"]
    assert ["".join(map(str, row)) for row in labels] == expected


@pytest.mark.parametrize(("id_", "label"), [(65535, 65535), (65536, 1), (131071, 1)])
def test_label_map_with_ids_beyond_its_range(id_, label):
    message = segmentations.label_map(frame_of(1, 1, (instance_of(drawn("#"), id_),)), HEADER)
    assert np.frombuffer(message.data, np.uint16).tolist() == [label]


def test_confidence_map_keeps_its_values():
    message = segmentations.confidence_map(FRAME, HEADER)
    assert (message.encoding, message.height, message.width) == ("32FC1", 3, 4)
    np.testing.assert_array_equal(np.frombuffer(message.data, np.float32).reshape(3, 4), VALUES)
    assert segmentations.confidence_map(frame_of(1, 1), HEADER) is None


def test_detections_are_ranked_by_the_mean_of_score_and_stability():
    steady = replace(SMALL, score=0.5, stability_score=0.9)
    sure = replace(LARGE, score=0.7, stability_score=0.6)
    message = segmentations.detections(replace(FRAME, masks=(sure, steady)), HEADER)
    assert [found.id for found in message.detections] == [str(steady.id), str(sure.id)]


def test_detections_give_the_boxes_back():
    message = over_the_wire(segmentations.detections(FRAME, HEADER))
    assert message.header == HEADER
    for mask, found in zip(FRAME.masks, message.detections, strict=True):
        box = found.bbox
        left = box.center.position.x - box.size_x / 2
        top = box.center.position.y - box.size_y / 2
        assert (left, top, box.size_x, box.size_y) == mask.bbox
        assert found.header == HEADER
        assert found.id == str(mask.id)
        assert found.results[0].hypothesis.score == mask.score
        assert found.results[0].hypothesis.class_id == mask.label


def test_an_empty_frame_is_a_message_too():
    frame = frame_of(5, 8)
    sent = over_the_wire(segmentations.mask_array(frame, HEADER, 0.0))
    assert sent == MaskArray(header=HEADER, height=5, width=8)
    assert segmentations.detections(frame, HEADER).detections == []
    assert not any(segmentations.label_map(frame, HEADER).data)
    assert markers.outlines(frame, HEADER).points == []
    assert markers.prompt_points(frame, HEADER).points == []
    assert Mask().counts == array.array("I")


# Image markers: masks and prompts over the image, in its pixels.


def coordinates(marker):
    return np.array([(point.x, point.y) for point in marker.points]).reshape(-1, 2)


def rgb(colour):
    return tuple(round(255 * channel) for channel in (colour.r, colour.g, colour.b))


def test_outlines_are_closed_lines_along_the_edges_in_the_masks_colours():
    size = 60, 80
    two_parts = instance_of(rectangle(6, 16, 5, 25, size) | rectangle(30, 39, 40, 48, size), 3)
    dot = instance_of(rectangle(2, 3, 2, 3, size), 7)
    marker = markers.outlines(frame_of(*size, (two_parts, dot)), HEADER)
    assert marker.header == HEADER
    assert (marker.type, marker.action) == (ImageMarker.LINE_LIST, ImageMarker.ADD)
    lines = coordinates(marker).reshape(-1, 2, 2)
    assert len(marker.outline_colors) == len(lines)  # one a line
    own = np.array([rgb(colour) == tuple(colour_of(3)) for colour in marker.outline_colors])
    starts, ends = ({tuple(p) for p in lines[own, end].tolist()} for end in (0, 1))
    corners = {(5, 6), (24, 6), (24, 15), (5, 15), (40, 30), (47, 30), (47, 38), (40, 38)}
    assert starts == ends == corners
    np.testing.assert_array_equal(lines[~own], [[[2, 2], [2, 2]]])


def test_a_round_outline_deviates_by_the_tolerance_at_most():
    rows, columns = np.mgrid[:60, :80]
    disc = (rows - 30) ** 2 + (columns - 40) ** 2 <= 20**2
    marker = markers.outlines(frame_of(60, 80, (instance_of(disc),)), HEADER)
    radius = np.hypot(*(coordinates(marker) - [40, 30]).T)
    assert radius.min() > 20 - markers.OUTLINE_TOLERANCE - 0.8 and radius.max() <= 20
    assert len(marker.points) < 60


def test_prompt_points_have_the_colour_of_their_state():
    marker = markers.prompt_points(FRAME, HEADER)
    assert marker.type == ImageMarker.POINTS
    np.testing.assert_array_equal(coordinates(marker), [(p.x, p.y) for p in PROMPTS])
    expected = [tuple(PROMPT_STYLES[p.state].colour) for p in PROMPTS]
    assert [rgb(colour) for colour in marker.outline_colors] == expected


# Prompt markers: where they stand in the camera's frame, and that their ids stay.

MATRIX = np.array([[500.0, 0, 320], [0, 400, 240], [0, 0, 1]])


def prompts_at(*points):
    prompts = tuple(Prompt(x, y, 0.5, PromptState.UNUSED) for x, y in points)
    return frame_of(480, 640, prompts=prompts)


def calibration(**changes):
    info = calibration_of(640, 480)
    info.k = MATRIX.ravel().tolist()
    info.p = [600.0, 0.0, 300.0, 0.0, 0.0, 600.0, 200.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(info, name, value)
    return info


def shown(message):
    return [marker for marker in message.markers if marker.action == Marker.ADD]


def positions(message):
    return [(p.x, p.y, p.z) for marker in shown(message) for p in marker.points]


def markers_of(frame, info, **options):
    return markers.prompt_markers(frame, HEADER, info, MarkerOptions(**options))


def test_markers_stand_on_the_pixels_rays_at_the_depth():
    frame = prompts_at((320, 240), (420, 40))
    message = markers_of(frame, calibration(), depth=2.0, size=10.0)
    assert positions(message) == [(0, 0, 2.0), (0.4, -1.0, 2.0)]
    assert shown(message)[0].scale.x == pytest.approx(10.0 * 2.0 / 500.0)
    assert all(marker.header == HEADER for marker in message.markers)
    unknown_lens = calibration(d=[0.1] * 7)
    assert positions(markers_of(frame, unknown_lens)) == [(0, 0, 1.0), (0.2, -0.5, 1.0)]


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("plumb_bob", [-0.2, 0.05, 0.001, -0.002, 0.01]),
        ("rational_polynomial", [-0.2, 0.05, 0.001, -0.002, 0.01, 0.02, 0.01, 0.003]),
        ("equidistant", [0.02, -0.01, 0.003, -0.001]),
        ("equidistant", [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_the_lens_distortion_is_removed(model, coefficients):
    points = np.array([[0.3, -0.2, 1.0], [-0.1, 0.25, 1.0]])
    camera = np.zeros(3), np.zeros(3), MATRIX, np.array(coefficients)
    if model == "equidistant":
        pixels, _ = cv2.fisheye.projectPoints(points[:, None], *camera)
    else:
        pixels, _ = cv2.projectPoints(points, *camera)
    info = calibration(distortion_model=model, d=coefficients)
    found = positions(markers_of(prompts_at(*pixels.reshape(-1, 2).tolist()), info))
    np.testing.assert_allclose(found, points, atol=1e-4)


@pytest.mark.parametrize("k1", [-0.03, 1e-4, 0.02])
def test_what_a_fisheye_camera_sees_beside_itself_has_no_marker(k1):
    degrees = np.array([0.0, 40.0, 80.0, 86.5, 88.0, 91.0, 100.0, 120.0])
    angles = np.deg2rad(degrees)
    radii = 140.0 * angles * (1.0 + k1 * angles**2)
    pixels = np.stack([320 + 0.8 * radii, 240 - 0.6 * radii], axis=1)
    matrix = [140.0, 0, 320, 0, 140.0, 240, 0, 0, 1]
    info = calibration(distortion_model="equidistant", k=matrix, d=[k1, 0.0, 0.0, 0.0])
    found = np.array(positions(markers_of(prompts_at(*pixels.tolist()), info)))
    seen = (degrees < 87) & (radii < 140.0 * np.pi / 2)
    expected = np.tan(angles[seen, None]) * [0.8, -0.6]
    np.testing.assert_allclose(found[:, :2], expected, rtol=1e-3, atol=1e-6)
    assert (found[:, 2] == 1.0).all()


def test_a_rectified_image_has_the_projection_and_no_lens():
    info = calibration(d=[-0.2, 0.05, 0.0, 0.0, 0.0])
    message = markers_of(prompts_at((360, 140)), info, rectified=True)
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
def test_without_a_calibration_that_fits_markers_stand_on_a_plane(info):
    message = markers_of(prompts_at((100, 200)), info, pixel_size=0.01, size=5.0)
    assert positions(message) == [(1.0, 2.0, 0.0)]
    assert shown(message)[0].scale.x == pytest.approx(0.05)


def test_each_state_is_one_marker_in_a_namespace_and_colour_of_its_own():
    message = markers_of(FRAME, None, lifetime=2.5, pixel_size=0.5)
    assert len(message.markers) == len({marker.ns for marker in message.markers}) == len(PROMPTS)
    for marker in message.markers:
        (prompt,) = (p for p in PROMPTS if p.state.name.lower() == marker.ns)
        assert (marker.type, marker.id, marker.color.a) == (Marker.SPHERE_LIST, 0, 1.0)
        assert [(p.x, p.y) for p in marker.points] == [(prompt.x / 2, prompt.y / 2)]
        assert rgb(marker.color) == tuple(PROMPT_STYLES[prompt.state].colour)
        assert (marker.lifetime.sec, marker.lifetime.nanosec) == (2, 500_000_000)


def test_a_state_without_prompts_deletes_its_marker():
    """An empty list would be an error in RViz."""
    message = markers_of(prompts_at((1, 2)), None)
    actions = {marker.ns: marker.action for marker in message.markers}
    assert actions.pop("unused") == Marker.ADD
    assert set(actions.values()) == {Marker.DELETE}
