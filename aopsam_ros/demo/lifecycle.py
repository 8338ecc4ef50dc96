"""Walks a lifecycle node through its states, by its services and with clear errors."""

from __future__ import annotations

import math
import time
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from aopsam_ros.demo.interrupts import Check
from aopsam_ros.demo.processes import (
    APPEARANCE_TIMEOUT_S,
    CONFIGURE_TIMEOUT_S,
    Child,
    DemoError,
)

_TRANSITION_TIMEOUT_S = 20.0
_ASK_AGAIN_S = 1.0

_VERBS = {
    Transition.TRANSITION_CONFIGURE: "configure",
    Transition.TRANSITION_ACTIVATE: "activate",
    Transition.TRANSITION_DEACTIVATE: "deactivate",
    Transition.TRANSITION_CLEANUP: "clean up",
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: "shut down",
}


class LifecycleDriver:
    """Drives the node `name`, which runs in `process`, from `node` and its `executor`.

    `check` is called while it waits, and raises when the demo is to end.
    """

    def __init__(
        self,
        node: Node,
        executor: SingleThreadedExecutor,
        name: str,
        process: Child,
        check: Check,
    ) -> None:
        self._check = check
        self._executor = executor
        self._name = name
        self._process = process
        # In this order: when the node answers the second, it has heard of the first as well.
        self._change = node.create_client(ChangeState, f"{name}/change_state")
        self._get = node.create_client(GetState, f"{name}/get_state")

    def start(self) -> None:
        """Wait for the node, configure and activate it.

        Raises:
            DemoError: if it does not appear, dies, refuses or takes too long.
        """
        self._wait_for_services()
        self._state()  # a transition cannot be asked for twice, should its answer be lost
        self._transition(Transition.TRANSITION_CONFIGURE, CONFIGURE_TIMEOUT_S)
        self._transition(Transition.TRANSITION_ACTIVATE, _TRANSITION_TIMEOUT_S)

    def finish(self) -> None:
        """Deactivate, clean up and shut down, from whatever state the node is in.

        Raises:
            DemoError: if it died, refuses or takes too long.
        """
        if self._state() == State.PRIMARY_STATE_ACTIVE:
            self._transition(Transition.TRANSITION_DEACTIVATE, _TRANSITION_TIMEOUT_S)
        if self._state() == State.PRIMARY_STATE_INACTIVE:
            self._transition(Transition.TRANSITION_CLEANUP, _TRANSITION_TIMEOUT_S)
        self._transition(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, _TRANSITION_TIMEOUT_S)

    def _wait_for_services(self) -> None:
        deadline = time.monotonic() + APPEARANCE_TIMEOUT_S
        while not (self._change.service_is_ready() and self._get.service_is_ready()):
            self._check_alive()
            if time.monotonic() > deadline:
                raise self._error(f"did not appear within {APPEARANCE_TIMEOUT_S:.0f} s")
            time.sleep(0.05)

    def _state(self) -> int:
        """Ask until the node answers: an answer is lost until it has heard of this side."""
        response = self._call(
            self._get, GetState.Request(), _TRANSITION_TIMEOUT_S, "tell its state", _ASK_AGAIN_S
        )
        return int(response.current_state.id)

    def _transition(self, transition: int, timeout: float) -> None:
        request = ChangeState.Request()
        request.transition.id = transition
        verb = _VERBS[transition]
        if not self._call(self._change, request, timeout, verb).success:
            raise self._error(f"refused to {verb}")

    def _call(
        self,
        client: Client,
        request: Any,  # noqa: ANN401  (of the client's service)
        timeout: float,
        verb: str,
        again_s: float = math.inf,
    ) -> Any:  # noqa: ANN401
        """Call a service, every `again_s` again, until the first answer."""
        futures = [client.call_async(request)]
        begin = time.monotonic()
        while not any(future.done() for future in futures):
            self._executor.spin_once(timeout_sec=0.1)
            self._check_alive()
            waited = time.monotonic() - begin
            if waited > timeout:
                raise self._error(f"did not {verb} within {timeout:.0f} s")
            if waited > again_s * len(futures):
                futures.append(client.call_async(request))
        return next(future for future in futures if future.done()).result()

    def _check_alive(self) -> None:
        self._check()
        code = self._process.returncode
        if code is not None:
            raise self._error(f"ended with exit code {code}")

    def _error(self, what: str) -> DemoError:
        return self._process.failure(f"the node {self._name} {what}")
