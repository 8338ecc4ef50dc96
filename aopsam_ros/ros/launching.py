"""What the launch files have in common: arguments as nav2's, and the node."""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

_ARGUMENTS = {
    "namespace": ("", "namespace of the node and its topics, for several cameras"),
    "use_sim_time": ("false", "take the time from /clock"),
    "autostart": ("true", "configure and activate the node; otherwise a lifecycle manager does"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "image_topic": ("image", "topic of the camera's images"),
    "camera_info_topic": ("camera_info", "topic of the camera's calibration"),
    "engine": ("", "what runs the model; empty = as the parameter file says"),
    "model": ("", "model bundle, name or folder; empty = as the parameter file says"),
}


def describe(config: str) -> LaunchDescription:
    """Return the description of a launch file.

    Args:
        config: the package's parameter file that `params_file` names unless the user does.
    """
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
    chosen = {name: LaunchConfiguration(name).perform(context) for name in ("engine", "model")}
    return {name: value for name, value in chosen.items() if value}


def _nodes(context: LaunchContext) -> list[LifecycleNode]:
    # A node of this package starts itself: launch_ros learnt to do that only after Humble.
    switches = {
        name: ParameterValue(LaunchConfiguration(name), value_type=bool)
        for name in ("use_sim_time", "autostart")
    }
    node = LifecycleNode(
        package="aopsam_ros",
        executable="aopsam_node",
        name="aopsam",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file"), {**switches, **overrides(context)}],
        remappings=[
            ("image", LaunchConfiguration("image_topic")),
            ("camera_info", LaunchConfiguration("camera_info_topic")),
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )
    return [node]
