"""The service `~/segment`: prompts from outside, answered between two frames."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image

from aopsam_ros.errors import AopsamError, InputError
from aopsam_ros.images.encodings import to_rgb
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.ros.messages import segmentations
from aopsam_ros.ros.messages.images import bridge_reader
from aopsam_ros.ros.pairing import Frame
from aopsam_ros.ros.services.sessions import Session, Sessions
from aopsam_ros.ros.worker import NewestWorker
from aopsam_ros.segmentation.interactive import Refinement, UserPrompt
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.srv import Segment

BUSY = "too many requests wait already"
NOT_ACTIVE = "the node is not active"


@dataclass(frozen=True)
class ServedModel:
    """What requests are answered with."""

    worker: NewestWorker[Frame]  # its threads may use the segmenter
    segmenter: Segmenter
    newest: Callable[[], Frame | None]  # the newest image received


@dataclass
class _Waiting:
    """A request, until when it may wait (monotonic seconds), and its answer to come."""

    request: Segment.Request
    deadline: float
    answer: Future = field(default_factory=Future)

    def finish(self, response: Segment.Response) -> None:
        if not self.answer.done():
            self.answer.set_result(response)

    def refuse(self, reason: str) -> None:
        self.finish(Segment.Response(success=False, message=reason))


class SegmentService:
    """Answers requests without keeping the executor from its other work.

    The callback is a coroutine: it hands the request to a worker's thread and gives the executor
    back until the answer is there. It therefore has a callback group of its own, and wakes the
    executor by a guard condition.
    """

    def __init__(
        self,
        node: Node,
        timeout_ms: Callable[[], int],
        session_s: Callable[[], float],
        on_failure: Callable[[str], None],
    ) -> None:
        """Offer the service; until `serve`, every request is refused.

        `timeout_ms` returns how long a request may wait, `session_s` how long a session lives
        without one; `on_failure` is called with what went wrong unexpectedly.
        """
        self._timeout_ms = timeout_ms
        self._session_s = session_s
        self._sessions = Sessions()
        self._on_failure = on_failure
        self._model: ServedModel | None = None
        self._waiting: list[_Waiting] = []
        self._wake = node.create_guard_condition(lambda: None)
        node.create_service(
            Segment, "~/segment", self._on_request, callback_group=ReentrantCallbackGroup()
        )

    def serve(self, model: ServedModel) -> None:
        """Answer requests from now on."""
        self._model = model

    async def _on_request(
        self, request: Segment.Request, _response: Segment.Response
    ) -> Segment.Response:
        waiting = _Waiting(request, time.monotonic() + self._timeout_ms() / 1000)
        self._waiting.append(waiting)
        try:
            self._hand_over(waiting)
        except Exception as error:  # who asks gets an answer, whatever happens
            waiting.refuse(repr(error))
        response = await waiting.answer
        self._waiting.remove(waiting)
        return response

    def _hand_over(self, waiting: _Waiting) -> None:
        model = self._model
        if model is None:
            waiting.refuse(NOT_ACTIVE)
        elif not model.worker.submit(lambda: self._work(model, waiting)):
            waiting.refuse(BUSY)

    def _work(self, model: ServedModel, waiting: _Waiting) -> None:
        """Answer, in a worker's thread."""
        if waiting.answer.done():
            return
        newest = model.newest()
        try:
            image = None if newest is None else newest.image
            found = answer(model.segmenter, waiting.request, image, self._sessions)
            waiting.finish(found)
        except AopsamError as error:
            waiting.refuse(str(error))
        except Exception as error:
            self._on_failure(f"a request failed: {traceback.format_exc()}")
            waiting.refuse(repr(error))
        self._wake.trigger()

    def expire(self) -> None:
        """Refuse what waited for too long, end forgotten sessions; called from time to time."""
        self._sessions.expire(self._session_s())
        for waiting in self._waiting:
            if time.monotonic() > waiting.deadline:
                waiting.refuse("timed out: the model was busy")

    def stop(self) -> None:
        """Refuse what still waits, and every request from now on."""
        self._model = None
        self._sessions.clear()
        for waiting in self._waiting:
            waiting.refuse(NOT_ACTIVE)


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
    roi, box = request.box, None
    if roi.width or roi.height:
        if not (roi.width and roi.height):
            raise InputError(f"the box of {roi.width}x{roi.height} pixels is empty")
        left, top = float(roi.x_offset), float(roi.y_offset)
        box = (left, top, left + roi.width, top + roi.height)
    return UserPrompt(points, labels, box)


def answer(
    segmenter: Segmenter,
    request: Segment.Request,
    newest: Image | CompressedImage | None,
    sessions: Sessions,
) -> Segment.Response:
    """Carry out a request; without data in its image, the session's or the `newest` one is meant.

    No other thread may be using the segmenter, unless its engine is concurrent.

    Raises:
        AopsamError: if it cannot be done; the message says why.
    """
    prompt, given = prompt_of(request), request.image
    has_image = given.width or given.height or len(given.data)
    session = sessions.find(request.session) if request.session and not has_image else None
    is_continued = session is not None
    if session is None:
        image = given if has_image else newest
        if image is None:
            raise InputError("no image has come yet")
        rgb = to_rgb(image, bridge_reader())
        session = Session(image.header, Refinement(segmenter, rgb))
        if request.session:
            sessions.begin(request.session, session)
    response = Segment.Response(success=True, header=session.header, continued=is_continued)
    height, width = session.refinement.size
    if len(request.mask.counts):
        prompt = replace(prompt, mask=decode_full(request.mask, height, width))
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
