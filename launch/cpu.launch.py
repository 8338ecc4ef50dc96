"""Start the node on a computer without a GPU: `ros2 launch aopsam_ros cpu.launch.py`."""

from launch import LaunchDescription

from aopsam_ros.ros.launching import describe


def generate_launch_description() -> LaunchDescription:
    """Start `aopsam` with config/cpu.yaml; `--show-args` lists what can be chosen."""
    return describe("cpu.yaml")
