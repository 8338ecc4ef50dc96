"""The service `~/segment`: prompts from outside, answered between two frames."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from rclpy.node import Node

from aopsam_ros.errors import InputError
from aopsam_ros.images.encodings import to_rgb
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.user_prompts import UserPrompt
from aopsam_ros.ros.messages import segmentations
from aopsam_ros.ros.messages.images import bridge_reader
from aopsam_ros.ros.messages.targets import corners_of
from aopsam_ros.ros.pairing import Frame
from aopsam_ros.ros.parameter_table import FrameConfiguration
from aopsam_ros.ros.services.sessions import Session, Sessions
from aopsam_ros.ros.services.worker_service import WorkerService
from aopsam_ros.ros.worker import NewestWorker
from aopsam_ros.segmentation.interactive import Refinement
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.srv import Segment


class SegmentService(WorkerService):
    """Masks for prompts from outside, and the sessions in which they are refined."""

    def __init__(
        self,
        node: Node,
        configuration: Callable[[], FrameConfiguration],
        on_failure: Callable[[str], None],
    ) -> None:
        """Offer the service, as any `WorkerService`."""
        super().__init__(node, Segment, "~/segment", configuration, on_failure)
        self._sessions = Sessions()

    def serve(
        self,
        worker: NewestWorker[Frame],
        segmenter: Segmenter,
        newest: Callable[[], Frame | None],
    ) -> None:
        """Answer from now on, in threads that may use the segmenter; `newest` returns an image."""
        self.answer_with(worker, lambda r, o: answer(segmenter, r, newest(), self._sessions, o))

    def expire(self) -> None:
        """Refuse what waited for too long, end forgotten sessions; called from time to time."""
        self._sessions.expire(self._configuration().segment_session_s)
        super().expire()

    def stop(self) -> None:
        """Refuse what still waits, and every request from now on."""
        self._sessions = Sessions()
        super().stop()


def prompt_of(request: Segment.Request) -> UserPrompt:
    """Return the prompt of a request.

    Raises:
        InputError: if its fields contradict each other, or there is no prompt.
    """
    numbers = np.array(request.points, np.float64)
    if len(numbers) % 2:
        raise InputError(f"points are x0, y0, x1, y1, ...: {len(numbers)} numbers are odd")
    points = numbers.reshape(-1, 2)
    labels = np.array(request.labels, np.uint8)
    if not len(labels):
        labels = np.full(len(points), Segment.Request.OBJECT, np.uint8)
    if len(labels) != len(points):
        raise InputError(f"{len(labels)} labels do not fit {len(points)} points: give one a point")
    return UserPrompt(points, labels, corners_of(request.box))


def answer(
    segmenter: Segmenter,
    request: Segment.Request,
    newest: Frame | None,
    sessions: Sessions,
    options: SegmenterOptions,
) -> Segment.Response:
    """Carry out a request; without data in its image, the session's or the `newest` one is meant.

    The image is encoded with `options`. No other thread may be using the segmenter, unless its
    engine is concurrent.

    Raises:
        AopsamError: if it cannot be done; the message says why.
    """
    prompt, given = prompt_of(request), request.image
    has_image = given.width or given.height or len(given.data)
    session = sessions.find(request.session) if request.session and not has_image else None
    is_continued = session is not None
    if session is None:
        if newest is None and not has_image:
            raise InputError("no image has come yet")
        image = given if newest is None or has_image else newest.image
        rgb = to_rgb(image, bridge_reader())
        session = Session(image.header, Refinement(segmenter, rgb, options))
    response = Segment.Response(success=True, header=session.header, continued=is_continued)
    height, width = session.refinement.size
    if len(request.mask.counts):
        prompt = replace(prompt, mask=decode_full(request.mask, height, width))
    if request.session and not is_continued:
        sessions.begin(request.session, session)
    with session.lock:
        masks = session.refinement.answer(prompt, request.all_masks)
    response.height, response.width = height, width
    notes = []
    if prompt.box and (prompt.box[2] > width or prompt.box[3] > height):
        notes.append("the box was cut at the image's edges")
    if prompt.mask is not None and not segmenter.engine.accepts_mask_input:
        notes.append("the model has no mask input: the mask was ignored")
    response.message = "; ".join(notes)
    response.masks = [segmentations.mask_message(mask) for mask in masks]
    return response
