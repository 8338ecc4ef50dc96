"""The process around the node: its executor, and an end that is clean whatever happens."""

from __future__ import annotations

import signal
import traceback
from typing import TYPE_CHECKING

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import uninstall_signal_handlers

if TYPE_CHECKING:
    from aopsam_ros.ros.node import AopsamNode


def spin(node: AopsamNode) -> None:
    """Serve the node's callbacks; one that fails is logged and does not end the node."""
    executor = SingleThreadedExecutor()
    try:
        executor.add_node(node)
        if node.parameters.autostart:
            node.autostart()
        _serve(executor, node)
    finally:
        # rclpy's own thread for signals wakes executors, and crashes on one that is just being
        # freed. This waits for that thread, while the executor is still there.
        uninstall_signal_handlers()


def _serve(executor: SingleThreadedExecutor, node: AopsamNode) -> None:
    while rclpy.ok():
        try:
            executor.spin_once()
        except ExternalShutdownException:
            return
        except Exception:
            if not rclpy.ok():  # a signal between two waits: everything fails from then on
                return
            node.on_callback_failed(traceback.format_exc())


def finish(node: AopsamNode | None) -> None:
    """End the worker and ROS; a second Ctrl-C must not turn a clean end into a traceback."""
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_IGN)
    if node is not None:
        node.release()
        node.destroy_node()
    rclpy.try_shutdown()
