"""Masks in space, as ROS messages: boxes, and a cloud of labelled points."""

import array
import sys
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header
from vision_msgs.msg import BoundingBox3D, Detection3D, Detection3DArray

from aopsam_ros.drawing.palette import colour_of
from aopsam_ros.errors import InputError, quoted
from aopsam_ros.results import Segmentation
from aopsam_ros.ros.messages.camera import CalibratedCamera, calibration_mismatch
from aopsam_ros.ros.messages.depth import depth_to_metres
from aopsam_ros.ros.messages.segmentations import hypothesis
from aopsam_ros.space.boxes_3d import Box3D, DepthMap, points_of

Points = NDArray[np.float64]
Depths = NDArray[np.float32]

# Colours are packed as RViz and Foxglove read them: blue in the lowest byte.
_POINT = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), ("rgb", "u4"), ("label", "u4")])
_TYPES = {**dict.fromkeys(("x", "y", "z", "rgb"), PointField.FLOAT32), "label": PointField.UINT32}
_FIELDS = [
    PointField(name=name, offset=4 * place, datatype=kind, count=1)
    for place, (name, kind) in enumerate(_TYPES.items())
]


def locate(
    segmentation: Segmentation,
    header: Header,
    depth: Image,
    calibration: CameraInfo | None,
    rectified: bool,
) -> list[Points]:
    """Return each mask's points in the image's optical frame, `[n, 3]` metres, outliers left out.

    Raises:
        InputError: if depth or calibration are none of this image, or damaged.
    """
    if calibration is None:
        raise InputError("no camera_info came")
    height, width = segmentation.height, segmentation.width
    if reason := calibration_mismatch(calibration, height, width, header):
        raise InputError(reason)
    depth_map = _registered(depth, segmentation, header)
    camera = CalibratedCamera.of(calibration, rectified)
    return [points_of(mask, depth_map, camera) for mask in segmentation.masks]


def median_depths(segmentation: Segmentation, header: Header, depth: Image) -> Depths:
    """Return the median depth of each mask, metres, NaN where none is known.

    Raises:
        InputError: if the depth is none of this image, or damaged.
    """
    depth_map = _registered(depth, segmentation, header)
    known = [depth_map.of(mask)[1] for mask in segmentation.masks]
    return np.array([np.median(own) if len(own) else np.nan for own in known], np.float32)


def _registered(depth: Image, segmentation: Segmentation, header: Header) -> DepthMap:
    if depth.header.frame_id != header.frame_id:
        raise InputError(
            f"depth is in frame {quoted(depth.header.frame_id)}, the image in "
            f"{quoted(header.frame_id)}: depth has to be registered to the image"
        )
    return DepthMap(depth_to_metres(depth), segmentation.height, segmentation.width)


def detections_3d(
    segmentation: Segmentation, boxes: Sequence[Box3D | None], header: Header
) -> Detection3DArray:
    """Return the masks' boxes, as far as they have any."""
    message = Detection3DArray(header=header)
    for mask, box in zip(segmentation.masks, boxes, strict=True):
        if box is not None:
            bounds, result = box_message(box), hypothesis(mask)
            result.pose.pose = bounds.center
            message.detections.append(
                Detection3D(header=header, results=[result], bbox=bounds, id=str(mask.id))
            )
    return message


def box_message(box: Box3D) -> BoundingBox3D:
    """Return a box's pose and size."""
    (x, y, z), (width, height, length) = box.center.tolist(), box.size.tolist()
    qx, qy, qz, qw = box.quaternion()
    pose = Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))
    return BoundingBox3D(center=pose, size=Vector3(x=width, y=height, z=length))


def labelled_points(
    segmentation: Segmentation, points: Sequence[Points], header: Header
) -> PointCloud2:
    """Return the points of all masks, each with its mask's id and colour."""
    cloud = np.zeros(sum(map(len, points)), _POINT)
    start = 0
    for mask, own in zip(segmentation.masks, points, strict=True):
        part = cloud[start : start + len(own)]
        part["x"], part["y"], part["z"] = own.T
        red, green, blue = colour_of(mask.id)
        part["rgb"], part["label"] = (red << 16) | (green << 8) | blue, mask.id
        start += len(own)
    return PointCloud2(
        header=header,
        height=1,
        width=len(cloud),
        fields=_FIELDS,
        is_bigendian=sys.byteorder == "big",
        point_step=_POINT.itemsize,
        row_step=_POINT.itemsize * len(cloud),
        data=array.array("B", cloud.tobytes()),
        is_dense=True,
    )
