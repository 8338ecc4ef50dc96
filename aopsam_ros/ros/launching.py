"""What the launch files have in common: arguments as nav2's, and a node for each camera."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.substitutions import FindPackageShare
from launch_ros.utilities import make_namespace_absolute, prefix_namespace
from rclpy.exceptions import InvalidTopicNameException
from rclpy.validate_topic_name import validate_topic_name

from aopsam_ros.errors import first_line
from aopsam_ros.options import Value
from aopsam_ros.ros.parameter_table import TABLE
from aopsam_ros.ros.resources import large_message_environment, resource_folder

RESPAWN_DELAY_S = 2.0
_TOPICS = ("image", "camera_info", "depth", "boxes")  # each has its argument, as image_topic
# Of rviz/aopsam.rviz.
_RVIZ_TOPICS = ("overlay", "confidence_map", "prompt_markers", "boxes_3d", "points")
# Parameters that go before the parameter file.
_OVERRIDES = (
    "engine",
    "model",
    "precision",
    "prompt_source",
    "image_transport",
    "executor",
    "tracking.enabled",
    "asf.time_budget_ms",
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_ARGUMENTS = {
    "namespace": ("", "namespace of the nodes and their topics"),
    "cameras": ("", "a node for each of these, in a namespace of its name: front,rear"),
    "shared_model": ("false", "all cameras in one process: the model is loaded once, used in turn"),
    "use_sim_time": ("false", "take the time from /clock"),
    "autostart": ("true", "configure and activate the node; otherwise a lifecycle manager does"),
    "use_respawn": ("false", "start the node again when it ends, whatever the reason"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "image_topic": ("image", "topic of the camera's images, in the node's namespace or absolute"),
    "camera_info_topic": ("camera_info", "topic of the camera's calibration"),
    "depth_topic": ("depth", "topic of depth images registered to the camera's"),
    "boxes_topic": ("boxes", "topic of a detector's boxes, where prompt_source is boxes"),
    "rviz": ("false", "start RViz, too"),
    **{
        name: ("", f"{TABLE[name].description}; empty = as the parameter file says")
        for name in _OVERRIDES
    },
}


def describe(config: str) -> LaunchDescription:
    """Return a launch file whose `params_file` is the package's `config` unless the user says."""
    default = PathJoinSubstitution([FindPackageShare("aopsam_ros"), "config", config])
    arguments = [
        DeclareLaunchArgument(name, default_value=value, description=description)
        for name, (value, description) in _ARGUMENTS.items()
    ]
    arguments.append(
        DeclareLaunchArgument(
            "params_file",
            default_value=default,
            description=f"parameter file; one of your own takes the place of config/{config}",
        )
    )
    return LaunchDescription([*arguments, OpaqueFunction(function=_nodes)])


def overrides(context: LaunchContext) -> dict[str, Value]:
    """Return what the user chose beside the parameter file; what was left empty stays with it.

    Raises:
        RuntimeError: if a value is of another type than its parameter.
    """
    chosen = {name: LaunchConfiguration(name).perform(context) for name in _OVERRIDES}
    return {name: _typed(name, text) for name, text in chosen.items() if text}


def _typed(name: str, text: str) -> Value:
    kind = TABLE[name].value_type
    value: Value = text if kind is str else _yaml(text)
    if type(value) is not kind:
        raise RuntimeError(f"{name}:={text}: {name} is of type {kind.__name__}")
    return value


