"""What is chosen and followed, from and to messages."""

from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header

from aopsam_ros.errors import InputError
from aopsam_ros.masks.choosing import Criteria
from aopsam_ros.msg import Selection, Target
from aopsam_ros.ros.messages.segmentations import mask_message
from aopsam_ros.streaming.follower import Target as TargetInFrame


def criteria_of(selection: Selection) -> Criteria:
    """Return what a mask has to fulfil.

    Raises:
        InputError: if a field is impossible, or nothing is given.
    """
    numbers = [float(number) for number in selection.point]
    if len(numbers) not in (0, 2):
        raise InputError(f"a point is x and y, not {len(numbers)} numbers")
    point = (numbers[0], numbers[1]) if numbers else None
    return Criteria(point, corners_of(selection.box), selection.label, selection.id)


def corners_of(roi: RegionOfInterest) -> tuple[float, float, float, float] | None:
    """Return a box's left, top, right and bottom; None where none is given.

    Raises:
        InputError: if it is empty.
    """
    if not (roi.width or roi.height):
        return None
    if not (roi.width and roi.height):
        raise InputError(f"the box of {roi.width}x{roi.height} pixels is empty")
    left, top = float(roi.x_offset), float(roi.y_offset)
    return left, top, left + roi.width, top + roi.height


def target_message(target: TargetInFrame, header: Header, height: int, width: int) -> Target:
    """Return what became of the thing in an image of that size."""
    message = Target(header=header, height=height, width=width, state=int(target.state))
    message.similarity, message.images_lost = float(target.similarity), target.frames_lost
    if target.mask is not None:
        message.mask = mask_message(target.mask)
    return message
