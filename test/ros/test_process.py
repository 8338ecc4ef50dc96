"""The loop around the node: a failing callback is told; that ROS ends is no failure."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from aopsam_ros.ros import process


class Node:
    """What the loop asks of a node; it remembers what it was told."""

    def __init__(self):
        self.parameters = SimpleNamespace(autostart=False)
        self.failures = []

    def on_callback_failed(self, trace):
        self.failures.append(trace)


class Executor:
    """Runs the given steps in turn, as `spin_once` would run callbacks."""

    def __init__(self, steps):
        self._steps = iter(steps)

    def add_node(self, node):
        pass

    def spin_once(self):
        next(self._steps)()


@pytest.fixture
def ros(monkeypatch):
    """A stand-in for the state of ROS in this process; `run` spins a node through steps."""
    state = SimpleNamespace(up=True)

    def run(*steps):
        node = Node()
        monkeypatch.setattr(process, "SingleThreadedExecutor", lambda: Executor(steps))
        process.spin(node)
        return node.failures

    monkeypatch.setattr(process.rclpy, "ok", lambda: state.up)
    state.run = run
    return state


def test_a_failing_callback_is_told_and_the_next_is_served(ros):
    served = []

    def fail():
        raise ValueError("a bad callback")

    def end():
        served.append(True)
        ros.up = False

    (failure,) = ros.run(fail, end)
    assert "ValueError: a bad callback" in failure
    assert served


def test_a_signal_between_two_waits_is_no_failure(ros):
    def signal_comes():
        ros.up = False
        raise RuntimeError("failed to initialize wait set: the given context is not valid")

    assert ros.run(signal_comes) == []


INTERRUPTED = """
import os, signal, threading
import rclpy
from types import SimpleNamespace
from rclpy.executors import SingleThreadedExecutor
from aopsam_ros.ros import process

class Idle(SingleThreadedExecutor):
    def add_node(self, node):
        pass

    def spin_once(self):
        super().spin_once(timeout_sec=1.0)

process.SingleThreadedExecutor = Idle
node = SimpleNamespace(parameters=SimpleNamespace(autostart=False))
for _ in range(300):
    rclpy.init()
    alarm = threading.Timer(0.002, os.kill, (os.getpid(), signal.SIGINT))
    for step in (alarm.start, lambda: process.spin(node), alarm.join, alarm.join):
        try:
            step()
        except KeyboardInterrupt:
            pass
        except Exception:
            if rclpy.ok():  # else the signal came before the executor, which `main` takes as an end
                raise
    rclpy.try_shutdown()
print("done")
"""


def test_a_signal_never_meets_an_executor_that_is_gone():
    """Rclpy's thread for signals crashed within 100 of these rounds before."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
