"""Tracking in the live node: ids stay in all results, and the parameters act while it runs."""

import numpy as np

from support.messages import image_of, stamp_of
from support.scenes import boxes_scene

SIZE = (20, 30)  # of the moving object, height and width


def picture(step):
    """The green object moves to the right, the blue one up; they change places in the message."""
    grow = 24 * (step % 2)  # now the one is larger, now the other
    green = (10 + 6 * step, 20, SIZE[1] + grow // 2, SIZE[0])
    blue = (80, 84 - 4 * step, 36 - grow // 4, 26)
    return image_of(boxes_scene((green, blue)))


def by_place(message):
    """Ids from top to bottom."""
    return [m.id for m in sorted(message.masks, key=lambda mask: mask.roi.y_offset)]


def test_ids_stay_with_objects_once_tracking_is_on(robot, tiny_bundle):
    robot.start_node(model=tiny_bundle)
    robot.activate()
    plain = [by_place(robot.answer(picture(step))) for step in range(4)]
    assert {tuple(sorted(ids)) for ids in plain} == {(1, 2)}
    assert len({tuple(ids) for ids in plain}) == 2  # numbered by size, in each frame anew

    assert robot.set(tracking__enabled=True) == []
    found = [by_place(robot.answer(picture(step))) for step in range(6)]
    assert len({tuple(ids) for ids in found}) == 1 and len(set(found[0])) == 2

    masks = robot.answer(picture(5))
    stamp = stamp_of(masks)
    same = {
        topic: robot.wait(lambda t=topic: _with_stamp(robot, t, stamp), f"no {topic}")
        for topic in ("detections", "labels")
    }
    ids = {mask.id for mask in masks.masks}
    assert {int(detection.id) for detection in same["detections"].detections} == ids
    assert set(np.frombuffer(same["labels"].data, np.uint16)) - {0} == ids

    robot.answer(image_of(boxes_scene(())))  # both gone
    assert by_place(robot.answer(picture(5))) == found[0]  # and found again
    assert robot.set(tracking__max_lost=0) == []
    robot.answer(image_of(boxes_scene(())))
    forgotten = by_place(robot.answer(picture(5)))
    assert not set(forgotten) & set(found[0])
    assert "range" in robot.set(tracking__min_iou=1.5)[0]
    assert robot.set(tracking__enabled=False) == []
    assert sorted(by_place(robot.answer(picture(0)))) == [1, 2]


def _with_stamp(robot, topic, stamp):
    found = [message for message in robot.received[topic] if stamp_of(message) == stamp]
    return found[0] if found else None
