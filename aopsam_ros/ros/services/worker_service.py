"""A service whose requests a worker's thread answers, between two frames."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future

from aopsam_ros.errors import AopsamError
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.ros.parameter_table import FrameConfiguration
from aopsam_ros.ros.worker import NewestWorker

# Answers a request, with the options of the time at which it came.
Respond = Callable[[Any, SegmenterOptions], Any]

BUSY = "too many requests wait already"
NOT_ACTIVE = "the node is not active"
LATE = "timed out: the model was busy"
BEGUN = "timed out while it was worked on: it may be done all the same"


@dataclass
class _Waiting:
    """A request, until when it may wait (monotonic seconds), and its answer to come."""

    request: Any
    deadline: float
    options: SegmenterOptions  # at the time it came
    begun: bool = False
    answer: Future = field(default_factory=Future)


class WorkerService:
    """Answers requests without keeping the executor from its other work.

    The callback is a coroutine: it hands the request to a worker's thread and gives the executor
    back until the answer is there. It therefore has a callback group of its own, and wakes the
    executor, which a guard condition cannot do for the one of events.
    """

    def __init__(
        self,
        node: Node,
        kind: Any,  # noqa: ANN401  (a service's generated class)
        name: str,
        configuration: Callable[[], FrameConfiguration],
        on_failure: Callable[[str], None],
    ) -> None:
        """Offer the service; until `answer_with`, every request is refused.

        Responses of its `kind` have `success` and `message`. `configuration` says how long a
        request may wait, `on_failure` is called with what went wrong unexpectedly.
        """
        self._kind, self._configuration, self._on_failure = kind, configuration, on_failure
        self._worker: NewestWorker[Any] | None = None
        self._respond: Respond | None = None
        self._waiting: list[_Waiting] = []
        self._node = node
        group = ReentrantCallbackGroup()
        node.create_service(kind, name, self._on_request, callback_group=group)

    def answer_with(self, worker: NewestWorker[Any], respond: Respond) -> None:
        """Answer from now on, by `respond` in one of the worker's threads."""
        self._worker, self._respond = worker, respond

    async def _on_request(self, request: Any, _response: Any) -> Any:  # noqa: ANN401
        configuration = self._configuration()
        deadline = time.monotonic() + configuration.segment_timeout_ms / 1000
        waiting = _Waiting(request, deadline, configuration.options)
        self._waiting.append(waiting)
        worker, respond = self._worker, self._respond
        try:
            if worker is None or respond is None:
                self._refuse(waiting, NOT_ACTIVE)
            elif not worker.submit(lambda: self._work(respond, waiting)):
                self._refuse(waiting, BUSY)
        except Exception as error:  # who asks gets an answer, whatever happens
            self._refuse(waiting, repr(error))
        response = await waiting.answer
        self._waiting.remove(waiting)
        return response

    def _work(self, respond: Respond, waiting: _Waiting) -> None:
        """Answer, in a worker's thread."""
        if waiting.answer.done():
            return
        waiting.begun = True
        try:
            response = respond(waiting.request, waiting.options)
            if not waiting.answer.done():
                waiting.answer.set_result(response)
        except AopsamError as error:
            self._refuse(waiting, str(error))
        except Exception as error:
            self._on_failure(f"a request failed: {traceback.format_exc()}")
            self._refuse(waiting, repr(error))
        executor = self._node.executor
        if executor is not None:
            executor.wake()

    def _refuse(self, waiting: _Waiting, reason: str) -> None:
        if not waiting.answer.done():
            waiting.answer.set_result(self._kind.Response(success=False, message=reason))

    def expire(self) -> None:
        """Refuse what waited for too long; called from time to time."""
        for waiting in self._waiting:
            if time.monotonic() > waiting.deadline:
                self._refuse(waiting, BEGUN if waiting.begun else LATE)

    def stop(self) -> None:
        """Refuse what still waits, and every request from now on."""
        self._worker = self._respond = None
        for waiting in self._waiting:
            self._refuse(waiting, NOT_ACTIVE)
