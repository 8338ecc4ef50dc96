"""What rclpy leaves to lifecycle nodes: errors that are told, and refusals that are answered."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any

from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from aopsam_ros.errors import AopsamError

Transition = Callable[[Any, LifecycleState], TransitionCallbackReturn]
Service = Callable[[Any, Any], Any]

_REFUSABLE = ("configure", "activate")
_REFUSED = TransitionCallbackReturn.FAILURE


def told(callback: Transition) -> Transition:
    """Log what goes wrong in a transition callback, and return what ROS expects then.

    An error of this package is a refusal to configure or to activate: FAILURE, and the node stays
    in the state it was in. Anything else is unexpected: ERROR, which leads to `on_error`. So is a
    refusal to stop: half stopped, the node is not in the state it was in. rclpy alone would be
    silent.
    The node keeps the reason through its `set_problem`.
    """

    @functools.wraps(callback)
    def wrapper(node: Any, state: LifecycleState) -> TransitionCallbackReturn:  # noqa: ANN401
        name = callback.__name__[len("on_") :]
        try:
            return callback(node, state)
        except AopsamError as error:
            node.set_problem(f"{name} failed: {error}")
            node.get_logger().error(f"{name} failed: {error}")
            return _REFUSED if name in _REFUSABLE else TransitionCallbackReturn.ERROR
        except Exception as error:
            node.set_problem(f"{name} failed: {error!r}")
            if node.context.ok():  # nothing works once ROS is being shut down
                node.get_logger().error(f"{name} failed:\n{traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR

    return wrapper


def answer_impossible_transitions(node: LifecycleNode) -> None:
    """Let a request for a transition that the state does not have be refused.

    rclpy raises in the service's callback: the client waits forever, and a node without further
    care ends.
    """
    for service in node.services:
        if service.srv_type is ChangeState:
            service.callback = _answering(service.callback, node)


def _answering(callback: Service, node: LifecycleNode) -> Service:
    def wrapper(request: Any, response: Any) -> Any:  # noqa: ANN401
        try:
            return callback(request, response)
        except Exception as error:
            asked = request.transition.label or request.transition.id
            node.get_logger().warning(f"transition {asked} is not possible now: {error}")
            response.success = False
            return response

    return wrapper
