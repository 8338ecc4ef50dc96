"""What waits on the node's topics while its thread is busy."""

import time
from types import SimpleNamespace

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy

from aopsam_ros.ros.subscriptions import PAIRED_DEPTH, TOPICS, Subscriptions
from support.live import RELIABLE, TIMEOUT_S

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
SENT = PAIRED_DEPTH  # also as many as the publishers keep


def test_depth_and_boxes_wait_for_their_image_of_which_only_the_newest_does(context):
    received = {name: [] for name in ("image", "depth", "boxes")}
    node = rclpy.create_node("busy", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    callbacks = {name: messages.append for name, messages in received.items()}
    pipeline = SimpleNamespace(callbacks=callbacks, wants=received.__contains__, last_image_s=0.0)
    publishers = {name: node.create_publisher(TOPICS[name][0], name, RELIABLE) for name in received}
    subscriptions = Subscriptions(node, "raw", pipeline)
    end = time.monotonic() + TIMEOUT_S
    while not all(p.get_subscription_count() for p in publishers.values()):
        assert time.monotonic() < end
        time.sleep(0.05)
    for number in range(SENT):  # nobody spins
        for name, publisher in publishers.items():
            message = TOPICS[name][0]()
            message.header.stamp.sec = number
            publisher.publish(message)
    while not all(m and m[-1].header.stamp.sec == SENT - 1 for m in received.values()):
        assert time.monotonic() < end
        executor.spin_once(timeout_sec=0.1)
    seconds = {name: [m.header.stamp.sec for m in found] for name, found in received.items()}
    assert seconds["depth"] == seconds["boxes"] == list(range(SENT))
    assert len(seconds["image"]) < SENT
    subscriptions.destroy()
    executor.shutdown()
    node.destroy_node()


def test_a_topic_that_cannot_be_used_keeps_no_other_from_following_its_publishers(context):
    impossible = Parameter("qos_overrides./depth.subscription.history", value="guess")
    node = rclpy.create_node("strict", context=context, parameter_overrides=[impossible])
    received, wanted = [], {"image"}
    callbacks = {"image": received.append, "depth": received.append}
    pipeline = SimpleNamespace(callbacks=callbacks, wants=wanted.__contains__, last_image_s=0.0)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    reliable = node.create_publisher(TOPICS["image"][0], "image", RELIABLE)
    end = time.monotonic() + TIMEOUT_S
    while not node.count_publishers("image"):
        assert time.monotonic() < end
        time.sleep(0.05)
    subscriptions = Subscriptions(node, "raw", pipeline)
    wanted.add("depth")
    node.destroy_publisher(reliable)
    camera = node.create_publisher(TOPICS["image"][0], "image", BEST_EFFORT)
    while not received:
        assert time.monotonic() < end
        subscriptions.adapt()
        camera.publish(TOPICS["image"][0]())
        executor.spin_once(timeout_sec=0.05)
    subscriptions.destroy()
    executor.shutdown()
    node.destroy_node()
