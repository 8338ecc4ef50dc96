"""Start the node on a Jetson: `ros2 launch aopsam_ros jetson.launch.py`."""

from launch import LaunchDescription

from aopsam_ros.ros.launching import describe


def generate_launch_description() -> LaunchDescription:
    """Start `aopsam` with config/jetson.yaml; `--show-args` lists what can be chosen."""
    return describe("jetson.yaml")
