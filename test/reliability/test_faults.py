"""Errors inside every callback: the node ends in the state that ROS expects, and says why."""

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition

from aopsam_ros import errors
from aopsam_ros.srv import Segment
from support.messages import image_of
from support.scenes import boxes_scene

GOOD = image_of(boxes_scene())
UNCONFIGURED = State.PRIMARY_STATE_UNCONFIGURED
INACTIVE = State.PRIMARY_STATE_INACTIVE
FINALIZED = State.PRIMARY_STATE_FINALIZED
CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
DEACTIVATE, CLEANUP = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP
WAY = {CONFIGURE: (), ACTIVATE: (CONFIGURE,), DEACTIVATE: (CONFIGURE, ACTIVATE)}
WAY[CLEANUP] = (CONFIGURE,)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory, tiny_folder):
    from support.live import Robot

    with Robot(tmp_path_factory.mktemp("node")) as client:
        patience = {"segment__timeout_ms": 60_000}
        client.start_node(module="support.faulty_node", model=tiny_folder, **patience)
        yield client


def back_to_the_start(robot):
    """Leave the node unconfigured, without a fault."""
    assert robot.set(fault="") == []
    robot.clean_up()
    assert robot.state() == UNCONFIGURED


TRANSITIONS = {
    "refused model": (CONFIGURE, "Segmenter.from_bundle:BundleError", UNCONFIGURED),
    "model out of memory": (CONFIGURE, "Segmenter.from_bundle:MemoryError", UNCONFIGURED),
    "warm-up fails": (CONFIGURE, "module.warm_up:InferenceError", UNCONFIGURED),
    "warm-up breaks": (CONFIGURE, "module.warm_up:RuntimeError", UNCONFIGURED),
    "topics break": (CONFIGURE, "Publishers.__init__:RuntimeError", UNCONFIGURED),
    "subscription refused": (ACTIVATE, "Subscriptions.__init__:OptionError", INACTIVE),
    "subscription breaks": (ACTIVATE, "Subscriptions.__init__:RuntimeError", UNCONFIGURED),
    "no thread": (ACTIVATE, "NewestWorker.start:RuntimeError", UNCONFIGURED),
    "worker does not stop": (DEACTIVATE, "Pipeline.stop:RuntimeError:1", UNCONFIGURED),
    "a refusal to stop": (DEACTIVATE, "Pipeline.stop:EngineError:1", UNCONFIGURED),
    "markers stay": (DEACTIVATE, "Publishers.clear:RuntimeError", UNCONFIGURED),
    "requests stay": (DEACTIVATE, "SegmentService.stop:RuntimeError:1", UNCONFIGURED),
    "topics stay": (CLEANUP, "AopsamNode.destroy_lifecycle_publisher:RuntimeError:1", UNCONFIGURED),
    "model stays": (CLEANUP, "Segmenter.close:EngineError", UNCONFIGURED),
}


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_failing_transition_ends_as_ros_expects_and_the_node_can_be_used_again(faulty, name):
    transition, fault, state = TRANSITIONS[name]
    back_to_the_start(faulty)
    for step in WAY[transition]:
        assert faulty.change(step)
    assert faulty.set(fault=fault) == []
    faulty.log.write_text("")
    assert not faulty.change(transition)
    assert faulty.state() == state
    expected = hasattr(errors, fault.split(":")[1])  # an error of this package explains itself
    assert faulty.logged("Traceback") != expected
    level, text, _ = faulty.next_health()
    assert level == DiagnosticStatus.ERROR
    assert "failed: " in text and "made up" in text
    back_to_the_start(faulty)
    faulty.activate()
    assert len(faulty.answer(GOOD).masks) == 2
    assert faulty.node.count_publishers("/aopsam/masks") == 1


def test_a_node_whose_activation_was_refused_is_well_once_it_is_active(faulty):
    back_to_the_start(faulty)
    assert faulty.configure()
    assert faulty.set(fault="Subscriptions.__init__:OptionError") == []
    assert not faulty.change(ACTIVATE)
    assert faulty.next_health()[0] == DiagnosticStatus.ERROR
    assert faulty.set(fault="") == []
    faulty.activate()
    assert faulty.next_health()[0] != DiagnosticStatus.ERROR
    assert len(faulty.answer(GOOD).masks) == 2


CALLBACKS = (  # an error of its own each: one kind is logged once in some seconds
    "Pipeline.put:KeyError",
    "Pipeline.on_image:IndexError",
    "Subscriptions.adapt:RuntimeError",
    "Statistics.report:MemoryError",
)


