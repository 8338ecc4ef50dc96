"""Objects for MoveIt: `/aopsam/detections_3d` in, boxes of the planning scene out.

python3 src/aopsam_ros/examples/collision_objects.py --ros-args -p max_size:=0.5

MoveIt's planning scene monitor takes `/collision_object`. With `tracking.enabled`, an object keeps
its name from frame to frame, and its box moves with it. docs/planning.md says more.
"""

from __future__ import annotations

import signal

import rclpy
from moveit_msgs.msg import CollisionObject
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from shape_msgs.msg import SolidPrimitive
from std_msgs.msg import Header
from vision_msgs.msg import Detection3D, Detection3DArray

DEFAULTS = {
    "max_size": 1.0,  # metres: what is longer is the room's: table, floor, wall
    "padding": 0.01,  # metres added to all sides: boxes enclose what the camera sees
    "forget_after": 1.0,  # seconds after which an object that is not seen leaves the scene
}
EITHER = ParameterDescriptor(dynamic_typing=True)  # 3 as well as 3.0


class CollisionObjects(Node):
    """Keeps the planning scene's boxes as the newest frame has them."""

    def __init__(self) -> None:
        super().__init__("collision_objects")
        self.add_on_set_parameters_callback(check)
        for name, default in DEFAULTS.items():
            self.declare_parameter(name, default, EITHER)
        self._seen: dict[str, float] = {}  # when, by the frames' stamps, in seconds
        # A burst of objects at once must not get lost.
        self._objects = self.create_publisher(
            CollisionObject, "/collision_object", QoSProfile(depth=100)
        )
        topic = "/aopsam/detections_3d"
        self.create_subscription(Detection3DArray, topic, self._on_detections, 1)
        self.get_logger().info(f"listening on {topic}")

    def _on_detections(self, message: Detection3DArray) -> None:
        now = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        max_size, padding, forget_after = (
            float(self.get_parameter(name).value) for name in DEFAULTS
        )
        for detection in message.detections:
            size = detection.bbox.size
            if max(size.x, size.y, size.z) <= max_size:
                self._objects.publish(box_of(detection, message.header, padding))
                self._seen[name_of(detection)] = now
        # A stamp that steps back is a recording that begins again.
        gone = [name for name, at in self._seen.items() if not 0 <= now - at <= forget_after]
        for name in gone:
            del self._seen[name]
            removed = CollisionObject(header=message.header, id=name)
            removed.operation = CollisionObject.REMOVE
            self._objects.publish(removed)


def check(parameters: list[Parameter]) -> SetParametersResult:
    """Refuse what is no number."""
    for name, value in ((parameter.name, parameter.value) for parameter in parameters):
        if name in DEFAULTS and not (type(value) in (int, float) and abs(value) < 1e9):
            return SetParametersResult(successful=False, reason=f"{name} is a number")
    return SetParametersResult(successful=True)


def name_of(detection: Detection3D) -> str:
    """Return the object's name in the planning scene: its label, if any, and its id."""
    labels = [result.hypothesis.class_id for result in detection.results]
    return f"{next(filter(None, labels), 'object')}_{detection.id}"


def box_of(detection: Detection3D, header: Header, padding: float) -> CollisionObject:
    """Return a detection's box; the scene's box of its name is replaced."""
    size = detection.bbox.size
    sides = [side + 2 * padding for side in (size.x, size.y, size.z)]
    box = SolidPrimitive(type=SolidPrimitive.BOX, dimensions=sides)
    added = CollisionObject(header=header, id=name_of(detection), primitives=[box])
    added.pose = detection.bbox.center
    added.primitive_poses = [type(added.pose)()]
    added.operation = CollisionObject.ADD
    return added


if __name__ == "__main__":
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    signals: list[int] = []
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda number, _: signals.append(number))
    try:
        node = CollisionObjects()
    except ParameterException as error:
        raise SystemExit(str(error)) from None
    while not signals:  # rclpy.spin may miss a signal, and then waits for ever
        rclpy.spin_once(node, timeout_sec=0.5)
