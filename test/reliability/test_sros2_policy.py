"""The access policy allows exactly what the node does on the wire."""

import xml.etree.ElementTree as ElementTree

import pytest
from rclpy.expand_topic_name import expand_topic_name

from aopsam_ros.ros import publishers, subscriptions
from support.live import TIMEOUT_S

# Only in some states or settings: compressed images, depth and TF while wanted, simulated time.
ROS = {"/clock", "/tf", "/tf_static"}
SOMETIMES = {"/image/compressed", "/depth", "/boxes", "/aopsam/annotations", *ROS}
NEWER = {"/aopsam/get_type_description"}  # than Humble


@pytest.fixture(scope="module")
def policy(root):
    """Names by what the policy allows: publish, subscribe, reply."""
    enclave = ElementTree.parse(root / "config" / "sros2_policy.xml").find("enclaves/enclave")
    assert enclave.attrib == {"path": "/aopsam"}
    (profile,) = enclave.iterfind("profiles/profile")
    assert profile.attrib == {"ns": "/", "node": "aopsam"}
    allowed = {}
    for group in profile:
        ((right, word),) = group.attrib.items()
        assert word == "ALLOW"
        assert right not in allowed
        allowed[right] = {expand_topic_name(item.text, "aopsam", "/") for item in group}
        assert len(allowed[right]) == len(list(group))
    return allowed


def test_it_names_every_topic_of_the_documented_interface(policy):
    assert set(policy) == {"publish", "subscribe", "reply"}
    assert policy["subscribe"] == {f"/{topic}" for topic in subscriptions.TOPICS} | ROS
    assert {f"/aopsam/{topic}" for topic in publishers.TOPICS} < policy["publish"]


def test_it_allows_what_the_running_node_does_and_no_more(policy, robot, tiny_folder):
    robot.start_node(model=tiny_folder)
    robot.activate()
    node = robot.node
    found = {
        "publish": node.get_publisher_names_and_types_by_node,
        "subscribe": node.get_subscriber_names_and_types_by_node,
        "reply": node.get_service_names_and_types_by_node,
    }
    for right, ask in found.items():

        def names(ask=ask, needed=policy[right] - SOMETIMES - NEWER):
            known = {name for name, _ in ask("aopsam", "/")}
            return needed <= known and known

        # It takes a while until all of a node is known to others.
        assert robot.wait(names, f"{right}: not all of {policy[right]}") <= policy[right]


def test_enforced_without_keys_the_node_does_not_start_at_all(robot, tmp_path):
    """It must not run unprotected because something for its protection is missing."""
    settings = {"ENABLE": "true", "STRATEGY": "Enforce", "KEYSTORE": str(tmp_path)}
    robot.environment = {f"ROS_SECURITY_{name}": value for name, value in settings.items()}
    robot.start_node("--enclave", "/aopsam", wait=False)
    assert robot.process.wait(TIMEOUT_S) != 0
    assert robot.logged("SECURITY ERROR")
