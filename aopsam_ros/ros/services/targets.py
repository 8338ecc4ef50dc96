"""`~/select` and `~/follow`: which of the newest masks is meant, and where it goes."""

from dataclasses import replace

import numpy as np
from rclpy.node import Node

from aopsam_ros.errors import AopsamError, InputError
from aopsam_ros.geometry import resized_geometry
from aopsam_ros.images.compressed import RgbImage
from aopsam_ros.images.encodings import to_rgb
from aopsam_ros.masks.choosing import choose
from aopsam_ros.masks.rle import decode, require_inside
from aopsam_ros.msg import Mask
from aopsam_ros.results import InstanceMask
from aopsam_ros.ros.messages import detections_3d
from aopsam_ros.ros.messages.images import bridge_reader
from aopsam_ros.ros.messages.segmentations import instance_of, mask_message
from aopsam_ros.ros.messages.targets import criteria_of
from aopsam_ros.ros.pairing import Frame, SegmentedFrame
from aopsam_ros.ros.pipeline import Pipeline
from aopsam_ros.ros.services.worker_service import NOT_ACTIVE
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.space.boxes_3d import Box3D, fit_box
from aopsam_ros.srv import Follow, Select
from aopsam_ros.streaming.follower import Follower, fills_cells


class TargetServices:
    """Answers at once, in the executor's thread: nothing is decoded for it."""

    def __init__(self, node: Node) -> None:
        """Offer the services; until `serve`, every request is refused."""
        self._pipeline: Pipeline | None = None
        node.create_service(Select, "~/select", self._on_select)
        node.create_service(Follow, "~/follow", self._on_follow)

    def serve(self, pipeline: Pipeline) -> None:
        """Answer from the pipeline's newest frame from now on."""
        self._pipeline = pipeline

    def stop(self) -> None:
        """Refuse every request from now on."""
        self._pipeline = None

    def _on_select(self, request: Select.Request, response: Select.Response) -> Select.Response:
        try:
            newest = _newest(_active(self._pipeline))
            mask = choose(newest.segmentation.masks, criteria_of(request.selection))
            box = _box_3d(newest, mask)
        except AopsamError as error:
            response.message = str(error)
            return response
        response.success, response.header = True, newest.frame.image.header
        response.height, response.width = newest.segmentation.height, newest.segmentation.width
        response.mask = mask_message(mask)
        if box is not None:
            bounds = detections_3d.box_message(box)
            response.pose, response.size, response.has_box_3d = bounds.center, bounds.size, True
        return response

    def _on_follow(self, request: Follow.Request, response: Follow.Response) -> Follow.Response:
        try:
            pipeline = _active(self._pipeline)
            if request.stop:
                pipeline.follow(None)
                frame = pipeline.segmented.frame if pipeline.segmented else None
            else:
                frame, rgb, mask = _meant(pipeline, request)
                _require_followable(mask, frame, rgb, pipeline.segmenter)
                pipeline.follow(Follower(rgb, mask))
                response.mask = mask_message(mask)
        except AopsamError as error:
            response.message = str(error)
            return response
        response.success = True
        if frame is not None:
            response.header = frame.image.header
        return response


def _active(pipeline: Pipeline | None) -> Pipeline:
    if pipeline is None:
        raise InputError(NOT_ACTIVE)
    return pipeline


def _newest(pipeline: Pipeline) -> SegmentedFrame:
    if pipeline.segmented is None:
        raise InputError("no image has been segmented yet")
    return pipeline.segmented


def _meant(pipeline: Pipeline, request: Follow.Request) -> tuple[Frame, RgbImage, InstanceMask]:
    """Return the mask to follow, and its image: that of `~/segment` for a mask of the request."""
    if not len(request.mask.counts):
        segmented = _newest(pipeline)
        mask = choose(segmented.segmentation.masks, criteria_of(request.selection))
        return segmented.frame, segmented.rgb, mask
    frame = pipeline.newest
    if frame is None:
        raise InputError("no image has come yet")
    rgb = to_rgb(frame.image, bridge_reader())
    return frame, rgb, _given(request.mask, *rgb.shape[:2])


def _require_followable(
    mask: InstanceMask, frame: Frame, rgb: RgbImage, segmenter: Segmenter
) -> None:
    """Refuse what cannot be followed.

    Raises:
        InputError: if the mask is too small for the model, or images are cut into crops.
    """
    bundle = segmenter.bundle
    if segmenter.crop_layers(frame.configuration.options):
        raise InputError("following and grid.crop_layers above 0 exclude each other")
    height, width = rgb.shape[:2]
    geometry = resized_geometry(height, width, bundle.image_size, bundle.resize)
    if not fills_cells(mask, geometry, bundle.low_res_mask_size):
        cell = bundle.image_size / bundle.low_res_mask_size / geometry.scale
        raise InputError(
            f"the mask is too small to follow: it fills none of the model's cells, "
            f"{cell[0]:.0f} x {cell[1]:.0f} pixels of this image"
        )


def _given(message: Mask, height: int, width: int) -> InstanceMask:
    """Return the mask of a request, once it is certain that it shows something of the image."""
    require_inside(message, height, width)
    area = int(np.count_nonzero(decode(message)))
    if not area:
        raise InputError("the mask is empty")
    return replace(instance_of(message), area=area)


def _box_3d(newest: SegmentedFrame, mask: InstanceMask) -> Box3D | None:
    """Return a mask's box in space; None without depth that fits and shows enough."""
    if newest.depth is None or newest.calibration is None:
        return None
    only = replace(newest.segmentation, masks=(mask,))
    rectified = newest.frame.configuration.markers.rectified
    try:
        (points,) = detections_3d.locate(
            only, newest.frame.image.header, newest.depth, newest.calibration, rectified
        )
    except InputError:  # the diagnostics say why; the mask is meant all the same
        return None
    return fit_box(points, newest.frame.configuration.boxes_3d_axes)
