"""An image on its way through the node."""

from __future__ import annotations

from dataclasses import dataclass

from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from aopsam_ros.ros.messages.compressed import compressed_to_rgb
from aopsam_ros.ros.messages.images import RgbImage, image_to_rgb
from aopsam_ros.ros.parameter_table import Configuration


@dataclass(frozen=True)
class Frame:
    """An image, when it came (monotonic seconds), and the configuration to work on it with.

    They travel together: whatever is published for an image comes from exactly one configuration.
    """

    image: Image | CompressedImage
    received: float
    configuration: Configuration
    boxes: Detection2DArray | None = None  # a detector's, where prompts come from one

    def rgb(self) -> RgbImage:
        """Return the image's pixels, uint8 `[H, W, 3]`.

        Raises:
            InputError: if the message is damaged or in a format not known here.
        """
        if isinstance(self.image, CompressedImage):
            return compressed_to_rgb(self.image)
        return image_to_rgb(self.image)
