"""Quality of service: what users override holds, everything else follows the publishers."""

import pytest
import rclpy
from lifecycle_msgs.msg import Transition
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from aopsam_ros.errors import OptionError
from aopsam_ros.ros.publishers import Publishers
from aopsam_ros.ros.subscriptions import Subscriptions
from support.messages import image_of
from support.scenes import boxes_scene

GOOD = image_of(boxes_scene())
IMAGE = "qos_overrides./image.subscription"
MASKS = "qos_overrides./aopsam/masks.publisher"


def quality_of(robot, topic, find):
    """The node's own profile for a topic."""
    (found,) = [info for info in find(topic) if info.node_name == "aopsam"]
    return found.qos_profile


def test_overrides_of_subscriptions_and_results_hold(robot, tiny_folder):
    robot.start_node(
        *("-p", f"{IMAGE}.reliability:=best_effort"),
        *("-p", f"{MASKS}.durability:=transient_local"),
        model=tiny_folder,
    )
    robot.activate()
    images = quality_of(robot, "/image", robot.node.get_subscriptions_info_by_topic)
    masks = quality_of(robot, "/aopsam/masks", robot.node.get_publishers_info_by_topic)
    labels = quality_of(robot, "/aopsam/labels", robot.node.get_publishers_info_by_topic)
    assert images.reliability == ReliabilityPolicy.BEST_EFFORT  # though the camera is reliable
    assert masks.durability.name == "TRANSIENT_LOCAL"
    assert labels.durability.name == "VOLATILE"
    assert len(robot.answer(GOOD).masks) == 2
    assert robot.get(f"{IMAGE}.reliability") == "best_effort"
    assert robot.get(f"{IMAGE}.depth") == 1
    assert "read only" in robot.set(**{f"{IMAGE}.depth": 5})[0].replace("-", " ")


def test_without_overrides_the_subscription_follows_the_publishers(active):
    assert active.get(f"{IMAGE}.reliability") == "system_default"
    find = active.node.get_subscriptions_info_by_topic
    assert quality_of(active, "/image", find).reliability == ReliabilityPolicy.RELIABLE
    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    other = active.node.create_publisher(Image, "/image", best_effort)

    def followed():
        infos = [info for info in find("/image") if info.node_name == "aopsam"]
        return [i.qos_profile.reliability for i in infos] == [ReliabilityPolicy.BEST_EFFORT]

    active.wait(followed, "the subscription did not follow the best-effort publisher")
    active.node.destroy_publisher(other)
    assert active.change(Transition.TRANSITION_DEACTIVATE)
    active.activate()  # its parameters are declared already
    assert len(active.answer(GOOD).masks) == 2
    active.publish_images(quality=best_effort)  # and nobody else
    active.wait(active.images.get_subscription_count, "it cannot hear best effort")
    active.forget()
    assert len(active.answer(GOOD).masks) == 2


@pytest.fixture
def node_with(request):
    """A lifecycle node `aopsam` with a parameter override."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=14)
    name, value = request.param
    override = Parameter(name, value=value)
    node = LifecycleNode(
        "aopsam", context=context, parameter_overrides=[override], enable_rosout=False
    )
    yield node
    node.destroy_node()
    context.try_shutdown()


@pytest.mark.parametrize("node_with", [(f"{MASKS}.reliability", "perhaps")], indirect=True)
def test_an_impossible_override_of_a_result_is_one_clear_error(node_with):
    with pytest.raises(OptionError, match="/aopsam/masks cannot be used, by its qos_overrides"):
        Publishers(node_with)
    topics = [publisher.topic_name for publisher in node_with.publishers]
    assert not [topic for topic in topics if topic.startswith("/aopsam/prompts")]


@pytest.mark.parametrize("node_with", [(f"{IMAGE}.depth", "deep")], indirect=True)
def test_an_impossible_override_of_the_images_is_one_clear_error(node_with):
    with pytest.raises(OptionError, match="/image cannot be used, by its qos_overrides"):
        Subscriptions(node_with, "raw", {"image": print}, lambda _: True, lambda: 0.0)
