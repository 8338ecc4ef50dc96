"""Malformed messages of every kind that the node takes, from a seeded generator."""

from __future__ import annotations

import array
import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from aopsam_ros.msg import Mask, Selection
from aopsam_ros.srv import Follow, Segment, Select, Teach
from support.messages import calibration_of, image_of
from support.scenes import boxes_scene

Random = random.Random
FRAME = "camera_optical_frame"
STRANGE = (math.nan, math.inf, -math.inf, -1.0, 0.0, 1e308, -1e308, 1e-308, 7.5)
SIZES = (0, 1, 2, 3, 127, 128, 129, 16385, 2**31, 2**32 - 1)


def _data(rng: Random, most: int = 4096) -> array.array[int]:
    return array.array("B", rng.randbytes(rng.randrange(most)))


def _text(rng: Random) -> str:
    letters = "".join(chr(rng.choice((10, 37, 65, 0xE9, 0x4E2D, 0x1F600))) for _ in range(9))
    return rng.choice(("", "h264", "rgb9", "RGB8", "x" * 100_000, letters))


def image(rng: Random) -> Image:
    """Return an image of which one thing at least contradicts the others."""
    message = image_of(boxes_scene())
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(_IMAGE_FAULTS)(rng, message)
    return message


def _short(rng: Random, message: Image) -> None:
    message.data = message.data[: rng.randrange(len(message.data) or 1)]


def _encoding(rng: Random, message: Image) -> None:
    # Of the known ones, those that need more bytes than there are.
    message.encoding = rng.choice((_text(rng), "rgba16", "bgra8", "32FC1", "64FC3", "nv21"))


_IMAGE_FAULTS: tuple[Callable[[Random, Any], None], ...] = (
    _short,
    _encoding,
    lambda _, m: setattr(m, "data", array.array("B")),
    lambda rng, m: setattr(m, "step", rng.choice((0, 1, 17, 383, 2**31, 2**32 - 1))),
    lambda rng, m: setattr(m, "height", rng.choice((0, 129, 16385, 2**31, 2**32 - 1))),
    lambda rng, m: setattr(m, "width", rng.choice((0, 129, 16385, 2**31, 2**32 - 1))),
)


def compressed(rng: Random) -> CompressedImage:
    """Return bytes that begin as an image may, and go on as none does."""
    start = rng.choice(
        (b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"RIFF", b"\xff\xd8\xff\xc0")
    )
    header = rng.choice((b"", b"\0\0\0\rIHDR" + rng.choice((b"\xff" * 8, bytes(8)))))
    message = CompressedImage(format=_text(rng)[:60])
    message.data = array.array("B", start + header + rng.randbytes(rng.randrange(300)))
    return message


def camera_info(rng: Random) -> CameraInfo:
    """Return a calibration that is none, or of another camera."""
    message = calibration_of(rng.choice((128, *SIZES)), rng.choice((128, *SIZES)))
    message.header.frame_id = rng.choice((FRAME, FRAME, "other", _text(rng)))
    message.d = [rng.choice(STRANGE) for _ in range(rng.choice((0, 1, 4, 5, 7, 14, 1000)))]
    numbers = list(message.k)
    numbers[rng.randrange(9)] = rng.choice(STRANGE)
    message.k = numbers
    projection = list(message.p)
    projection[rng.randrange(12)] = rng.choice(STRANGE)
    message.p = projection
    message.distortion_model = rng.choice(("plumb_bob", "equidistant", "", _text(rng)))
    message.binning_x = rng.choice((0, 1, 2, 2**32 - 1))
    return message


def depth(rng: Random) -> Image:
    """Return depth of strange values, or an image that is no depth."""
    with np.errstate(over="ignore"):
        values = np.full((128, 128), rng.choice(STRANGE)).astype(np.float32)
    message = image_of(boxes_scene())
    message.encoding, message.step = "32FC1", 512
    message.data = array.array("B", values.tobytes())
    if rng.random() < 0.8:
        rng.choice((*_IMAGE_FAULTS, _other_frame))(rng, message)
    return message


def _other_frame(_: Random, message: Image) -> None:
    message.header.frame_id = "elsewhere"


def boxes(rng: Random) -> Detection2DArray:
    """Return a detector's boxes with impossible numbers, or far too many of them."""
    message = Detection2DArray()
    for _ in range(rng.choice((1, 1, 3, 100))):
        detection = Detection2D()
        box = detection.bbox
        box.center.position.x, box.center.position.y = rng.choice(STRANGE), rng.choice(STRANGE)
        box.size_x, box.size_y = rng.choice(STRANGE), rng.choice(STRANGE)
        box.center.theta = rng.choice((0.0, *STRANGE))
        result = ObjectHypothesisWithPose()
        result.hypothesis.score = rng.choice(STRANGE)
        detection.results = [result] * rng.choice((0, 1, 2))
        message.detections.append(detection)
    return message


