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
    """A request that waits for its response; `deadline` in monotonic seconds."""

    request: Segment.Request
    deadline: float
    answer: Future = field(default_factory=Future)

    def finish(self, response: Segment.Response) -> None:
        if not self.answer.done():
            self.answer.set_result(response)

    def refuse(self, reason: str) -> None:
        self.finish(Segment.Response(success=False, message=reason))


class SegmentService:
    """Answers requests without blocking the executor.

    The callback is a coroutine: a worker's thread carries out the request while the executor serves
    other callbacks. It therefore has a callback group of its own, and the worker wakes the executor
    by a guard condition.
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
        except Exception as error:  # the client gets a response, whatever happens
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
        """Refuse requests that have waited too long; called once a second."""
        for waiting in self._waiting:
            if time.monotonic() > waiting.deadline:
                waiting.refuse("timed out: the model was busy")

    def refuse_all(self) -> None:
        """Refuse all requests that wait."""
        for waiting in self._waiting:
            waiting.refuse(NOT_ACTIVE)
