"""The examples for nav2 and MoveIt, against messages recorded from the live node over DDS.

nav2 and MoveIt are not at hand: the test is in their place, and receives what they would.
"""

import collections
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from sensor_msgs.msg import Image, PointCloud2
from vision_msgs.msg import Detection3DArray

from aopsam_ros.demo.bag import recording_into
from support.live import TIMEOUT_S, Robot, free_domain
from support.messages import calibration_of, image_of, raw_image
from support.planning_interfaces import build
from support.scenes import boxes_scene

pytest.importorskip("rosbags")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
# What nav2's ObstacleLayer declares of a source, and what MoveIt's PointCloudOctomapUpdater refuses
# to do without.
SOURCE = {"topic", "sensor_frame", "data_type", "observation_persistence", "expected_update_rate"}
SOURCE |= {f"{most}_obstacle_height" for most in ("min", "max")} | {"marking", "clearing"}
SOURCE |= {f"{what}_{most}_range" for what in ("obstacle", "raytrace") for most in ("min", "max")}
SENSOR = {"sensor_plugin", "point_cloud_topic", "max_range", "point_subsample", "padding_offset"}
SENSOR |= {"padding_scale", "max_update_rate", "filtered_cloud_topic"}
SIZE, HEIGHT_M = 128, 0.5  # of the image, pixels; of the camera above the floor
# A camera that looks ahead: base_link's x is its z, y its -x, z its -y.
TF2_ROS = """
from geometry_msgs.msg import Quaternion, TransformStamped, Vector3
class TransformException(Exception): pass
class TransformListener:
    def __init__(self, buffer, node): pass
    def unregister(self): pass
class Buffer:
    def can_transform(self, *frames_and_time):
        return True

    def lookup_transform(self, target, source, time, timeout=None):
        found = TransformStamped(child_frame_id=source)
        found.header.frame_id = target
        found.transform.rotation = Quaternion(x=-0.5, y=0.5, z=-0.5, w=0.5)
        found.transform.translation = Vector3(x=0.1, y=0.0, z=0.5)
        return found
"""
# Rectangles x, y, width, height, and their depth in metres; None: the floor's.
NEAR, FAR, FLOOR = ((20, 30, 40, 20), 1.0), ((80, 50, 30, 30), 2.0), ((10, 100, 100, 24), None)
SEEN = 3 * [(NEAR, FAR, FLOOR)] + 12 * [(NEAR, FLOOR)]  # frame by frame, a tenth second apart
# Plays a recording and writes down what the examples publish; in a process of its own, which finds
# the messages of nav2 and MoveIt.
PLAY = """
import json, sys, time
from pathlib import Path
import rclpy
from moveit_msgs.msg import CollisionObject
from nav_msgs.msg import OccupancyGrid
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import PointCloud2
from vision_msgs.msg import Detection3DArray

rclpy.init()
node = rclpy.create_node("player")
refused = []
for name, value in (("obstacle_grid/resolution", 0.0), ("obstacle_grid/reach", "far"),
                    ("obstacle_grid/min_points", float("nan")), ("collision_objects/padding", "")):
    example, name = name.split("/")
    client = AsyncParameterClient(node, example)
    assert client.wait_for_services(120), f"{example} does not answer"
    answer = client.set_parameters([Parameter(name, value=value)])
    rclpy.spin_until_future_complete(node, answer, timeout_sec=60)
    refused.append(answer.result().results[0].reason)
grids, objects = [], []
latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
node.create_subscription(OccupancyGrid, "/obstacles", grids.append, latched)
node.create_subscription(CollisionObject, "/collision_object", objects.append, 100)
kinds = {"/aopsam/points": PointCloud2, "/aopsam/detections_3d": Detection3DArray}
publishers = {topic: node.create_publisher(kind, topic, 10) for topic, kind in kinds.items()}
until = time.monotonic() + 120
def ready():
    results = map(node.count_publishers, ("/obstacles", "/collision_object"))
    return all(results) and all(p.get_subscription_count() for p in publishers.values())
while not ready() and time.monotonic() < until:
    rclpy.spin_once(node, timeout_sec=0.1)
heard = {"/aopsam/points": grids, "/aopsam/detections_3d": objects}
with AnyReader([Path(sys.argv[1])]) as reader:
    for connection, _, raw in reader.messages():
        topic = connection.topic
        message = deserialize_message(bytes(raw), kinds[topic])
        sent, until = -9.0, time.monotonic() + 60
        # Each is answered before the next is sent: no example falls behind on a busy machine.
        while not any(own.header.stamp == message.header.stamp for own in heard[topic]):
            assert time.monotonic() < until, f"{topic} is not answered"
            if time.monotonic() - sent > 5:  # one end may not know of the other yet
                publishers[topic].publish(message)
                sent = time.monotonic()
            rclpy.spin_once(node, timeout_sec=0.05)
end = time.monotonic() + 2
while time.monotonic() < end:
    rclpy.spin_once(node, timeout_sec=0.1)
grid = grids[-1]
print(json.dumps({
    "refused": refused,
    "grids": len(grids), "frame": grid.header.frame_id, "resolution": grid.info.resolution,
    "shape": [grid.info.height, grid.info.width], "cells": grid.data.tolist(),
    "origin": [grid.info.origin.position.x, grid.info.origin.position.y],
    "objects": [{
        "id": o.id, "is_added": o.operation == CollisionObject.ADD, "frame": o.header.frame_id,
        "is_removed": o.operation == CollisionObject.REMOVE,
        "sides": [list(p.dimensions) for p in o.primitives], "poses": len(o.primitive_poses),
        "at": [o.pose.position.x, o.pose.position.y, o.pose.position.z],
    } for o in objects],
}))
"""


