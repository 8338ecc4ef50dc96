"""An image on its way through the node."""

from __future__ import annotations

from dataclasses import dataclass

from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from aopsam_ros.ros.parameter_table import Configuration


@dataclass(frozen=True)
class Frame:
    """An image and the configuration to segment it with.

    They travel together: whatever is published for an image comes from exactly one configuration.

    Attributes:
        image: the message.
        received: when it came, monotonic seconds.
        configuration: the parameters at that time.
        boxes: a detector's, where prompts come from one.
    """

    image: Image | CompressedImage
    received: float
    configuration: Configuration
    boxes: Detection2DArray | None = None
