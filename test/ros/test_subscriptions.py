"""What waits on the node's topics while its thread is busy."""

import time
from types import SimpleNamespace

import rclpy
from rclpy.executors import SingleThreadedExecutor

from aopsam_ros.ros.subscriptions import PAIRED_DEPTH, TOPICS, Subscriptions
from support.live import RELIABLE, TIMEOUT_S

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