def depth_of(objects):
    """Depth in metres of a scene."""
    depth = np.full((SIZE, SIZE), 5.0, np.float32)
    floor = HEIGHT_M * 100 / np.maximum(np.arange(SIZE) - 63.5, 10.0)
    for (x, y, width, height), metres in objects:
        own = floor[y : y + height, None] if metres is None else metres
        depth[y : y + height, x : x + width] = own
    return depth


@pytest.fixture(scope="module")
def recording(tmp_path_factory, tiny_folder):
    """Points and boxes of the live node in the robot's frame, frame by frame."""
    folder = tmp_path_factory.mktemp("recorded")
    (folder / "tf2_ros.py").write_text(TF2_ROS)  # no wheel has it
    with Robot(folder) as robot:
        robot.environment["PYTHONPATH"] = os.pathsep.join([str(folder), *sys.path])
        robot.start_node(model=tiny_folder, target_frame="base_link", tracking__enabled=True)
        robot.activate()
        topics = {"points": PointCloud2, "detections_3d": Detection3DArray}
        depths = robot.node.create_publisher(Image, "/depth", 10)
        with recording_into(folder / "drive.mcap") as bag:
            bag.record(robot.node, {f"/aopsam/{name}": kind for name, kind in topics.items()})
            for name, kind in topics.items():
                robot.listen(name, kind)
            robot.wait(lambda: robot.node.count_subscribers("/depth"), "depth is not taken")
            for number, objects in enumerate(SEEN):

                def recorded(number=number, objects=objects):
                    stamp = send(robot, depths, number, objects)
                    newest = [message for name in topics for message in robot.received[name][-1:]]
                    return [message.header.stamp for message in newest] == [stamp] * len(topics)

                robot.wait(recorded, f"frame {number} has no boxes in space")
            counts = {f"/aopsam/{name}": len(robot.received[name]) for name in topics}
            robot.wait(lambda: bag.counts >= collections.Counter(counts), "not all is recorded")
        assert not robot.logged("Traceback"), robot.log.read_text()
    return folder / "drive.mcap"


def send(robot, depths, number, objects):
    image = image_of(boxes_scene([box for box, _ in objects]))
    depth, calibration = raw_image(depth_of(objects)), calibration_of(SIZE, SIZE)
    for message in (depth, calibration, image):
        message.header.frame_id = "camera_optical_frame"
        message.header.stamp.sec = 1_700_000_000 + number // 10
        message.header.stamp.nanosec = 100_000_000 * (number % 10)
    robot.infos.publish(calibration)
    depths.publish(depth)
    robot.images.publish(image)
    robot.spin(0.2)
    return image.header.stamp