def _points(rng: Random) -> tuple[list[float], list[int]]:
    count = rng.choice((0, 1, 2, 3, 130, 500))
    points = [float(np.float32(rng.choice((*STRANGE[:5], 64.0, 1e30)))) for _ in range(count)]
    return points, [rng.choice((0, 1, 2, 255)) for _ in range(rng.choice((0, count // 2, 1, 77)))]


def _roi(rng: Random) -> RegionOfInterest:
    x, y, width, height = (rng.choice(SIZES) if rng.random() < 0.8 else 0 for _ in range(4))
    return RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)


def mask(rng: Random) -> Mask:
    """Return runs that do not fit their box, or none."""
    counts = [rng.choice(SIZES) for _ in range(rng.choice((0, 0, 1, 3, 1000)))]
    return Mask(roi=_roi(rng), counts=counts, id=rng.choice(SIZES))


def selection(rng: Random) -> Selection:
    """Return a choice of nothing that is there, as a rule."""
    point = _points(rng)[0][: rng.choice((0, 2, 2, 3))]
    label = rng.choice(("", "mug", _text(rng)))
    return Selection(point=point, box=_roi(rng), label=label, id=rng.choice((0, 1, 2**32 - 1)))


def segment(rng: Random) -> Segment.Request:
    """Return a prompt that means nothing, or lies outside its image; some in sessions."""
    points, labels = _points(rng)
    message = Segment.Request(points=points, labels=labels, all_masks=rng.random() < 0.5)
    message.box, message.mask = _roi(rng), mask(rng)
    message.session = rng.choice(("", "a", "b", str(rng.random()), _text(rng)))
    if rng.random() < 0.5:
        message.image = image(rng)
    return message


def teach(rng: Random) -> Teach.Request:
    """Return a label that is none, of something that is not there; a few can be taught."""
    points, labels = _points(rng)
    label = rng.choice(("mug", "door", "", "x" * 65, _text(rng)))
    message = Teach.Request(label=label, points=points, point_labels=labels, box=_roi(rng))
    message.mask_id = rng.choice((0, 0, 1, 2**32 - 1))
    return message


def follow(rng: Random) -> Follow.Request:
    """Return a choice of nothing, or a mask that is none."""
    return Follow.Request(selection=selection(rng), mask=mask(rng), stop=rng.random() < 0.2)


def change_state(rng: Random) -> ChangeState.Request:
    """Return a transition that an active node does not have."""
    impossible = {"configure": 1, "cleanup": 2, "activate": 3, "no such": rng.choice((0, 9, 255))}
    label = rng.choice(list(impossible))
    by_label = rng.random() < 0.3
    return ChangeState.Request(
        transition=Transition(id=0 if by_label else impossible[label], label=label * by_label)
    )


def parameters(rng: Random) -> SetParameters.Request:
    """Return values of impossible types and sizes."""
    names = ("model", "asf.max_prompts", "mask.granularity", "target_frame", "", _text(rng))
    values = [ParameterValue(type=rng.choice((*range(11), 77, 255))) for _ in range(3)]
    for value in values:
        value.double_value, value.integer_value = rng.choice(STRANGE), -(2**63)
        value.string_value = _text(rng)
    return SetParameters.Request(
        parameters=[Parameter(name=rng.choice(names), value=value) for value in values]
    )


MAKERS: Mapping[str, Callable[[Random], Any]] = {
    "image": image,
    "camera_info": camera_info,
    "depth": depth,
    "boxes": boxes,
}
# Of services: their types, and the makers of requests.
REQUESTS: Mapping[str, tuple[Any, Callable[[Random], Any]]] = {
    "segment": (Segment, segment),
    "teach": (Teach, teach),
    "select": (Select, lambda rng: Select.Request(selection=selection(rng))),
    "follow": (Follow, follow),
    "change_state": (ChangeState, change_state),
    "set_parameters": (SetParameters, parameters),
    "set_parameters_atomically": (
        SetParametersAtomically,
        lambda rng: SetParametersAtomically.Request(parameters=parameters(rng).parameters),
    ),
    "get_parameters": (
        GetParameters,
        lambda rng: GetParameters.Request(names=["model", _text(rng)]),
    ),
    "describe_parameters": (
        DescribeParameters,
        lambda rng: DescribeParameters.Request(names=["model", _text(rng)]),
    ),
    "get_parameter_types": (
        GetParameterTypes,
        lambda rng: GetParameterTypes.Request(names=["model", _text(rng)]),
    ),
    "list_parameters": (
        ListParameters,
        lambda rng: ListParameters.Request(prefixes=[_text(rng)], depth=rng.choice((0, 1, 2**63))),
    ),
}


def wire(rng: Random, message: Any) -> bytes:  # noqa: ANN401  (any message)
    """Return a message as it would arrive from a broken program: cut, overwritten or made up."""
    content = bytearray(serialize_message(message))
    fault = rng.randrange(4)
    if fault == 0:
        del content[rng.randrange(4, len(content)) :]
    elif fault == 1:  # a length, of a string or of an array
        at = 4 * rng.randrange(1, min(16, len(content) // 4))
        content[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\1"))
    elif fault == 2:  # not UTF-8, where names stand
        at = rng.randrange(12, min(60, len(content)))
        content[at : at + 4] = b"\xff\xfe\xc3\x28"
    else:
        content[4:] = rng.randbytes(rng.randrange(200))
    return bytes(content)
