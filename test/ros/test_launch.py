"""The launch files, where `launch` is installed: it comes with a ROS of its own, not as a wheel."""

import importlib.util
from pathlib import Path

import pytest
from sensor_msgs.msg import Image

from aopsam_ros.msg import MaskArray
from aopsam_ros.ros.resources import large_message_environment
from support.live import TIMEOUT_S
from support.messages import image_of
from support.scenes import boxes_scene

launch = pytest.importorskip("launch")
pytest.importorskip("launch_ros")

FOLDER = Path(__file__).parents[2] / "launch"
NAV2 = {"use_respawn", "namespace", "use_sim_time", "params_file", "autostart", "log_level"}


def description_of(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def arguments_of(description):
    return {argument.name: argument for argument in description.get_launch_arguments()}


@pytest.mark.parametrize("name", ["cpu", "jetson"])
def test_arguments_are_as_nav2s_and_described(name):
    arguments = arguments_of(description_of(name))
    own = {"cameras", "engine", "model", "prompt_source"} | {f"{topic}_topic" for topic in TOPICS}
    assert NAV2 | own == set(arguments)
    assert all(argument.description for argument in arguments.values())


@pytest.mark.parametrize(
    ("engine", "model", "expected"),
    [("", "", {}), ("", "mine", {"model": "mine"}), ("a", "b", {"engine": "a", "model": "b"})],
)
def test_only_what_the_user_gives_goes_before_the_parameter_file(engine, model, expected):
    from aopsam_ros.ros.launching import overrides

    context = launch.LaunchContext()
    context.launch_configurations.update(engine=engine, model=model, prompt_source="")
    assert overrides(context) == expected


TOPICS = ("image", "camera_info", "depth", "boxes")


@pytest.mark.parametrize(
    ("namespace", "cameras", "expected"),
    [
        ("", "", [""]),
        ("robot", "", ["robot"]),
        ("", "front", ["/front"]),
        ("robot", "front, rear", ["robot/front", "robot/rear"]),
        ("/robot/", "front,rear", ["/robot/front", "/robot/rear"]),
    ],
)
def test_each_camera_has_a_namespace(namespace, cameras, expected):
    from aopsam_ros.ros.launching import namespaces

    assert namespaces(namespace, cameras, TOPICS) == expected


@pytest.mark.parametrize(
    ("cameras", "topics", "reason"),
    [
        ("front,,rear", TOPICS, "'' is no ROS name"),
        ("2nd", TOPICS, "'2nd' is no ROS name"),
        ("front,front", TOPICS, "comes twice"),
        ("front,rear", ("/camera/image", "camera_info"), "cannot share /camera/image"),
    ],
)
def test_cameras_that_cannot_be_are_refused_with_a_reason(cameras, topics, reason):
    from aopsam_ros.ros.launching import namespaces

    with pytest.raises(RuntimeError, match=reason):
        namespaces("", cameras, topics)


def test_two_cameras_are_two_nodes_with_topics_of_their_own(robot, tiny_folder):
    arguments = ["cameras:=front,rear", "image_topic:=image_raw", f"model:={tiny_folder}"]
    received = {camera: [] for camera in ("front", "rear", "")}
    senders = {}
    for camera, messages in received.items():
        robot.node.create_subscription(MaskArray, f"{camera}/aopsam/masks", messages.append, 5)
        senders[camera] = robot.node.create_publisher(Image, f"{camera}/image_raw", 5)
    robot.launch(FOLDER / "cpu.launch.py", *arguments)

    def sent_and_answered():
        for camera, sender in senders.items():
            sender.publish(image_of(boxes_scene(), frame_id=camera))
        robot.spin(0.2)
        return received["front"] and received["rear"]

    robot.wait(sent_and_answered, "no masks", 4 * TIMEOUT_S)  # two starts at once
    assert not received[""]
    for camera in ("front", "rear"):
        assert {message.header.frame_id for message in received[camera]} == {camera}
    nodes = robot.children()
    assert len(nodes) == 2
    for name, value in large_message_environment().items():  # for those that they send
        for node in nodes:
            environment = Path(f"/proc/{node}/environ").read_bytes().split(b"\0")
            assert f"{name}={value}".encode() in environment
    robot.stop_node()