def test_a_callback_that_raises_is_logged_and_the_next_one_served(faulty):
    back_to_the_start(faulty)
    faulty.activate()
    for place in CALLBACKS:
        before = faulty.log.read_text().count("a callback failed")
        assert faulty.set(fault=place) == []

        def reported(before=before):
            faulty.send(GOOD)
            return faulty.log.read_text().count("a callback failed") > before

        faulty.wait(reported, f"nothing was logged of {place}")
        assert faulty.set(fault="") == []
        assert len(faulty.answer(GOOD).masks) == 2


def test_failures_of_the_engine_are_errors_and_it_goes_on_after(faulty):
    back_to_the_start(faulty)
    faulty.activate()
    assert faulty.set(fault="Segmenter.segment:MemoryError") == []

    def stays():
        """A slow camera: with no further image, nothing is known to be right again."""
        _, before = faulty.reported(DiagnosticStatus.ERROR, "made up", GOOD)
        level, _, values = faulty.next_health()
        unchanged = values["frames_failed"] == before["frames_failed"]
        return unchanged and level == DiagnosticStatus.ERROR

    faulty.wait(stays, "the error is forgotten")
    assert faulty.set(fault="") == []
    assert len(faulty.answer(GOOD).masks) == 2
    faulty.reported(DiagnosticStatus.OK, image=GOOD)


def test_an_error_that_cannot_be_reported_does_not_end_the_worker(faulty):
    back_to_the_start(faulty)
    faulty.activate()
    # Out of memory, and none to write of it either.
    assert faulty.set(fault="Publishers.publish:MemoryError") == []
    faulty.send(GOOD)
    assert faulty.set(fault="Pipeline._fail:MemoryError") == []
    bad = image_of(boxes_scene())
    bad.encoding = "none"
    faulty.reported(DiagnosticStatus.ERROR, image=bad)
    assert faulty.set(fault="") == []
    assert len(faulty.answer(GOOD).masks) == 2


def test_a_failing_view_does_not_keep_masks_back(faulty):
    back_to_the_start(faulty)
    faulty.activate()
    assert faulty.set(fault="Publishers.publish_views:RuntimeError") == []
    assert len(faulty.answer(GOOD).masks) == 2
    text, values = faulty.reported(DiagnosticStatus.WARN, "shown in part only", GOOD)
    assert text == "shown in part only: RuntimeError('made up')"
    assert int(values["frames_segmented"]) > 0 and values["frames_failed"] == "0"


def test_a_request_that_breaks_is_answered(faulty):
    back_to_the_start(faulty)
    faulty.activate()
    request = Segment.Request(points=[64.0, 64.0], image=GOOD)
    for fault in ("Segmenter.encode:OverflowError", "NewestWorker.submit:RuntimeError"):
        assert faulty.set(fault=fault) == []
        answer = faulty.call(Segment, "segment", request)
        assert not answer.success
        assert "made up" in answer.message
    assert faulty.logged("a request failed: Traceback")
    assert faulty.set(fault="") == []
    assert faulty.call(Segment, "segment", request).success


def test_an_engine_that_hangs_is_reported_and_the_node_can_end(robot, tiny_folder):
    robot.start_node(module="support.faulty_node", model=tiny_folder, hasty=True)
    robot.activate()
    hangs = DiagnosticStatus.ERROR, "the engine has not answered for"
    assert robot.set(fault="Segmenter.segment:Hang") == []
    robot.reported(*hangs, GOOD)
    assert robot.set(fault="") == []  # it may come to its senses
    assert len(robot.answer(GOOD).masks) == 2
    robot.reported(DiagnosticStatus.OK, image=GOOD)
    assert robot.set(fault="Segmenter.segment:Hang") == []
    robot.reported(*hangs, GOOD)
    assert not robot.change(DEACTIVATE)
    assert robot.state() == FINALIZED
    level, text, _ = robot.next_health()
    assert level == DiagnosticStatus.ERROR
    assert "does not finish" in text
    assert robot.stop_node() == 0


def test_what_can_never_be_freed_ends_finalized(robot, tiny_folder):
    robot.start_node(module="support.faulty_node", model=tiny_folder)
    robot.activate()
    assert robot.set(fault="Pipeline.stop:RuntimeError") == []
    assert not robot.change(DEACTIVATE)
    assert robot.state() == FINALIZED
    robot.wait(lambda: robot.node.count_publishers("/aopsam/masks") == 0, "topics remain")
    assert robot.set(fault="") == []
    assert robot.stop_node() == 0
