"""TF: from the camera's frame to another one, at an image's stamp."""

import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from aopsam_ros.errors import InputError, quoted
from aopsam_ros.space.boxes_3d import Box3D

TIME_JUMP_NS = 1_000_000_000  # back by more: a recording begins anew; images are less out of order
MAX_LATE = 5  # waits in a row that were in vain; then only what is near is awaited, TF or depth
# TF that has stood still for longer, and than an image waits, is waited for no more: in vain, by
# each image. A map's frame may come once a second only.
TF_ALIVE_S = 2.0
POLL_S = 0.02  # between looks for a transform that is to come; tf2_ros does the same


@dataclass(frozen=True)
class Transform:
    """Takes points of the camera's frame to another one: `rotation` [3, 3], then `translation`."""

    header: Header  # of what has been transformed: the other frame, the image's stamp
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]  # [3], metres

    @classmethod
    def of(cls, message: TransformStamped, header: Header) -> "Transform":
        """Read TF's message for the image of this header."""
        from scipy.spatial.transform import Rotation

        q, t = message.transform.rotation, message.transform.translation
        return cls(
            Header(stamp=header.stamp, frame_id=message.header.frame_id),
            Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix(),
            np.array([t.x, t.y, t.z]),
        )

    def points(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return points `[n, 3]` in the other frame."""
        return np.asarray(points @ self.rotation.T + self.translation, np.float64)

    def box(self, box: Box3D) -> Box3D:
        """Return a box in the other frame."""
        centre, rotation = self.points(box.center[None])[0], self.rotation @ box.rotation
        return replace(box, center=centre, rotation=rotation)


class TransformListener:
    """Listens to TF; made and closed in the executor's thread, asked in any other."""

    def __init__(self, node: Node) -> None:
        import tf2_ros  # of ROS, not of the wheels; parameter_table refuses target_frame without

        self._tf2: Any = tf2_ros
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)
        self._stamp = 0  # stamp of the last image, nanoseconds
        self._latest, self._advanced = -1, 0.0  # TF's newest stamp, and since when, monotonic
        self._late = 0  # waits in a row in which TF went on, but not as far as needed
        self._ended = threading.Event()  # set once nobody is to wait any more

    def look_up(self, target: str, header: Header, patience_s: float) -> Transform:
        """Return the transform from the header's frame to `target`, at its stamp.

        Raises:
            InputError: if it is not known within `patience_s` seconds, or nothing connects the
                frames yet, or TF is past the stamp already, stands still or is, as for the images
                before, too far behind, or it is not finite; the message says why.
        """
        until = time.monotonic() + patience_s
        frames = target, header.frame_id
        try:
            stamp = Time.from_msg(header.stamp)
            if stamp.nanoseconds < self._stamp - TIME_JUMP_NS:
                self._buffer.clear()  # it takes nothing that is far older than its newest
            self._stamp = stamp.nanoseconds
            self._wait(frames, stamp, until)
            found = Transform.of(self._buffer.lookup_transform(*frames, stamp), header)
            if not np.isfinite(found.translation).all():  # tf2 itself refuses NaN only
                raise ValueError("it is not finite")
            self._late = 0
        except (self._tf2.TransformException, ValueError) as error:
            raise InputError(
                f"no transform from {quoted(header.frame_id)} to {quoted(target)} at the image's "
                f"stamp: {error}"
            ) from error
        return found

    def _wait(self, frames: tuple[str, str], stamp: Time, until: float) -> None:
        """Wait until a transform is known, or cannot come by the monotonic time `until`."""
        first, alive_s = None, max(TF_ALIVE_S, until - time.monotonic())
        while not self._buffer.can_transform(*frames, stamp):
            latest, now = self._buffer.get_latest_common_time(*frames).nanoseconds, time.monotonic()
            behind, left = (stamp.nanoseconds - latest) / 1e9, until - now
            first = latest if first is None else first
            if latest != self._latest:
                self._latest, self._advanced = latest, now
            if left <= 0 < behind and latest > first:
                self._late += 1
            least = behind if self._late >= MAX_LATE else 0.0
            if behind <= 0 or left <= least or now - self._advanced >= alive_s:
                return
            if self._ended.wait(min(left, POLL_S)):
                return

    def stop_waiting(self) -> None:
        """Wait for no transform any more; in any thread."""
        self._ended.set()

    def close(self) -> None:
        """End the subscriptions."""
        self.stop_waiting()
        self._listener.unregister()
