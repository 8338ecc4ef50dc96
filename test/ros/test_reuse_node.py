"""The node with reuse between frames, switched on and off while images flow."""

import numpy as np
from lifecycle_msgs.msg import Transition

from support.messages import image_of, stamp_of
from support.scenes import boxes_scene


def picture():
    """Two objects, the larger one with two prompts."""
    rgb = boxes_scene()
    rgb[100:105, 90:95, 0] = 200
    return image_of(rgb)


def calls(robot):
    """How many prompts the next image's answer decoded, and its masks."""
    masks = robot.answer(picture())
    stamp = stamp_of(masks)

    def prompts():
        return [message for message in robot.received["prompts"] if stamp_of(message) == stamp]

    found = robot.wait(prompts, "no prompts")[0].prompts
    assert {prompt.state for prompt in found} <= {0, 2}  # decoded, rejected
    return len(found), [mask.counts.tolist() for mask in masks.masks]


def test_a_still_scene_costs_less_once_reuse_is_on(robot, tiny_bundle):
    robot.start_node(model=tiny_bundle, asf__filtering="none")
    robot.activate()
    plain = calls(robot)
    assert plain[0] == 3 and len(plain[1]) == 2
    assert calls(robot) == plain

    assert robot.set(reuse__enabled=True) == []
    assert calls(robot) == plain  # a key frame
    assert [calls(robot) for _ in range(3)] == [(2, plain[1])] * 3
    robot.answer(image_of(np.full((128, 128, 3), 255, np.uint8)))  # a cut
    assert calls(robot) == plain

    assert calls(robot)[0] == 2
    assert robot.change(Transition.TRANSITION_DEACTIVATE)
    assert robot.change(Transition.TRANSITION_ACTIVATE)
    robot.wait_for_subscription()
    assert [calls(robot)[0] for _ in range(2)] == [3, 2]

    assert robot.set(reuse__key_frames=1) == []
    assert calls(robot) == calls(robot) == plain
    assert "exclude" in robot.set(grid__crop_layers=1)[0]
    assert robot.set(reuse__enabled=False) == []
    assert calls(robot) == plain
