"""The node's life: transitions, faults of the model, start and end of the process."""

import gc
import signal
import subprocess
import sys

import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker

from aopsam_ros.ros.lifecycle import remove_dead_references
from support.live import TOPICS
from support.messages import image_of
from support.scenes import boxes_scene
from support.tiny_bundle import write_tiny_bundle

GOOD = image_of(boxes_scene())


def test_the_whole_cycle_twice_then_a_clean_end(robot, tiny_folder):
    robot.start_node(model=tiny_folder)
    for _ in range(2):
        assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED
        assert robot.configure()
        assert robot.state() == State.PRIMARY_STATE_INACTIVE
        assert robot.images.get_subscription_count() == 0
        robot.activate()
        assert len(robot.answer(GOOD).masks) == 2
        robot.answer(GOOD, "prompt_markers")

        assert robot.change(Transition.TRANSITION_DEACTIVATE)
        assert robot.state() == State.PRIMARY_STATE_INACTIVE
        robot.wait(lambda: robot.images.get_subscription_count() == 0, "it still listens")
        robot.wait(lambda: no_markers(robot), "the markers stay")
        robot.forget()
        robot.send(GOOD)
        robot.spin(0.2)
        assert not any(robot.received.values())

        robot.activate()
        assert len(robot.answer(GOOD).masks) == 2
        robot.clean_up()
        robot.wait(lambda: not publishers(robot), "topics remain after cleanup")
    robot.activate()
    robot.answer(GOOD)
    assert robot.change(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert robot.state() == State.PRIMARY_STATE_FINALIZED
    robot.wait(lambda: not publishers(robot), "topics remain after shutdown")
    assert robot.stop_node() == 0
    assert not robot.logged("Traceback"), robot.log.read_text()


def no_markers(robot):
    newest = robot.received["prompt_markers"][-1].markers
    return {marker.action for marker in newest} == {Marker.DELETE}


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


def missing(folder):
    return folder / "nowhere"


def corrupt_graph(folder):
    graph = write_tiny_bundle(folder / "corrupt") / "mask_decoder.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 0xFF
    graph.write_bytes(content)
    return graph.parent


def truncated_graph_of_right_sum(folder):
    return write_tiny_bundle(folder / "useless", models={"encoder": Garbage()})


class Garbage:
    def SerializeToString(self):  # noqa: N802  (as an ONNX model has it)
        return b"this is not a graph"


def broken_yaml(folder):
    file = write_tiny_bundle(folder / "broken") / "bundle.yaml"
    file.write_text("graphs: [")
    return file.parent


def without_decoder(folder):
    bundle = write_tiny_bundle(folder / "partial")
    (bundle / "mask_decoder.onnx").unlink()
    return bundle


def impossible_defaults(folder):
    file = write_tiny_bundle(folder / "impossible") / "bundle.yaml"
    fields = yaml.safe_load(file.read_text())
    fields["defaults"]["asf"]["confidence_threshold"] = 42.0
    file.write_text(yaml.safe_dump(fields))
    return file.parent


BAD_BUNDLES = {
    missing: "nowhere",
    corrupt_graph: "mask_decoder.onnx",
    truncated_graph_of_right_sum: "encoder",
    broken_yaml: "bundle.yaml",
    without_decoder: "mask_decoder.onnx",
    impossible_defaults: "confidence_threshold",
}


def test_a_bad_bundle_is_refused_with_a_reason_and_a_good_one_taken_after(
    active, tiny_folder, tmp_path
):
    active.clean_up()
    for make, word in BAD_BUNDLES.items():
        assert active.set(model=str(make(tmp_path))) == []
        assert not active.configure()
        assert active.state() == State.PRIMARY_STATE_UNCONFIGURED
        line = active.log.read_text().splitlines()[-1]
        assert "configure failed: " in line and word in line, make.__name__
    assert not active.logged("Traceback"), active.log.read_text()
    level, text, _ = active.next_health()
    assert level == DiagnosticStatus.ERROR
    assert "confidence_threshold" in text

    active.configure_anew(model=str(tiny_folder))
    assert len(active.answer(GOOD).masks) == 2
    level, _, values = active.next_health()
    assert level == DiagnosticStatus.OK
    assert values["model"] == "tiny"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("engine", "tensorrt", "no NVIDIA driver"),
        ("precision", "int3", "unknown precision 'int3'"),
        ("engine", "abacus", "unknown engine 'abacus'"),
        ("prompt_source", "oracle", "unknown prompt source 'oracle'"),
        ("image_transport", "theora", "image_transport 'theora' is not available"),
    ],
)
def test_an_unknown_part_is_refused_at_configure(active, name, value, reason):
    active.clean_up()
    assert active.set(**{name: value}) == []
    assert not active.configure()
    assert active.logged(f"configure failed: {reason}")
    assert active.state() == State.PRIMARY_STATE_UNCONFIGURED


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_autostart_and_a_clean_end_by_signal(robot, tiny_folder, sign):
    robot.start_node(model=tiny_folder, autostart=True)
    robot.wait_for_subscription()
    assert len(robot.answer(GOOD).masks) == 2
    for _ in range(20):
        robot.send(GOOD)  # the signal comes while it works
    assert robot.stop_node(sign) == 0
    assert not robot.logged("Traceback"), robot.log.read_text()


def test_autostart_with_a_bad_bundle_waits_for_a_good_one(robot, tiny_folder, tmp_path):
    robot.start_node(model=missing(tmp_path), autostart=True)
    assert robot.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert robot.set(model=str(tiny_folder)) == []
    robot.activate()
    assert len(robot.answer(GOOD).masks) == 2


def test_an_impossible_value_at_start_ends_with_one_clear_line(robot):
    robot.start_node(wait=False, asf__filtering="guess")
    assert robot.process.wait(30) == 1
    (line,) = robot.log.read_text().strip().splitlines()
    assert "asf.filtering must be one of" in line


def test_silence_is_reported_once_with_the_topic_and_its_publishers(active):
    kind = "sensor_msgs/msg/Image, reliable and volatile"
    warning = (
        f"no image on /image for 5 s: 1 publishers found (robot: {kind}), this node takes {kind}"
    )
    active.wait(lambda: active.logged(warning), "no warning")
    level, text, _ = active.next_health()
    assert active.log.read_text().count("no image on") == 1
    assert (level, text) == (DiagnosticStatus.WARN, "no images arrive")
    assert len(active.answer(GOOD).masks) == 2
    assert active.next_health()[0] == DiagnosticStatus.OK


INTERRUPTED = """
import os, signal, threading
import rclpy
from rclpy.executors import SingleThreadedExecutor
from aopsam_ros.ros import lifecycle

class Idle(SingleThreadedExecutor):
    def add_node(self, node):
        pass

    def spin_once(self):
        super().spin_once(timeout_sec=1.0)

def fail(trace):
    raise SystemExit(trace)

lifecycle.SingleThreadedExecutor = Idle
for _ in range(200):
    rclpy.init()
    alarm = threading.Timer(0.002, os.kill, (os.getpid(), signal.SIGINT))
    spin = lambda: lifecycle.spin(None, lambda: None, fail)
    for step in (alarm.start, spin, alarm.join, alarm.join):
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
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_nothing_is_kept_of_publishers_that_are_gone():
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=18)
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
    context.try_shutdown()
