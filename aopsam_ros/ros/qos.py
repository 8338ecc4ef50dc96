"""Quality of service that users may override, as ROS names it: `qos_overrides.<topic>...`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rcl_interfaces.msg import SetParametersResult
from rclpy.qos import QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions

from aopsam_ros.errors import OptionError

POLICIES = (
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)


def overridable(
    callback: Callable[[QoSProfile], SetParametersResult] | None = None,
) -> QoSOverridingOptions:
    """Let users override a topic's history, depth, reliability and durability.

    Args:
        callback: given the profile after the overrides and before its use; may complete it.
    """
    return QoSOverridingOptions(POLICIES, callback=callback)


@contextlib.contextmanager
def readable_qos_errors(topic: str) -> Iterator[None]:
    """Raise one error for the many that an impossible override ends in, even AssertionError.

    Fast DDS gives the same ones where a security policy does not name the topic.

    Raises:
        OptionError: instead of them.
    """
    try:
        yield
    except Exception as error:
        raise OptionError(
            f"{topic} cannot be used, by its qos_overrides or a security policy: {error}"
        ) from error
