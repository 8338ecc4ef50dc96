"""The service `~/segment`: prompts from outside, answered between two frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future

from aopsam_ros.ros.pipeline import Pipeline
from aopsam_ros.srv import Segment

BUSY = "too many requests wait already"
NOT_ACTIVE = "the node is not active"


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
        self, node: Node, pipeline: Callable[[], Pipeline | None], timeout_ms: Callable[[], int]
    ) -> None:
        """Offer the service; `pipeline` is None while the node has none."""
        self._pipeline = pipeline
        self._timeout_ms = timeout_ms
        self._waiting: list[_Waiting] = []
        self._wake = node.create_guard_condition(lambda: None)
        node.create_service(
            Segment, "~/segment", self._on_request, callback_group=ReentrantCallbackGroup()
        )

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
        pipeline = self._pipeline()
        if pipeline is None or not pipeline.running:
            waiting.refuse(NOT_ACTIVE)
        elif not pipeline.submit(lambda: self._work(pipeline, waiting)):
            waiting.refuse(BUSY)

    def _work(self, pipeline: Pipeline, waiting: _Waiting) -> None:
        """Answer, in a worker's thread."""
        if not waiting.answer.done():
            waiting.finish(pipeline.answer(waiting.request))
            self._wake.trigger()

    def expire(self) -> None:
        """Refuse what waited for too long; called from time to time."""
        for waiting in self._waiting:
            if time.monotonic() > waiting.deadline:
                waiting.refuse("timed out: the model was busy")

    def refuse_all(self) -> None:
        """Refuse what still waits when the node stops working."""
        for waiting in self._waiting:
            waiting.refuse(NOT_ACTIVE)