@pytest.fixture(scope="module")
def planned(recording, tmp_path_factory):
    """What the examples make of the recording."""
    folder = tmp_path_factory.mktemp("planning")
    domain, claim = free_domain()
    environment = {**os.environ, **build(folder / "messages"), "ROS_DOMAIN_ID": str(domain)}
    started = []
    # Whole numbers, as a user may write them; the examples' own values otherwise.
    for name, given in (("obstacle_grid", "reach:=4"), ("collision_objects", "max_size:=1")):
        with (folder / f"{name}.log").open("w") as log:
            command = [sys.executable, "-u", EXAMPLES / f"{name}.py", "--ros-args", "-p", given]
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    try:
        done = subprocess.run(
            [sys.executable, "-c", PLAY, recording],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    finally:
        for process in started:
            end(process)
        claim.close()
    logs = "".join(file.read_text() for file in folder.glob("*.log"))
    assert done.returncode == 0 and "Traceback" not in logs, done.stderr + logs
    return json.loads(done.stdout)


def end(process):
    process.terminate()
    try:
        assert process.wait(TIMEOUT_S) == 0
    finally:
        process.kill()


def test_the_parameters_of_the_page_are_what_nav2_and_moveit_read():
    page = (ROOT / "docs" / "planning.md").read_text()
    nav2, moveit = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    layer = nav2["local_costmap"]["local_costmap"]["ros__parameters"]["aopsam_layer"]
    sources = layer["observation_sources"].split()
    assert set(layer) == {"plugin", "observation_sources", *sources}
    assert all(set(layer[source]) <= SOURCE for source in sources)
    # nav2 drops what is out of a source's heights before it traces rays.
    points, seen = (layer[source] for source in sources)
    assert points["marking"] and points["min_obstacle_height"] > 0
    assert seen["clearing"] and not seen["marking"] and seen["min_obstacle_height"] < 0
    (sensor,) = moveit["sensors"]
    assert set(moveit) == {"octomap_frame", "octomap_resolution", "sensors", sensor}
    assert set(moveit[sensor]) == SENSOR


def test_the_grid_has_obstacles_where_they_stand_and_free_floor_where_it_is_seen(planned):
    assert (planned["frame"], planned["origin"], planned["shape"]) == (
        "base_link",
        [-4.0, -4.0],
        [160, 160],
    )
    cells = np.array(planned["cells"]).reshape(planned["shape"])

    def middles(value):
        y, x = np.nonzero(cells == value)
        return (np.stack([x, y], 1) + 0.5) * 0.05 - 4.0

    occupied = middles(100)  # of the last frame: the far box is gone
    assert np.abs(occupied[:, 0] - 1.1).max() < 0.06
    wanted = np.arange(0.075, 0.44, 0.05)
    assert all(np.abs(occupied[:, 1] - y).min() < 0.03 for y in wanted)
    assert occupied[:, 1].min() > 0.0 and occupied[:, 1].max() < 0.5
    free = middles(0)
    assert len(free) > 50 and (np.abs(free[:, 0] - 1.2) < 0.4).all()
    assert (cells == -1).mean() > 0.9


def test_a_parameter_that_is_no_number_or_makes_no_grid_is_refused(planned):
    assert planned["refused"] == [
        "resolution is a number from 0.01 to 10",
        "reach is a number from 0.1 to 20",
        "min_points is a number from -1000 to 1000",
        "padding is a number",
    ]


def test_boxes_of_the_planning_scene_stand_where_the_objects_do_and_leave_with_them(planned):
    objects = planned["objects"]
    added = [found for found in objects if found["is_added"]]
    by_place = {}
    for found in added:
        by_place.setdefault(round(found["at"][0], 1), []).append(found)
    assert set(by_place) == {1.1, 2.1}  # the floor is too large
    for (box, metres), place in ((NEAR, 1.1), (FAR, 2.1)):
        x, y, width, height = box
        (name,) = {found["id"] for found in by_place[place]}  # it keeps its name
        newest = by_place[place][-1]
        middle = [0.1 + metres]
        middle += [-metres * (x + (width - 1) / 2 - 64) / 100]
        middle += [HEIGHT_M - metres * (y + (height - 1) / 2 - 64) / 100]
        np.testing.assert_allclose(newest["at"], middle, atol=0.05)
        sides = sorted(newest["sides"][0])
        plate = sorted([0.0, metres * width / 100, metres * height / 100])
        np.testing.assert_allclose(sides, np.array(plate) + 0.02, atol=0.06)
        assert newest["poses"] == 1 and newest["frame"] == "base_link"
        removed = [found["id"] for found in objects if found["is_removed"]]
        assert (name in removed) == (box == FAR[0])
