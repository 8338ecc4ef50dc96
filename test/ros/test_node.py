"""The live node over DDS: results, parameters, and input that is not an image."""

import array

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from visualization_msgs.msg import Marker

from aopsam_ros.images.encodings import to_rgb
from support.live import TOPICS
from support.messages import box_of, calibration_of, compressed_image, image_of, stamp_of
from support.scenes import boxes_scene

GOOD = image_of(boxes_scene())


def test_masks_are_those_of_the_image_and_carry_its_header(active):
    message = active.answer(GOOD)
    assert message.header.frame_id == "camera_optical_frame"
    assert message.header.stamp.sec == 1_700_000_000
    assert (message.height, message.width) == (128, 128)
    boxes = set(map(box_of, message.masks))
    for expected in ((20, 30, 40, 20), (70, 60, 30, 50)):
        assert any(np.abs(np.subtract(expected, box)).max() <= 2 for box in boxes), boxes
    areas = [mask.area for mask in message.masks]
    assert areas == sorted(areas, reverse=True)


def test_all_topics_answer_with_the_images_header(active):
    for topic in TOPICS.keys() - {"target"}:  # nothing is followed
        message = active.answer(GOOD, topic)
        headers = [message.header] if hasattr(message, "header") else []
        headers += [marker.header for marker in getattr(message, "markers", [])]
        assert headers
        assert {header.frame_id for header in headers} == {"camera_optical_frame"}
    labels = active.received["labels"][-1]
    assert (labels.encoding, labels.width, labels.height) == ("mono16", 128, 128)
    assert set(labels.data) == {0, 1, 2}
    assert active.received["overlay"][-1].encoding == "rgb8"
    overlay, compressed = (
        active.with_stamp(t, stamp_of(active.received["overlay/compressed"][-1]))
        for t in ("overlay", "overlay/compressed")
    )
    assert compressed.format == "rgb8; jpeg compressed bgr8"
    difference = np.abs(to_rgb(overlay).astype(int) - to_rgb(compressed))
    assert difference.mean() < 5
    assert active.received["confidence_map"][-1].encoding == "32FC1"
    assert len(active.received["detections"][-1].detections) == 2


def test_options_are_the_bundles_and_a_change_shows_in_the_next_message(active):
    assert active.get("asf.min_spacing") == 2  # 6 in the table
    assert len(active.answer(GOOD, "prompts").prompts) == 2
    assert active.set(asf__confidence_threshold=0.99) == []
    active.forget()
    assert active.answer(GOOD, "prompts").prompts == []
    assert active.answer(GOOD).masks == []
    assert active.set(asf__confidence_threshold=0.3) == []
    assert len(active.answer(GOOD).masks) == 2


def spheres(message):
    """Points of the prompt markers."""
    return [point for m in message.markers if m.action == Marker.ADD for point in m.points]


def test_markers_stand_on_rays_once_a_calibration_came(active):
    active.clean_up()  # forget the calibration of other tests
    active.activate()
    first = spheres(active.answer(GOOD, "prompt_markers"))
    assert [point.z for point in first] == [0.0, 0.0]
    calibration = calibration_of(128, 128)

    def in_space():
        active.infos.publish(calibration)
        points = spheres(active.answer(GOOD, "prompt_markers"))
        active.forget()
        return points if points[0].z == 1.0 else None

    points = active.wait(in_space, "markers never stood in space")
    prompts = active.answer(GOOD, "prompts").prompts
    for point, prompt in zip(points, prompts, strict=True):
        assert point.x == pytest.approx((prompt.x - 64) / 100)
        assert point.y == pytest.approx((prompt.y - 64) / 100)
    active.forget()
    fewer = active.answer(image_of(boxes_scene(((20, 30, 40, 20),))), "prompt_markers")
    assert len(spheres(fewer)) == 1


def test_compressed_images_are_taken_where_that_is_their_transport(active):
    active.publish_images(CompressedImage, "/image/compressed")
    active.configure_anew(image_transport="compressed")
    good = compressed_image(boxes_scene()[:, :, ::-1], ".png")
    masks = active.answer(good)
    assert masks.header.frame_id == "camera_optical_frame"
    assert (masks.height, masks.width) == (128, 128) and len(masks.masks) == 2
    useless = CompressedImage(format="jpeg", data=array.array("B", b"not an image"))
    active.reported(DiagnosticStatus.ERROR, "must be JPEG or PNG", useless)
    assert active.logged("must be JPEG or PNG")
    active.forget()
    assert len(active.answer(good).masks) == 2


def test_a_flood_drops_old_images_and_counts_them(active):
    slow = image_of(np.full((128, 128, 3), 128, np.uint8))  # full of prompts

    def flooded():
        for _ in range(50):
            active.send(slow)
            active.spin(0.005)
        values = active.fresh_health()[2]
        return int(values["frames_dropped"]) and values

    active.wait(flooded, "nothing was dropped")
    active.answer(GOOD)

    def counted():
        values = active.next_health()[2]
        ends = sum(int(values[f"frames_{name}"]) for name in ("segmented", "dropped", "failed"))
        return ends == int(values["frames_received"]) and values

    values = active.wait(counted, "images are unaccounted for")
    stamps = [stamp_of(message) for message in active.received["masks"]]
    assert stamps == sorted(set(stamps))
    assert float(values["latency_p50_ms"]) > 0


def test_stamps_follow_simulated_time_even_where_it_stands_still(active):
    clock = active.node.create_publisher(Clock, "/clock", 1)
    assert active.set(use_sim_time=True) == []
    message = Clock()
    message.clock.sec = 1234

    def in_simulated_time():
        clock.publish(message)
        return active.diagnostics and active.diagnostics[-1].header.stamp.sec == 1234

    active.wait(in_simulated_time, "the node does not follow /clock")
    reports = len(active.diagnostics)
    masks = active.answer(GOOD)
    assert len(masks.masks) == 2
    assert masks.header.stamp.sec == 1_700_000_000  # the image's own, whatever the clock says
    latency = lambda: float(active.next_health()[2]["latency_p50_ms"])  # noqa: E731
    active.wait(lambda: latency() > 0, "no latency")
    active.wait(lambda: len(active.diagnostics) >= reports + 2, "diagnostics wait for the clock")
    assert {report.header.stamp.sec for report in active.diagnostics[reports:]} == {1234}
    active.node.destroy_publisher(clock)
