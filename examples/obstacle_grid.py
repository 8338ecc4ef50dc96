"""Obstacles on the floor from masks and depth: `/aopsam/points` in, an occupancy grid out.

python3 src/aopsam_ros/examples/obstacle_grid.py --ros-args -p resolution:=0.05

The node's `target_frame` has to be one with z up, such as base_link, of which the grid's frame is
then: it reaches `reach` metres to all sides. nav2's costmap takes `/obstacles` in its StaticLayer;
its ObstacleLayer takes `/aopsam/points` itself. docs/planning.md has both.
"""

from __future__ import annotations

import signal

import numpy as np
import rclpy
from nav_msgs.msg import OccupancyGrid
from numpy.typing import NDArray
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import PointCloud2

UNKNOWN, FREE, OCCUPIED = -1, 0, 100
DEFAULTS = {
    "resolution": 0.05,  # metres of a cell's side
    "reach": 4.0,  # metres from the frame's origin to the grid's edge
    "min_height": 0.05,  # metres above the floor; what is lower can be driven on
    "max_height": 2.0,  # what is higher can be driven under
    "min_points": 2.0,  # of a cell; fewer may be noise of the depth camera
}
RANGES = {"resolution": (0.01, 10.0), "reach": (0.1, 20.0)}  # others: any number
EITHER = ParameterDescriptor(dynamic_typing=True)  # 3 as well as 3.0


class ObstacleGrid(Node):
    """Turns each cloud into a grid; nothing is remembered, as a costmap does that itself."""

    def __init__(self) -> None:
        super().__init__("obstacle_grid")
        self.add_on_set_parameters_callback(check)
        for name, default in DEFAULTS.items():
            self.declare_parameter(name, default, EITHER)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)  # as a map
        self._grids = self.create_publisher(OccupancyGrid, "/obstacles", latched)
        points = self.create_subscription(PointCloud2, "/aopsam/points", self._on_points, 1)
        self.get_logger().info(f"listening on {points.topic_name}")

    def _on_points(self, cloud: PointCloud2) -> None:
        if cloud.header.frame_id.endswith("optical_frame"):
            reason = f"{cloud.header.frame_id} has no z up: set the node's target_frame"
            self.get_logger().warning(reason, throttle_duration_sec=5.0)
            return
        values = {name: float(self.get_parameter(name).value) for name in DEFAULTS}
        cells = grid_of(xyz_of(cloud), **values)
        grid = OccupancyGrid(header=cloud.header)
        grid.info.map_load_time = cloud.header.stamp
        grid.info.resolution = values["resolution"]
        grid.info.height, grid.info.width = cells.shape
        grid.info.origin.position.x = grid.info.origin.position.y = -values["reach"]
        grid.info.origin.orientation.w = 1.0
        grid.data.frombytes(cells.tobytes())
        self._grids.publish(grid)


def check(parameters: list[Parameter]) -> SetParametersResult:
    """Refuse values of which no grid can be made."""
    for name, value in ((parameter.name, parameter.value) for parameter in parameters):
        least, most = RANGES.get(name, (-1000.0, 1000.0))
        if name in DEFAULTS and not (type(value) in (int, float) and least <= value <= most):
            reason = f"{name} is a number from {least:g} to {most:g}"
            return SetParametersResult(successful=False, reason=reason)
    return SetParametersResult(successful=True)


def xyz_of(cloud: PointCloud2) -> NDArray[np.float32]:
    """Return a cloud's coordinates, float32 `[n, 3]`, metres."""
    offsets = {field.name: field.offset for field in cloud.fields}
    rows = np.frombuffer(cloud.data, np.uint8).reshape(-1, cloud.point_step)
    columns = [rows[:, offsets[axis] : offsets[axis] + 4] for axis in "xyz"]
    return np.hstack(columns).view("<f4")


def grid_of(
    xyz: NDArray[np.float32],
    resolution: float,
    reach: float,
    min_height: float,
    max_height: float,
    min_points: float,
) -> NDArray[np.int8]:
    """Return the cells, int8 `[rows along y, columns along x]`, from (-reach, -reach) on."""
    side = round(2 * reach / resolution)
    cells = np.floor((xyz[:, :2] + reach) / resolution).astype(np.int64)
    inside = ((cells >= 0) & (cells < side)).all(1) & (xyz[:, 2] <= max_height)
    flat = cells[:, 1] * side + cells[:, 0]
    is_high = xyz[:, 2] >= min_height
    floor = np.bincount(flat[inside & ~is_high], minlength=side * side)
    above = np.bincount(flat[inside & is_high], minlength=side * side)
    grid = np.full(side * side, UNKNOWN, np.int8)
    grid[floor > 0] = FREE
    grid[above >= min_points] = OCCUPIED
    return grid.reshape(side, side)


if __name__ == "__main__":
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    signals: list[int] = []
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda number, _: signals.append(number))
    try:
        node = ObstacleGrid()
    except ParameterException as error:
        raise SystemExit(str(error)) from None
    while not signals:  # rclpy.spin may miss a signal, and then waits for ever
        rclpy.spin_once(node, timeout_sec=0.5)
