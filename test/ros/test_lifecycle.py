"""The node's life: transitions, faults of the model, start and end of the process."""

import contextlib
import gc
import itertools
import re
import signal
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from visualization_msgs.msg import Marker

from aopsam_ros.ros import lifecycle
from aopsam_ros.ros.lifecycle import (
    guarded_transition,
    handle_signals,
    remove_dead_references,
    spin,
)
from support.live import TIMEOUT_S, TOPICS
from support.messages import image_of, stamp_of
from support.scenes import boxes_scene
from support.tiny_bundle import write_tiny_bundle

GOOD = image_of(boxes_scene())
IMPOSSIBLE = "ROS cannot start with these arguments: "


def test_the_whole_cycle_twice_then_a_clean_end(robot, tiny_folder):
    robot.start_node(model=tiny_folder)
    for _ in range(2):
        assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED
        assert robot.configure()
        assert robot.state() == State.PRIMARY_STATE_INACTIVE
        robot.wait(lambda: robot.images.get_subscription_count() == 0, "it listens already")
        robot.activate()
        assert len(robot.answer(GOOD).masks) == 2
        robot.answer(GOOD, "prompt_markers")

        assert robot.change(Transition.TRANSITION_DEACTIVATE)
        assert robot.state() == State.PRIMARY_STATE_INACTIVE
        robot.wait(lambda: robot.images.get_subscription_count() == 0, "it still listens")
        robot.wait(lambda: no_markers(robot), "the markers stay")
        stamp = robot.send(GOOD).nanosec
        robot.spin(0.2)
        messages = itertools.chain.from_iterable(robot.received.values())
        assert stamp not in map(stamp_of, messages)

        robot.activate()
        assert len(robot.answer(GOOD).masks) == 2
        robot.clean_up()
        robot.wait(lambda: not publishers(robot), "topics remain after cleanup")
    robot.activate()
    first = robot.answer(GOOD, "prompt_markers").markers
    assert first[0].action == Marker.DELETEALL  # of a node before, which may have been killed
    assert robot.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert robot.state() == State.PRIMARY_STATE_FINALIZED
    robot.wait(lambda: no_markers(robot), "the markers stay after shutdown")
    robot.wait(lambda: not publishers(robot), "topics remain after shutdown")
    assert robot.stop_node() == 0
    assert not robot.logged("Traceback"), robot.log.read_text()


def no_markers(robot):
    newest = robot.received["prompt_markers"][-1].markers
    return [marker.action for marker in newest] == [Marker.DELETEALL]


def publishers(robot):
    return [topic for topic in TOPICS if robot.node.count_publishers(f"/aopsam/{topic}")]


def test_transitions_that_the_state_does_not_have_are_refused(active):
    assert not active.configure()
    assert active.state() == State.PRIMARY_STATE_ACTIVE
    assert len(active.answer(GOOD).masks) == 2
    active.clean_up()
    for transition in (Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE, 99):
        assert not active.change(transition)
    active.activate()
    assert len(active.answer(GOOD).masks) == 2


@pytest.mark.parametrize(
    ("name", "left"), [("cleanup", ""), ("configure", ""), ("error", "activate failed: no topic")]
)
def test_a_problem_is_over_once_another_transition_succeeds(name, left):
    node = SimpleNamespace(problem="activate failed: no topic")
    callback = Mock(__name__=f"on_{name}", __doc__="", return_value="success")
    assert guarded_transition(callback)(node, None) == "success"
    assert node.problem == left


