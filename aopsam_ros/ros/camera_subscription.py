"""Subscriptions to a camera that suit whatever its driver publishes."""

from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from aopsam_ros.ros.qos import POLICIES, readable_qos_errors

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

FOLLOW = ReliabilityPolicy.SYSTEM_DEFAULT  # stands for the reliability that publishers offer


class CameraSubscription:
    """Subscribes to the newest messages of a topic, reliably where all its publishers are reliable.

    Best effort receives from every publisher, but an image is sent in many fragments and lost with
    any of them, even on one machine. Reliable delivers them all, but receives nothing from a
    publisher that offers best effort. So the choice follows the publishers, unless the user made it
    by `qos_overrides.<topic>.subscription.reliability`.

    Attributes:
        topic: full name.
        qos: the profile in use.
        lost: messages that the middleware received in part, or has noticed to be missing.
    """

    def __init__(
        self, node: Node, kind: type, topic: str, callback: Callable[[Any], None], depth: int = 1
    ) -> None:
        """Subscribe; `kind` is the message's type, `depth` how many wait for the callback.

        Raises:
            OptionError: if the user's quality of service is impossible.
        """
        self._node, self._kind, self._name, self._callback = node, kind, topic, callback
        self.topic: str = node.resolve_topic_name(topic)
        self._depth = depth
        self.qos = self._profile()
        self.lost = 0
        self._follows = True
        self._subscription = self._subscribe()

    def _profile(self) -> QoSProfile:
        return QoSProfile(depth=self._depth, reliability=FOLLOW)

    def _subscribe(self) -> Any:  # noqa: ANN401  (rclpy has no types)
        with readable_qos_errors(self.topic):
            try:
                return self._create(SubscriptionEventCallbacks(message_lost=self._on_lost))
            except UnsupportedEventTypeError:  # by this middleware
                return self._create(None)

    def _create(self, events: Any) -> Any:  # noqa: ANN401  (rclpy has no types)
        return self._node.create_subscription(
            self._kind,
            self._name,
            self._callback,
            self._profile(),
            event_callbacks=events,
            qos_overriding_options=QoSOverridingOptions(POLICIES, callback=self._settle),
        )

    def _on_lost(self, event: Any) -> None:  # noqa: ANN401  (rclpy has no types)
        self.lost += event.total_count_change

    def _settle(self, qos: QoSProfile) -> SetParametersResult:
        """Set the reliability of the profile to be used, where the user has not."""
        self._follows = qos.reliability == FOLLOW
        if self._follows:
            qos.reliability = self.offered() or ReliabilityPolicy.BEST_EFFORT
        self.qos = qos
        return SetParametersResult(successful=True)

    def offered(self) -> ReliabilityPolicy | None:
        """Return what all publishers offer; None while there are none."""
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        if not publishers:
            return None
        offers = {publisher.qos_profile.reliability for publisher in publishers}
        reliable = offers == {ReliabilityPolicy.RELIABLE}
        return ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT

    def adapt(self) -> None:
        """Follow the present publishers; called once a second.

        Raises:
            OptionError: if subscribing anew fails; the next call tries again.
        """
        if self._follows and self.offered() not in (None, self.qos.reliability):
            self.destroy()
            try:
                self._subscription = self._subscribe()
            except BaseException:
                self.qos = self._profile()  # differs: to be tried again
                raise
            # rclpy may just have said that no messages will be received.
            self._node.get_logger().info(
                f"{self.topic}: switched to {_text(self.qos.reliability)}, as its publishers do"
            )

    def destroy(self) -> None:
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)

    def silence(self, seconds: float) -> str:
        """Return why no image may be arriving, for the user."""
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        text = f"no image on {self.topic} for {seconds:.0f} s: {len(publishers)} publishers found"
        if not publishers:
            return f"{text}; remap 'image' to your camera's topic"
        found = "; ".join(
            f"{p.node_name}: {p.topic_type}, {_qos_text(p.qos_profile)}" for p in publishers
        )
        own = f"sensor_msgs/msg/{self._kind.__name__}"
        text += f" ({found}), this node takes {own}, {_qos_text(self.qos)}"
        others = sorted({publisher.topic_type for publisher in publishers} - {own})
        return f"{text}. {' and '.join(others)} cannot be received on it" if others else text


def _qos_text(profile: QoSProfile) -> str:
    return f"{_text(profile.reliability)} and {_text(profile.durability)}"


def _text(policy: Any) -> str:  # noqa: ANN401  (an enumeration of rclpy's)
    return str(policy.name).lower().replace("_", " ")
