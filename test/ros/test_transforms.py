"""TF: boxes, points and markers in another frame than the camera's."""

import itertools
import math
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

from aopsam_ros.errors import InputError, OptionError
from aopsam_ros.options import OPTIONS
from aopsam_ros.ros import transforms
from aopsam_ros.ros.messages.markers import MarkerOptions, box_markers
from aopsam_ros.ros.pairing import Frame
from aopsam_ros.ros.parameter_table import TABLE, configuration_of
from aopsam_ros.ros.publishers import Publishers
from aopsam_ros.ros.transforms import MAX_LATE, Transform, TransformListener
from aopsam_ros.space.boxes_3d import fit_box
from support.messages import CONFIGURATION, calibration_of, header, image_of, raw_image, stamp_of
from support.scenes import boxes_scene

CAMERA, BASE = "camera_optical_frame", "base_link"
HEADER = Header(frame_id=CAMERA)
HEADER.stamp.sec = 7
# A camera that looks ahead, half a metre above the floor: base x is its z, y its -x, z its -y.
AHEAD = TransformStamped(header=Header(frame_id=BASE), child_frame_id=CAMERA)
AHEAD.transform.rotation = Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)
AHEAD.transform.translation = Vector3(x=0.1, y=0.0, z=0.5)


def test_points_and_boxes_are_where_the_robot_sees_them():
    transform = Transform.of(AHEAD, HEADER)
    assert transform.header == Header(frame_id=BASE, stamp=HEADER.stamp)
    found = transform.points(np.array([[0.0, 0.0, 2.0], [1.0, 0.0, 2.0], [0.0, 0.25, 2.0]]))
    np.testing.assert_allclose(found, [[2.1, 0, 0.5], [2.1, -1, 0.5], [2.1, 0, 0.25]], atol=1e-12)

    plate = np.random.default_rng(0).uniform([-1, 0, 2], [1, 0.5, 2.2], (5000, 3))
    box = transform.box(fit_box(plate))
    inside = (transform.points(plate) - box.center) @ box.rotation
    assert (np.abs(inside) <= box.size / 2 + 1e-9).all()  # it encloses what it enclosed


def test_a_boxs_edges_are_twelve_lines_of_its_size_in_its_masks_colour():
    box = fit_box(np.random.default_rng(0).uniform([0, 0, 1], [3, 2, 2], (5000, 3)))
    lines = box.edges().reshape(12, 2, 3)
    lengths = np.linalg.norm(lines[:, 1] - lines[:, 0], axis=1)
    np.testing.assert_allclose(np.sort(lengths), np.repeat(np.sort(box.size), 4))
    assert len(np.unique(box.edges().round(6), axis=0)) == 8
    frame = SimpleNamespace(masks=[SimpleNamespace(id=1), SimpleNamespace(id=2)])
    (marker,) = box_markers(frame, [None, box], HEADER, MarkerOptions()).markers
    assert (marker.type, marker.action) == (Marker.LINE_LIST, Marker.ADD)
    assert len(marker.points) == len(marker.colors) == 24
    (gone,) = box_markers(frame, [None, None], HEADER, MarkerOptions()).markers
    assert gone.action == Marker.DELETE


def test_a_target_frame_needs_a_tf2_that_can_be_imported(monkeypatch, tmp_path):
    values = {name: TABLE[name].default for name in TABLE} | {"target_frame": BASE}
    (tmp_path / "tf2_ros.py").write_text("raise ImportError('of another Python')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tf2_ros", raising=False)
    with pytest.raises(OptionError, match="target_frame needs tf2_ros, which is not installed"):
        configuration_of(values)
    monkeypatch.setitem(sys.modules, "tf2_ros", SimpleNamespace())
    assert configuration_of(values).target_frame == BASE
    assert set(OPTIONS) <= set(values)


@pytest.fixture
def tf2(monkeypatch):
    """A stand-in, as no wheel has tf2_ros: a listener, what it asked for, and the seconds known."""
    parts = SimpleNamespace(asked=[], known=(0, 30))

    class Buffer:
        def can_transform(self, target, source, time):
            first, last = parts.known
            return target == BASE and 1e9 * first <= time.nanoseconds <= 1e9 * last

        def get_latest_common_time(self, target, source):
            if target != BASE:
                raise stand_in.TransformException("no such frame")
            return Time(seconds=parts.known[1])

        def clear(self):
            parts.asked.append("clear")

        def lookup_transform(self, target, source, time):
            parts.asked.append((target, source, time.nanoseconds))
            if not self.can_transform(target, source, time):
                raise stand_in.TransformException("not then")
            return AHEAD

    stand_in = SimpleNamespace(
        Buffer=Buffer,
        TransformListener=lambda buffer, node: SimpleNamespace(
            unregister=lambda: parts.asked.append("unregister")
        ),
        TransformException=type("TransformException", (Exception,), {}),
    )
    monkeypatch.setitem(sys.modules, "tf2_ros", stand_in)
    parts.buffer, parts.listener = Buffer, TransformListener(None)
    return parts


