"""What the launch files have in common: arguments as nav2's, and a node for each camera."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from aopsam_ros.ros.resources import large_message_environment

RESPAWN_DELAY_S = 2.0
_TOPICS = ("image", "camera_info", "depth", "boxes")  # each has its argument, as image_topic
_OVERRIDES = ("engine", "model", "prompt_source")  # of the parameter file
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_ARGUMENTS = {
    "namespace": ("", "namespace of the nodes and their topics"),
    "cameras": ("", "a node for each of these, in a namespace of its name: front,rear"),
    "use_sim_time": ("false", "take the time from /clock"),
    "autostart": ("true", "configure and activate the node; otherwise a lifecycle manager does"),
    "use_respawn": ("false", "start the node again when it ends, whatever the reason"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "image_topic": ("image", "topic of the camera's images, in the node's namespace or absolute"),
    "camera_info_topic": ("camera_info", "topic of the camera's calibration"),
    "depth_topic": ("depth", "topic of depth images registered to the camera's"),
    "boxes_topic": ("boxes", "topic of a detector's boxes, where prompt_source is boxes"),
    "engine": ("", "what runs the model; empty = as the parameter file says"),
    "model": ("", "model bundle, name or folder; empty = as the parameter file says"),
    "prompt_source": ("", "auto, predictor, boxes, ...; empty = as the parameter file says"),
}


def describe(config: str) -> LaunchDescription:
    """Return a launch file whose `params_file` is the package's `config` unless the user says."""
    default = PathJoinSubstitution([FindPackageShare("aopsam_ros"), "config", config])
    arguments = [
        DeclareLaunchArgument(name, default_value=value, description=description)
        for name, (value, description) in _ARGUMENTS.items()
    ]
    arguments.append(
        DeclareLaunchArgument("params_file", default_value=default, description="parameter file")
    )
    return LaunchDescription([*arguments, OpaqueFunction(function=_nodes)])


def overrides(context: LaunchContext) -> dict[str, str]:
    """Return what the user chose beside the parameter file; what was left empty stays with it."""
    chosen = {name: LaunchConfiguration(name).perform(context) for name in _OVERRIDES}
    return {name: value for name, value in chosen.items() if value}


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
    return [f"{namespace.rstrip('/')}/{name}" for name in names]


def _nodes(context: LaunchContext) -> list[LifecycleNode]:
    def chosen(name: str) -> str:
        return str(LaunchConfiguration(name).perform(context))

    topics = {name: chosen(f"{name}_topic") for name in _TOPICS}
    spaces = namespaces(chosen("namespace"), chosen("cameras"), topics.values())
    return [_node(context, namespace, topics) for namespace in spaces]


def _node(context: LaunchContext, namespace: str, topics: Mapping[str, str]) -> LifecycleNode:
    # A node of this package starts itself: launch_ros learnt to do that only after Humble.
    switches = {
        name: ParameterValue(LaunchConfiguration(name), value_type=bool)
        for name in ("use_sim_time", "autostart")
    }
    return LifecycleNode(
        package="aopsam_ros",
        executable="aopsam_node",
        name="aopsam",
        namespace=namespace,
        parameters=[LaunchConfiguration("params_file"), {**switches, **overrides(context)}],
        remappings=list(topics.items()),
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
        additional_env=large_message_environment(),  # overlays and label maps are images, too
        respawn=LaunchConfiguration("use_respawn").perform(context).lower() in ("true", "1"),
        respawn_delay=RESPAWN_DELAY_S,
    )