def test_what_cannot_be_configured_is_refused_with_a_reason_and_a_good_bundle_taken_after(
    active, tiny_folder, tmp_path
):
    garbage = SimpleNamespace(SerializeToString=lambda: b"this is not a graph")
    useless = write_tiny_bundle(tmp_path / "useless", models={"encoder": garbage})
    impossible = write_tiny_bundle(
        tmp_path / "impossible", defaults={"asf": {"confidence_threshold": 42.0}}
    )
    active.clean_up()
    for name, value, reason in (
        ("engine", "tensorrt", "no NVIDIA driver"),
        ("engine", "abacus", "unknown engine 'abacus'"),
        ("precision", "int3", "unknown precision 'int3'"),
        ("prompt_source", "oracle", "unknown prompt source 'oracle'"),
        ("model", str(tmp_path / "nowhere"), "nowhere"),
        ("model", str(useless), "encoder"),
        ("model", str(impossible), "confidence_threshold"),
    ):
        before = active.get(name)
        assert active.set(**{name: value}) == []
        assert not active.configure()
        assert active.state() == State.PRIMARY_STATE_UNCONFIGURED
        line = active.log.read_text().splitlines()[-1]
        assert "configure failed: " in line and reason in line, line
        assert active.set(**{name: before}) == []
    assert not active.logged("Traceback"), active.log.read_text()
    level, text, _ = active.next_health()
    assert level == DiagnosticStatus.ERROR
    assert "confidence_threshold" in text

    active.activate()
    assert len(active.answer(GOOD).masks) == 2
    _, values = active.reported(DiagnosticStatus.OK, image=GOOD)
    assert values["model"] == "tiny"


@pytest.mark.parametrize(
    ("is_good", "sign"), [(True, signal.SIGINT), (False, signal.SIGTERM)], ids=["good", "bad"]
)
def test_autostart_with_a_bundle_good_or_bad_and_a_clean_end_by_signal(
    robot, tiny_folder, tmp_path, is_good, sign
):
    robot.start_node(model=tiny_folder if is_good else tmp_path / "nowhere", autostart=True)
    if not is_good:  # it waits for a good one
        assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED
        assert robot.set(model=str(tiny_folder)) == []
        robot.activate()
    robot.wait_for_subscription()
    assert len(robot.answer(GOOD).masks) == 2
    robot.answer(GOOD, "prompt_markers")
    for _ in range(20):
        robot.send(GOOD)  # the signal comes while it works
    assert robot.stop_node(sign) == 0
    robot.wait(lambda: no_markers(robot), "the markers stay")
    assert not robot.logged("Traceback"), robot.log.read_text()


@pytest.fixture
def signals():
    """What handles signals as a node starts: when they came, and how to send one."""
    before, signalled = [signal.getsignal(sign) for sign in lifecycle.SIGNALS], []
    handle_signals(signalled, at_once=True)
    yield signalled
    for sign, handler in zip(lifecycle.SIGNALS, before, strict=True):
        signal.signal(sign, handler)


def test_a_signal_that_is_repeated_at_once_interrupts_only_once(signals, monkeypatch):
    """As by `ros2 launch`: the second would interrupt the clean end that the first begins."""
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    monkeypatch.setattr(lifecycle, "IMPATIENT_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


def test_an_interrupt_that_is_lost_as_the_node_starts_ends_it_all_the_same(signals, monkeypatch):
    """Python ignores one that is raised in a destructor, as of rclpy's loggers."""
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    monkeypatch.setattr(rclpy, "ok", lambda: True)
    executor = Mock()
    spin(executor, Mock(), signals)
    executor.spin_once.assert_not_called()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("-p asf.filtering:=guess", "asf.filtering must be one of"),
        ("-p mask.hysteresis:=0", "mask.hysteresis.*write 1.0, not 1"),
        ("-r image:=2x", f"{IMPOSSIBLE}.*Couldn't parse remap rule: '-r image:=2x'"),
        ("--loud", f"{IMPOSSIBLE}.*--loud"),
    ],
)
def test_what_cannot_be_started_ends_with_one_clear_line(robot, arguments, reason):
    robot.start_node(*arguments.split(), wait=False)
    assert robot.process.wait(TIMEOUT_S) == 1
    (line,) = robot.log.read_text().strip().splitlines()
    assert re.search(reason, line), line


