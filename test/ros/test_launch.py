"""The launch files, where `launch` is installed: it comes with a ROS of its own, not as a wheel."""

import importlib.util
import re
from pathlib import Path

import pytest
from sensor_msgs.msg import Image

from aopsam_ros.msg import MaskArray
from aopsam_ros.ros.resources import large_message_environment
from support.live import TIMEOUT_S
from support.messages import image_of
from support.scenes import boxes_scene

launch = pytest.importorskip("launch")
OpaqueFunction = pytest.importorskip("launch.actions").OpaqueFunction
pytest.importorskip("launch_ros")
launching = pytest.importorskip("aopsam_ros.ros.launching")

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "launch"
OVERRIDES = ("engine", "model", "precision", "prompt_source", "image_transport", "executor")
OVERRIDES += ("tracking.enabled", "asf.time_budget_ms")
TOPICS = ("image", "camera_info", "depth", "boxes")
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
    own = {"cameras", "shared_model", "rviz", *OVERRIDES} | {f"{topic}_topic" for topic in TOPICS}
    assert NAV2 | own == set(arguments)
    assert all(argument.description for argument in arguments.values())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"model": "mine", "engine": "auto"}, {"model": "mine", "engine": "auto"}),
        ({"tracking.enabled": "true"}, {"tracking.enabled": True}),
        ({"asf.time_budget_ms": "80"}, {"asf.time_budget_ms": 80}),
        ({"model": "7"}, {"model": "7"}),
    ],
)
def test_only_what_the_user_gives_goes_before_the_parameter_file(given, expected):
    context = launch.LaunchContext()
    context.launch_configurations.update({**dict.fromkeys(OVERRIDES, ""), **given})
    assert launching.overrides(context) == expected


@pytest.mark.parametrize("value", ["perhaps", "["])
def test_a_value_of_another_type_is_refused(value):
    context = launch.LaunchContext()
    chosen = {**dict.fromkeys(OVERRIDES, ""), "tracking.enabled": value}
    context.launch_configurations.update(chosen)
    with pytest.raises(RuntimeError, match=r"tracking\.enabled is of type bool"):
        launching.overrides(context)


@pytest.mark.parametrize(
    ("words", "unknown"),
    [
        (["aopsam_ros", "cpu.launch.py", "model:=nano", "params_file:=x"], []),
        (["aopsam_ros", "cpu.launch.py", "model:=nano", "traking:=true"], ["traking"]),
        ([str(FOLDER / "cpu.launch.py"), "map:=house"], ["map"]),
        # Another's launch file that includes this one has arguments of its own.
        (["my_robot", "robot.launch.py", "map:=house"], []),
        (["my_robot", "cpu.launch.py", "map:=house"], []),
    ],
)
def test_unknown_arguments_are_found_where_the_file_itself_is_started(words, unknown):
    assert (
        launching.unknown_arguments(["ros2", "launch", *words], FOLDER / "cpu.launch.py") == unknown
    )


def test_every_argument_that_the_documents_name_is_one():
    named = set()
    for file in (ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("config/*.yaml")):
        words = re.findall(r"(?<!-p )(?<!-r )(?<![\w/.])([a-z][\w.]*):=", file.read_text())
        named |= set(words)
    assert {"rviz", "tracking.enabled"} <= named
    assert named <= set(arguments_of(description_of("cpu")))


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("tracking:=true", "there is no launch argument tracking, did you mean tracking.enabled?"),
        ("params_file:=nowhere.yaml", "params_file: there is no file nowhere.yaml"),
        ("image_topic:=2x", "image_topic:=2x: Invalid topic name: "),
    ],
)
def test_what_would_be_ignored_ends_with_the_reason(robot, argument, reason):
    robot.launch(FOLDER / "cpu.launch.py", argument)
    assert robot.process.wait(TIMEOUT_S) == 1
    assert robot.logged(reason), robot.log.read_text()


@pytest.mark.parametrize(
    ("namespace", "cameras", "expected"),
    [
        ("", "", [""]),
        ("robot", "", ["robot"]),
        ("", "front", ["front"]),
        ("/", "front", ["/front"]),
        ("robot", "front, rear", ["robot/front", "robot/rear"]),
        ("/robot/", "front,rear", ["/robot/front", "/robot/rear"]),
    ],
)
def test_each_camera_has_a_namespace(namespace, cameras, expected):
    assert launching.namespaces(namespace, cameras, TOPICS) == expected


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
    with pytest.raises(RuntimeError, match=reason):
        launching.namespaces("", cameras, topics)


@pytest.fixture
def nodes(monkeypatch):
    """Make the nodes of cpu.launch.py in a group of the namespace `robot1`; RViz is there."""
    monkeypatch.setattr(launching, "get_package_prefix", str)

    def make(**chosen):
        context, description = launch.LaunchContext(), description_of("cpu")
        for name, argument in arguments_of(description).items():
            value = "".join(each.perform(context) for each in argument.default_value or [])
            context.launch_configurations[name] = chosen.get(name, value)
        context.launch_configurations["ros_namespace"] = "/robot1"
        (function,) = (e for e in description.entities if isinstance(e, OpaqueFunction))
        made = function.execute(context)
        for node in made:
            node._perform_substitutions(context)
        return made

    return make


@pytest.mark.parametrize(
    ("cameras", "above"),
    [("", ["/robot1"]), ("front,rear", ["/robot1/front", "/robot1/rear"])],
)
def test_cameras_are_in_the_namespace_of_the_group_that_includes_the_file(nodes, cameras, above):
    made = nodes(cameras=cameras, rviz="on")
    assert [node.expanded_node_namespace for node in made] == 2 * above
    shown = [dict(node.expanded_remapping_rules) for node in made[len(above) :]]
    assert [each["/aopsam/overlay"] for each in shown] == [f"{n}/aopsam/overlay" for n in above]
    assert [each["/image"] for each in shown] == [f"{n}/image" for n in above]
    (shared,) = nodes(cameras=cameras, shared_model="yes")
    words = ["".join(part.text for part in word if hasattr(part, "text")) for word in shared.cmd]
    assert ",".join(above) in words


def test_rviz_that_is_not_installed_is_said_before_a_node_is_made(nodes, monkeypatch):
    def missing(name):
        raise launching.PackageNotFoundError(name)

    monkeypatch.setattr(launching, "get_package_prefix", missing)
    with pytest.raises(RuntimeError, match="rviz2, which is not installed"):
        nodes(rviz="true")


@pytest.mark.parametrize("value", ["perhaps", "["])
@pytest.mark.parametrize("name", ["shared_model", "rviz", "use_respawn", "use_sim_time"])
def test_a_switch_that_is_neither_on_nor_off_is_refused(nodes, name, value):
    with pytest.raises(RuntimeError, match=re.escape(f"{name}:={value}: give true or false")):
        nodes(**{name: value})


@pytest.mark.parametrize(("shared", "processes"), [("false", 2), ("true", 1)])
def test_two_cameras_are_two_nodes_with_topics_of_their_own(robot, tiny_folder, shared, processes):
    arguments = ["cameras:=front,rear", "image_topic:=image_raw", f"model:={tiny_folder}"]
    arguments.append(f"shared_model:={shared}")
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
    assert len(nodes) == processes
    for name, value in large_message_environment().items():  # for those that they send
        for node in nodes:
            environment = Path(f"/proc/{node}/environ").read_bytes().split(b"\0")
            assert f"{name}={value}".encode() in environment
    robot.stop_node()
