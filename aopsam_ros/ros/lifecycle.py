"""What rclpy leaves to lifecycle nodes: error reporting, refusals, and a clean end."""

import functools
import importlib
import re
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version as version_of
from typing import Any

import rclpy
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from aopsam_ros.errors import AopsamError, OptionError

# How long an executor waits for work. Signals are handled in between; and the executor of events
# does nothing without a limit: rclpy 7.1.6 and 9.1.2.
WAIT_S = 0.5
SIGNALS = signal.SIGINT, signal.SIGTERM
IMPATIENT_S = 2.0  # `ros2 launch` repeats a terminal's Ctrl-C at once, and sends SIGTERM after 5 s

Transition = Callable[[Any, LifecycleState], TransitionCallbackReturn]


def guarded_transition(callback: Transition) -> Transition:
    """Log an exception of a transition callback, and return the result that ROS expects.

    An error of this package in configure or activate is a refusal: FAILURE, and the node keeps its
    state. Any other exception, and any error in the other transitions, is ERROR, which leads to
    `on_error`: half stopped, the node has lost its state. rclpy alone would be silent. The node
    keeps the reason as its `problem`, until another transition succeeds.
    """
    name = callback.__name__.removeprefix("on_")

    @functools.wraps(callback)
    def wrapper(node: Any, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ANN401
        try:
            result = callback(node, state)
            node.problem = node.problem if name == "error" else ""
            return result
        except AopsamError as error:
            node.problem = f"{name} failed: {error}"
            node.get_logger().error(node.problem)
            refusal = name in ("configure", "activate")
            return TransitionCallbackReturn.FAILURE if refusal else TransitionCallbackReturn.ERROR
        except Exception as error:
            node.problem = f"{name} failed: {error!r}"
            if node.context.ok():  # logging fails once ROS is being shut down
                node.get_logger().error(f"{name} failed:\n{traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR

    return wrapper


def remove_dead_references(node: LifecycleNode) -> None:
    """Remove what rclpy keeps of publishers and subscriptions that have been destroyed.

    It is a weak reference each, in the callback group, that nothing removes: some kilobytes for
    each configuration. To be called from the executor's thread.
    """
    entities: set[Any] = getattr(node.default_callback_group, "entities", set())
    entities.difference_update([reference for reference in entities if reference() is None])


def refuse_impossible_requests(node: LifecycleNode, warn: Callable[[str], None]) -> None:
    """Answer what rclpy cannot with a refusal.

    That is a transition that the state does not have, and a parameter of no type: there rclpy
    raises in the service's callback, the client waits forever, and the exception ends a node that
    does not catch it.
    """
    for service in node.services:
        if service.srv_type in (ChangeState, SetParameters, SetParametersAtomically):
            service.callback = functools.partial(_answer, service.callback, warn)


def _answer(
    callback: Callable[[Any, Any], Any],
    warn: Callable[[str], None],
    request: Any,  # noqa: ANN401  (of one of three services)
    response: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    try:
        return callback(request, response)
    except Exception as error:
        warn(_refuse(request, response, error))
        return response


def _refuse(request: Any, response: Any, error: Exception) -> str:  # noqa: ANN401
    """Make the response a refusal; return a line for the log."""
    if isinstance(response, ChangeState.Response):
        response.success = False
        transition = request.transition.label or request.transition.id
        return f"transition {transition} is not possible now: {error}"
    refusal = SetParametersResult(successful=False, reason=f"impossible parameters: {error}")
    if isinstance(response, SetParameters.Response):  # some may have been answered
        left = len(request.parameters) - len(response.results)
        response.results = [*response.results, *[refusal] * left]
    else:
        response.result = refusal
    return str(refusal.reason)


def make_executor(kind: str) -> Any:  # noqa: ANN401  (rclpy has no types)
    """Return what waits for messages, as the parameter `executor` says.

    Raises:
        OptionError: if this rclpy has none that works.
    """
    if kind == "single":
        return SingleThreadedExecutor()
    if not events_executor_waits(version_of("rclpy")):
        raise OptionError("executor 'events' needs rclpy 9.1.2 (Kilted), 7.1.11 (Jazzy) or later")
    return importlib.import_module("rclpy.experimental").EventsExecutor()


def events_executor_waits(version: str) -> bool:
    """Tell whether this rclpy's executor of events waits for coroutines.

    There are earlier ones that do not (ros2/rclpy#1473): requests would have no answer.
    """
    numbers = tuple(map(int, re.findall(r"\d+", version)))
    return numbers >= (9, 1, 2) or (7, 1, 11) <= numbers < (8,)


def handle_signals(signalled: list[float], at_once: bool) -> None:
    """Have SIGINT and SIGTERM handled in Python: `signalled` gets the time at which each comes.

    One that comes `IMPATIENT_S` after the first is a KeyboardInterrupt; where `at_once`, so is the
    first. Others are not: they would interrupt the end. rclpy's own handlers end the context:
    nothing can be published any more, as that the markers are to be deleted. A shell may have had
    SIGINT ignored.
    """

    def on_signal(*_: object) -> None:
        signalled.append(time.monotonic())
        is_first = at_once and len(signalled) == 1
        if is_first or signalled[-1] - signalled[0] > IMPATIENT_S:
            raise KeyboardInterrupt

    for sign in SIGNALS:
        signal.signal(sign, on_signal)


def spin(
    executor: Any,  # noqa: ANN401
    on_callback_failed: Callable[[str], None],
    signalled: list[float],
) -> None:
    """Serve callbacks until a signal comes or ROS is shut down.

    A callback that raises does not end them: its traceback goes to `on_callback_failed`. A signal
    lets a callback finish. One that was `signalled` before may not have interrupted anything:
    Python ignores what is raised in a destructor.
    """
    handle_signals(signalled, at_once=False)
    while rclpy.ok() and not signalled:
        try:
            executor.spin_once(WAIT_S)
        except ExternalShutdownException:
            return
        except Exception:
            on_callback_failed(traceback.format_exc())


def shut_down(nodes: Sequence[Node]) -> None:
    """Destroy the nodes and end ROS; signals are ignored from now on, so that the end is clean.

    What cannot be freed, as an engine that hangs, is a line in the log: the process ends anyway.
    """
    for sign in SIGNALS:
        signal.signal(sign, signal.SIG_IGN)
    for node in nodes:
        try:
            node.destroy_node()
        except Exception as error:
            if node.context.ok():  # logging fails once ROS is being shut down
                node.get_logger().error(f"not freed at the end: {error}")
    rclpy.try_shutdown()
