"""The demo's way through a node's states, where the node's answers may be lost."""

import time
from types import SimpleNamespace

import pytest
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.task import Future

from aopsam_ros.demo import lifecycle
from aopsam_ros.demo.lifecycle import LifecycleDriver
from aopsam_ros.demo.processes import DemoError


class Service:
    """A client whose first `lost` requests are never answered."""

    def __init__(self, response, lost=0):
        self._response = response
        self._lost = lost
        self.asked = 0

    def service_is_ready(self):
        return True

    def call_async(self, request):
        self.asked += 1
        future = Future()
        if self.asked > self._lost:
            future.set_result(self._response)
        return future


@pytest.fixture
def drive(monkeypatch):
    """Start a node whose services answer as given."""
    monkeypatch.setattr(lifecycle, "_ASK_AGAIN_S", 0.01)
    monkeypatch.setattr(lifecycle, "_TRANSITION_TIMEOUT_S", 0.2)

    def start(**services):
        kinds = {ChangeState: services["change"], GetState: services["get"]}
        driver = LifecycleDriver(
            SimpleNamespace(create_client=lambda kind, name: kinds[kind]),
            SimpleNamespace(spin_once=lambda timeout_sec: time.sleep(0.005)),
            "/aopsam",
            SimpleNamespace(returncode=None, failure=DemoError),
            check=lambda: None,
        )
        driver.start()

    return start


def changed(lost=0):
    return Service(ChangeState.Response(success=True), lost)


def state(lost=0):
    inactive = State(id=State.PRIMARY_STATE_INACTIVE)
    return Service(GetState.Response(current_state=inactive), lost)


def test_transitions_wait_until_the_node_answers(drive):
    change, get = changed(), state(lost=2)
    drive(change=change, get=get)
    assert get.asked == 3
    assert change.asked == 2  # configure, activate: once each


def test_a_node_that_never_answers_is_told(drive):
    change, get = changed(), state(lost=1000)
    with pytest.raises(DemoError, match=r"/aopsam did not tell its state within"):
        drive(change=change, get=get)
    assert change.asked == 0


def test_a_transition_is_not_asked_for_twice(drive, monkeypatch):
    monkeypatch.setattr(lifecycle, "CONFIGURE_TIMEOUT_S", 0.1)
    change = changed(lost=1000)
    with pytest.raises(DemoError, match="did not configure within"):
        drive(change=change, get=state())
    assert change.asked == 1
