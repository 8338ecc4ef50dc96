"""Quality of service that users may override, as ROS names it: `qos_overrides.<topic>...`."""

import contextlib
from collections.abc import Iterator

from rclpy.qos import QoSPolicyKind

from aopsam_ros.errors import OptionError

POLICIES = (  # that users may override
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)


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