def test_silence_is_reported_once_with_the_topic_and_its_publishers(active):
    active.reported(DiagnosticStatus.OK, image=GOOD)  # it may have been silent before
    kind = "sensor_msgs/msg/Image, reliable and volatile"
    warning = (
        f"no image on /image for 5 s: 1 publishers found (robot: {kind}), this node takes {kind}"
    )
    active.reported(DiagnosticStatus.WARN, "no images arrive")
    assert active.logged(warning)
    said = active.log.read_text().count("no image on")
    assert active.fresh_health()[1] == "no images arrive"
    assert active.log.read_text().count("no image on") == said
    assert len(active.answer(GOOD).masks) == 2
    active.reported(DiagnosticStatus.OK, image=GOOD)


BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def test_images_too_large_for_the_middleware_are_lost_loudly(robot, tiny_folder):
    """As from a camera whose driver runs with Fast DDS's own settings: most images lose pieces."""
    robot.start_node(model=tiny_folder)  # its own, as it warns of losses once a minute
    robot.activate()
    robot.publish_images(qos=BEST_EFFORT)
    large = image_of(np.zeros((480, 640, 3), np.uint8))

    def warned():
        robot.send(large)
        robot.spin(0.1)
        return robot.health()[1].endswith("(docs/robot.md)")

    robot.wait(warned, "no warning")
    level, text, values = robot.health()
    assert level == DiagnosticStatus.WARN and "of the images are lost on their way" in text
    assert int(values["frames_lost"]) > 0
    assert robot.logged("images were lost on their way; give the")
    assert robot.logged("/image: switched to best effort, as its publishers do")
    robot.reported(DiagnosticStatus.WARN, "no images arrive")  # it does not stay


def test_a_topic_of_two_types_is_named_as_that(active):
    active.reported(DiagnosticStatus.OK, image=GOOD)  # it may have been silent before
    active.publish_images(kind=CompressedImage)
    active.reported(DiagnosticStatus.WARN, "no images arrive")
    assert active.logged("sensor_msgs/msg/CompressedImage cannot be received on it")


def test_the_first_start_on_a_gpu_is_no_hang_and_the_second_is_fast(
    robot, tiny_folder, monkeypatch, tmp_path
):
    monkeypatch.setenv("AOPSAM_ENGINE_CACHE", str(tmp_path / "engines"))
    robot.start_node(module="support.gpu", model=tiny_folder)
    robot.activate()
    levels = {}

    def all_reported():
        """One at least for each of the three graphs: reports come once a second."""
        seen = [report.status[0] for report in robot.diagnostics]
        building = [s for s in seen if "not ready: building the TensorRT engine of" in s.message]
        levels.update({s.message.split(":")[1]: s.level for s in building})
        return len(levels) == 3

    robot.wait(all_reported, "an engine was built in silence")
    assert set(levels.values()) == {DiagnosticStatus.WARN}
    assert robot.logged("this takes minutes, once")
    assert robot.logged("engine tensorrt on cuda (auto)")
    assert len(robot.answer(GOOD).masks) == 2
    text, values = robot.reported(DiagnosticStatus.OK, image=GOOD)
    assert text == "segmenting"
    assert (values["engine"], values["precision"]) == ("tensorrt", "fp16")

    robot.clean_up()
    robot.activate()
    assert len(robot.answer(GOOD).masks) == 2
    assert robot.log.read_text().count("this takes minutes, once") == 3
    assert robot.stop_node() == 0


def test_nothing_is_kept_of_publishers_that_are_gone(context):
    node = rclpy.create_node("aopsam", context=context, enable_rosout=False)
    lives = node.create_subscription(Image, "image", lambda _: None, 1)
    entities = node.default_callback_group.entities
    before = len(entities)
    for _ in range(5):
        node.destroy_publisher(node.create_publisher(Image, "image", 1))
    gc.collect()
    remove_dead_references(node)
    assert len(entities) == before
    assert lives in [reference() for reference in entities]
    node.destroy_node()