def _yaml(text: str) -> Any:  # noqa: ANN401  (whatever the text says)
    """Return a value of YAML; None, which no argument takes, for what is none."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def unknown_arguments(words: Sequence[str], file: Path) -> list[str]:
    """Return the arguments of a command line that the launch file it starts does not have.

    None where it starts another launch file, which may include this one and has its own.
    """
    if not ({"aopsam_ros", file.name} <= set(words) or file in [Path(w).resolve() for w in words]):
        return []
    names = [word.partition(":=")[0] for word in words if ":=" in word]
    return [name for name in names if name not in {*_ARGUMENTS, "params_file"}]


def _check(context: LaunchContext) -> None:
    """Refuse what would be ignored silently."""
    file = context.get_locals_as_dict().get("current_launch_file_path", "")
    for name in unknown_arguments(sys.argv, Path(file).resolve()):
        near = difflib.get_close_matches(name, _ARGUMENTS, n=1)
        hint = f", did you mean {near[0]}?" if near else "."
        raise RuntimeError(
            f"there is no launch argument {name}{hint} Parameters go into a file: params_file:=FILE"
        )
    params_file = LaunchConfiguration("params_file").perform(context)
    if not Path(params_file).is_file():
        raise RuntimeError(f"params_file: there is no file {params_file}")


def namespaces(namespace: str, cameras: str, topics: Iterable[str]) -> list[str]:
    """Return the namespace of each node to start.

    Args:
        namespace: above all of them; may be empty.
        cameras: names with commas between them, or nothing: one node, without a name of its own.
        topics: of the camera, as the user named them.

    Raises:
        RuntimeError: if a name is none or comes twice, or a topic is absolute with several cameras.
    """
    if not cameras.strip():
        return [namespace]
    names = [name.strip() for name in cameras.split(",")]
    for name in names:
        if not _NAME.fullmatch(name):
            raise RuntimeError(f"cameras: '{name}' is no ROS name; give front,rear")
    if len(set(names)) < len(names):
        raise RuntimeError(f"cameras: a name comes twice in {cameras}")
    absolute = [topic for topic in topics if topic.startswith("/")]
    if absolute and len(names) > 1:
        raise RuntimeError(f"several cameras cannot share {absolute[0]}: leave its first / out")
    # Relative where `namespace` is: the group that includes the launch file may have one.
    return [f"{namespace.rstrip('/')}/{name}" if namespace else name for name in names]


def _nodes(context: LaunchContext) -> list[Node]:
    def chosen(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    _check(context)
    topics = {name: _topic(f"{name}_topic", chosen(f"{name}_topic")) for name in _TOPICS}
    spaces = namespaces(chosen("namespace"), chosen("cameras"), topics.values())
    settings = _settings(context, topics)
    nodes: list[Node]
    if _is_true(context, "shared_model"):
        cameras = ",".join(_full(context, namespace) for namespace in spaces)
        settings["arguments"] = ["--cameras", cameras, *settings["arguments"]]
        # Without name and namespace: they would be those of all nodes of the process.
        nodes = [Node(**settings)]
    else:
        nodes = [LifecycleNode(name="aopsam", namespace=space, **settings) for space in spaces]
    if _is_true(context, "rviz"):
        nodes += [_rviz(context, namespace, topics) for namespace in spaces]
    return nodes


def _topic(argument: str, name: str) -> str:
    """Return the topic's name, if it is one: rcl would end the node's process."""
    try:
        validate_topic_name(name)
    except InvalidTopicNameException as error:
        raise RuntimeError(f"{argument}:={name}: {first_line(error)}") from None
    return name


def _is_true(context: LaunchContext, name: str) -> bool:
    text = LaunchConfiguration(name).perform(context)
    value = _yaml(text.lower())
    if value not in (True, False):
        raise RuntimeError(f"{name}:={text}: give true or false")
    return bool(value)


def _full(context: LaunchContext, namespace: str) -> str:
    """Return the absolute name of a namespace, below that of the group of the launch file."""
    above = context.launch_configurations.get("ros_namespace")  # as launch_ros keeps it
    return str(make_namespace_absolute(prefix_namespace(above, namespace)) or "/")


def _rviz(context: LaunchContext, namespace: str, topics: Mapping[str, str]) -> Node:
    try:  # launch itself would find out with the other nodes started, and leave these behind
        get_package_prefix("rviz2")
    except PackageNotFoundError as error:
        raise RuntimeError("rviz:=true needs rviz2, which is not installed") from error
    above = _full(context, namespace).rstrip("/")
    shown = {f"/aopsam/{topic}": f"{above}/aopsam/{topic}" for topic in _RVIZ_TOPICS}
    for name in ("image", "camera_info"):
        topic = topics[name]
        shown[f"/{name}"] = topic if topic[0] == "/" else f"{above}/{topic}"
    return Node(
        package="rviz2",
        executable="rviz2",
        namespace=namespace,
        arguments=["-d", str(resource_folder("rviz") / "aopsam.rviz")],
        remappings=list(shown.items()),
        additional_env=large_message_environment(),
    )


def _settings(context: LaunchContext, topics: Mapping[str, str]) -> dict[str, Any]:
    # A node of this package starts itself: launch_ros learnt to do that only after Humble.
    switches = {name: _is_true(context, name) for name in ("use_sim_time", "autostart")}
    return {
        "package": "aopsam_ros",
        "executable": "aopsam_node",
        "parameters": [LaunchConfiguration("params_file"), {**switches, **overrides(context)}],
        "remappings": list(topics.items()),
        "arguments": ["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        "output": "screen",
        "additional_env": large_message_environment(),  # overlays and label maps are images, too
        "respawn": _is_true(context, "use_respawn"),
        "respawn_delay": RESPAWN_DELAY_S,
    }
