"""Quality of service: what users override holds, everything else follows the publishers."""

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from support.messages import image_of
from support.scenes import boxes_scene

IMAGE = "qos_overrides./image.subscription"
MASKS = "qos_overrides./aopsam/masks.publisher"


def quality_of(robot, topic, find):
    """The node's own profile for a topic."""
    (found,) = [info for info in find(topic) if info.node_name == "aopsam"]
    return found.qos_profile


def test_overrides_of_subscriptions_and_results_hold(robot, tiny_bundle):
    robot.start_node(
        *("-p", f"{IMAGE}.reliability:=best_effort"),
        *("-p", f"{MASKS}.durability:=transient_local"),
        model=tiny_bundle,
    )
    robot.activate()
    images = quality_of(robot, "/image", robot.node.get_subscriptions_info_by_topic)
    masks = quality_of(robot, "/aopsam/masks", robot.node.get_publishers_info_by_topic)
    labels = quality_of(robot, "/aopsam/labels", robot.node.get_publishers_info_by_topic)
    assert images.reliability == ReliabilityPolicy.BEST_EFFORT  # though the camera is reliable
    assert masks.durability.name == "TRANSIENT_LOCAL"
    assert labels.durability.name == "VOLATILE"
    assert len(robot.answer(image_of(boxes_scene())).masks) == 2
    assert robot.get(f"{IMAGE}.reliability") == "best_effort"
    assert robot.get(f"{IMAGE}.depth") == 1
    assert "read only" in robot.set(**{f"{IMAGE}.depth": 5})[0].replace("-", " ")


def test_what_nobody_overrides_follows_the_publishers(robot, tiny_bundle):
    robot.start_node(model=tiny_bundle)
    robot.activate()
    assert robot.get(f"{IMAGE}.reliability") == "system_default"
    find = robot.node.get_subscriptions_info_by_topic
    assert quality_of(robot, "/image", find).reliability == ReliabilityPolicy.RELIABLE
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    other = robot.node.create_publisher(Image, "/image", best_effort)

    def followed():
        infos = [info for info in find("/image") if info.node_name == "aopsam"]
        return [i.qos_profile.reliability for i in infos] == [ReliabilityPolicy.BEST_EFFORT]

    robot.wait(followed, "the subscription did not follow the best-effort publisher")
    robot.node.destroy_publisher(other)
    assert robot.change(Transition.TRANSITION_DEACTIVATE)
    assert robot.change(Transition.TRANSITION_ACTIVATE)  # its parameters are declared already
    robot.wait_for_subscription()
    assert len(robot.answer(image_of(boxes_scene())).masks) == 2


@pytest.mark.parametrize(
    ("override", "transition"),
    [(f"{MASKS}.reliability:=perhaps", "configure"), (f"{IMAGE}.depth:=deep", "activate")],
)
def test_an_impossible_override_is_one_clear_refusal(robot, tiny_bundle, override, transition):
    robot.start_node("-p", override, model=tiny_bundle)
    configured = robot.configure()
    assert configured == (transition == "activate")
    if configured:
        assert not robot.change(Transition.TRANSITION_ACTIVATE)
    state = State.PRIMARY_STATE_INACTIVE if configured else State.PRIMARY_STATE_UNCONFIGURED
    assert robot.state() == state
    topic = "/image" if configured else "/aopsam/masks"
    robot.wait(lambda: robot.said(f"{transition} failed: {topic} cannot be used"), "no reason")
    assert not robot.said("Traceback"), robot.log.read_text()
    level, message, _ = robot.fresh_health()
    assert level == DiagnosticStatus.ERROR and "qos_overrides" in message