def test_the_transform_is_asked_for_at_the_images_stamp(tf2):
    found = tf2.listener.look_up(BASE, HEADER, 0.5)
    np.testing.assert_array_equal(found.translation, [0.1, 0, 0.5])
    assert tf2.asked == [(BASE, CAMERA, 7_000_000_000)]


def test_a_transform_that_comes_late_is_waited_for(tf2):
    tf2.known = (0, 6.9)
    threading.Timer(0.1, lambda: setattr(tf2, "known", (0, 7.1))).start()
    assert tf2.listener.look_up(BASE, HEADER, 60.0).header.frame_id == BASE
    tf2.known = (0, 6.9)
    with pytest.raises(InputError, match=f"'{CAMERA}' to '{BASE}' at the image's stamp: not then"):
        tf2.listener.look_up(BASE, HEADER, 0.1)


def test_tf_that_always_comes_too_late_is_waited_for_again_only_once_it_is_near(tf2, monkeypatch):
    def waited_s(patience_s, *newest):
        times = itertools.chain(newest, itertools.repeat(newest[-1]))
        monkeypatch.setattr(
            tf2.buffer, "get_latest_common_time", lambda *_: Time(seconds=next(times))
        )
        tf2.known, begin = (0, 5), time.monotonic()
        with pytest.raises(InputError, match="not then"):
            tf2.listener.look_up(BASE, HEADER, patience_s)
        return time.monotonic() - begin

    for newest in [(5,)] * MAX_LATE + [(5, 6)] * MAX_LATE:  # it stands, then it goes on
        assert waited_s(0.1, *newest) >= 0.1
    assert waited_s(6.5, 0, 0.1) < 5  # seven seconds behind
    monkeypatch.setattr(tf2.buffer, "get_latest_common_time", lambda *_: Time(seconds=6.95))
    threading.Timer(0.1, lambda: setattr(tf2, "known", (0, 7.1))).start()
    assert tf2.listener.look_up(BASE, HEADER, 60.0).header.frame_id == BASE
    assert waited_s(0.1, 5, 6) >= 0.1


@pytest.mark.parametrize(("target", "reason"), [("moon", "no such frame"), (BASE, "not then")])
def test_what_cannot_come_is_not_waited_for_and_the_reason_is_given(tf2, target, reason):
    tf2.known = (8, 30)  # it began after the image
    begin = time.monotonic()
    with pytest.raises(InputError, match=f"to '{target}' at the image's stamp: {reason}"):
        tf2.listener.look_up(target, HEADER, 60.0)
    assert time.monotonic() - begin < 30


def test_a_tf_that_stands_still_is_waited_for_once_until_it_goes_on(tf2, monkeypatch):
    """Each image would wait in vain, and the next one's masks for it."""
    monkeypatch.setattr(transforms, "TF_ALIVE_S", 0.1)
    tf2.known = (0, 6.8)
    begin = time.monotonic()
    for _ in range(20):
        with pytest.raises(InputError, match="not then"):
            tf2.listener.look_up(BASE, HEADER, 1.0)
    assert time.monotonic() - begin < 10
    tf2.known = (0, 6.9)
    threading.Timer(0.05, lambda: setattr(tf2, "known", (0, 7.1))).start()
    assert tf2.listener.look_up(BASE, HEADER, 60.0).header.frame_id == BASE


def test_tf_that_is_slower_than_once_a_second_is_waited_for_as_long_as_asked(tf2, monkeypatch):
    monkeypatch.setattr(transforms, "TF_ALIVE_S", 0.1)
    for seconds in (6, 7):
        tf2.known = (0, seconds - 0.1)
        threading.Timer(0.4, setattr, (tf2, "known", (0, seconds + 0.1))).start()
        assert tf2.listener.look_up(BASE, header(1000 * seconds), 60.0).header.frame_id == BASE


def test_a_transform_that_is_not_finite_is_none(tf2, monkeypatch):
    monkeypatch.setattr(AHEAD.transform, "translation", Vector3(x=math.inf))
    with pytest.raises(InputError, match=f"to '{BASE}' at the image's stamp: it is not finite"):
        tf2.listener.look_up(BASE, HEADER, 0.0)


def test_where_a_recording_begins_anew_the_transforms_before_are_forgotten(tf2):
    for milliseconds in (20_000, 19_900, 20_000, 1000):
        tf2.listener.look_up(BASE, header(milliseconds), 0.0)
    assert [asked == "clear" for asked in tf2.asked] == [False, False, False, True, False]


