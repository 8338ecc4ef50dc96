"""nav2's lifecycle manager with `bond_timeout: 0.0`: its calls, in its order, within its time.

The manager is in C++ and not at hand; what it does was read in nav2_lifecycle_manager of Jazzy.
Each transition is a call of change_state with an id alone; then get_state must give its goal.
"""

import time
from pathlib import Path

import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState

from support.messages import image_of
from support.scenes import boxes_scene

SERVICE_TIMEOUT_S = 5.0
GOALS = {
    Transition.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
    Transition.TRANSITION_DEACTIVATE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_CLEANUP: State.PRIMARY_STATE_UNCONFIGURED,
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: State.PRIMARY_STATE_FINALIZED,
}
CONFIGURE, ACTIVATE, DEACTIVATE, CLEANUP, SHUTDOWN = GOALS


@pytest.fixture
def managed(robot, tiny_folder):
    robot.start_node(model=tiny_folder)  # as `autostart:=false` leaves it
    return robot


def queued_s(robot):
    """How long each thread of node and test has waited for a core: other programs' time."""
    tasks = [t for pid in (robot.process.pid, "self") for t in Path(f"/proc/{pid}/task").iterdir()]
    return {task.name: int((task / "schedstat").read_text().split()[1]) / 1e9 for task in tasks}


def change_state_for_node(robot, transition):
    """What the manager's method of that name does, without the bond."""
    begun, before = time.monotonic(), queued_s(robot)
    request = ChangeState.Request(transition=Transition(id=transition))
    changed = robot.call(ChangeState, "change_state", request).success
    now = robot.call(GetState, "get_state", GetState.Request()).current_state.id
    taken = time.monotonic() - begun
    queued = sum(now - before.get(task, 0.0) for task, now in queued_s(robot).items())
    assert taken - queued < SERVICE_TIMEOUT_S
    return changed and now == GOALS[transition]


def test_startup_pause_resume_reset_and_shutdown(managed):
    commands = {
        "startup": (CONFIGURE, ACTIVATE),
        "pause": (DEACTIVATE,),
        "resume": (ACTIVATE,),
        "reset": (DEACTIVATE, CLEANUP),
        "startup again": (CONFIGURE, ACTIVATE),
        "shutdown": (DEACTIVATE, CLEANUP, SHUTDOWN),
    }
    for name, transitions in commands.items():
        for transition in transitions:
            assert change_state_for_node(managed, transition), (name, transition)
        if transitions[-1] == ACTIVATE:
            assert len(managed.answer(image_of(boxes_scene())).masks) == 2
    assert managed.stop_node() == 0
    assert not managed.logged("Traceback"), managed.log.read_text()


def test_a_hard_reset_of_a_node_that_is_down_already_is_refused_and_harmless(managed):
    """After another node's crash the manager sends every transition, whatever the state."""
    assert change_state_for_node(managed, CONFIGURE)
    assert not change_state_for_node(managed, CONFIGURE)
    for transition in (CLEANUP, DEACTIVATE, CLEANUP):
        change_state_for_node(managed, transition)
    assert managed.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert change_state_for_node(managed, CONFIGURE) and change_state_for_node(managed, ACTIVATE)