def test_a_node_that_stops_waits_for_no_transform(tf2, context):
    publishers = Publishers(LifecycleNode("aopsam", context=context, enable_rosout=False))
    publishers.stop_waiting()  # for none
    publishers.listen_to_transforms(True)
    publishers.subscribed = lambda *topics: True
    tf2.known = (0, 6)
    image, pairing = Image(header=HEADER), replace(CONFIGURATION.pairing, timeout_ms=60_000)
    configuration = replace(CONFIGURATION, target_frame=BASE, pairing=pairing)
    begin = time.monotonic()
    threading.Timer(0.1, publishers.stop_waiting).start()
    with pytest.raises(InputError, match="not then"):
        publishers.transform_of(Frame(image, begin, configuration))
    assert time.monotonic() - begin < 30


def test_tf_is_listened_to_only_while_a_target_frame_is_set(tf2, context):
    publishers = Publishers(LifecycleNode("aopsam", context=context, enable_rosout=False))
    for wanted, ended in ((False, 0), (True, 0), (True, 0), (False, 1), (False, 1), (True, 1)):
        publishers.listen_to_transforms(wanted)
        assert tf2.asked == ["unregister"] * ended
    publishers.clear()
    assert tf2.asked == ["unregister"] * 2


@pytest.mark.needs("tf2_ros")
def test_a_live_node_answers_in_the_robots_frame(active):
    from tf2_msgs.msg import TFMessage

    depth = active.node.create_publisher(Image, "/depth", 10)
    kinds = {"detections_3d": Detection3DArray, "points": PointCloud2, "boxes_3d": MarkerArray}
    subscriptions = [active.listen(topic, kind) for topic, kind in kinds.items()]
    drive = active.node.create_publisher(TFMessage, "/tf", 10)
    assert active.set(target_frame=BASE, pairing__tolerance_ms=0.0) == []

    def send():
        active.infos.publish(calibration_of(128, 128))
        message = raw_image(np.full((128, 128), 2.0, np.float32))
        message.header.stamp = active.send(image_of(boxes_scene()))
        depth.publish(message)
        active.spin(0.1)

    def refused():
        send()
        level, text, _ = active.health()
        return level == DiagnosticStatus.WARN and "no transform from 'camera_optical_frame'" in text

    active.wait(refused, "the missing transform was not noticed")
    assert active.received["masks"] and not active.received["detections_3d"]
    keeps = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    mount = active.node.create_publisher(TFMessage, "/tf_static", keeps)
    mount.publish(TFMessage(transforms=[AHEAD]))

    def located():
        send()
        return all(active.received[topic] for topic in kinds)

    active.wait(located, "nothing in the robot's frame")
    newest = active.received["detections_3d"][-1]
    assert newest.header.frame_id == BASE
    assert {round(d.bbox.center.position.x, 2) for d in newest.detections} == {2.1}
    same = active.with_stamp("masks", stamp_of(newest))
    assert same.header.frame_id == CAMERA and len(same.masks) == len(newest.detections)
    assert active.received["points"][-1].header.frame_id == BASE
    markers = active.received["boxes_3d"][-1].markers
    assert markers[-1].header.frame_id == BASE and len(markers[-1].points) == 48
    spheres = active.answer(image_of(boxes_scene()), "prompt_markers").markers
    assert {m.header.frame_id for m in spheres if m.action == Marker.ADD} == {BASE}
    # A robot that drives, 2 m a second: where it was at the images' stamp, half-way, counts.
    motion = [TransformStamped(child_frame_id=BASE) for _ in range(2)]
    for seconds, moved in enumerate(motion):
        moved.header = Header(frame_id="odom")
        moved.header.stamp.sec = newest.header.stamp.sec - 1 + 2 * seconds
        moved.transform.translation.x = 4.0 * seconds
    drive.publish(TFMessage(transforms=motion))
    assert active.set(target_frame="odom") == []

    def located_on_its_way():
        send()
        newest = active.received["detections_3d"][-1]
        return newest.header.frame_id == "odom" and newest

    newest = active.wait(located_on_its_way, "nothing in the frame in which the robot moves")
    assert {round(d.bbox.center.position.x, 2) for d in newest.detections} == {4.1}
    assert not active.logged("Traceback"), active.log.read_text()
    assert active.set(target_frame="") == []
    active.answer(image_of(boxes_scene()))
    active.wait(lambda: not active.node.count_subscribers("/tf"), "it still listens to TF")
    for entity in subscriptions:
        active.node.destroy_subscription(entity)
    for entity in (depth, drive, mount):
        active.node.destroy_publisher(entity)
