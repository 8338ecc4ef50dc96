"""What the live node does from frame to frame: tracking, hysteresis, reuse, several workers."""

import numpy as np
from lifecycle_msgs.msg import Transition

from aopsam_ros.msg import Prompt
from aopsam_ros.srv import Segment
from support.messages import image_of, stamp_of
from support.scenes import boxes_scene


def moving(step):
    """The green object moves to the right, the blue one up; now one is larger, now the other."""
    grow = 24 * (step % 2)
    green = (10 + 6 * step, 20, 30 + grow // 2, 20)
    blue = (80, 84 - 4 * step, 36 - grow // 4, 26)
    return image_of(boxes_scene((green, blue)))


def ids_from_top(message):
    return [m.id for m in sorted(message.masks, key=lambda mask: mask.roi.y_offset)]


def test_ids_stay_with_objects_once_tracking_is_on(active):
    plain = [ids_from_top(active.answer(moving(step))) for step in range(4)]
    assert {tuple(sorted(ids)) for ids in plain} == {(1, 2)}
    assert len({tuple(ids) for ids in plain}) == 2  # numbered by size, in each frame anew

    assert active.set(tracking__enabled=True) == []
    found = [ids_from_top(active.answer(moving(step))) for step in range(6)]
    assert len({tuple(ids) for ids in found}) == 1 and len(set(found[0])) == 2

    masks = active.answer(moving(5))
    ids = {mask.id for mask in masks.masks}
    detections = active.with_stamp("detections", stamp_of(masks)).detections
    assert {int(detection.id) for detection in detections} == ids
    labels = active.with_stamp("labels", stamp_of(masks))
    assert set(np.frombuffer(labels.data, np.uint16)) - {0} == ids

    assert active.set(tracking__max_lost=0) == []
    active.answer(image_of(boxes_scene(())))  # both gone
    assert not set(ids_from_top(active.answer(moving(5)))) & set(found[0])
    assert active.set(tracking__enabled=False) == []
    assert sorted(ids_from_top(active.answer(moving(0)))) == [1, 2]


def test_what_the_frame_before_showed_stays_at_lower_thresholds_with_hysteresis(active):
    def masks():
        return len(active.answer(image_of(boxes_scene())).masks)

    assert active.set(mask__hysteresis=0.9) == []
    assert masks() == 2
    assert active.set(mask__predicted_iou_threshold=1.0) == []  # more than any of them has
    assert masks() == 2
    assert active.set(mask__hysteresis=0.0) == []
    assert masks() == 0
    assert active.set(mask__hysteresis=0.9) == []
    assert masks() == 0  # the frame before had none


def decoded(active):
    """How many prompts the next image's answer decoded, and its masks."""
    rgb = boxes_scene()
    rgb[100:105, 90:95, 0] = 200  # the larger one has two prompts
    masks = active.answer(image_of(rgb))
    prompts = active.with_stamp("prompts", stamp_of(masks)).prompts
    assert {prompt.state for prompt in prompts} <= {Prompt.KEPT, Prompt.REJECTED}
    return len(prompts), [mask.counts.tolist() for mask in masks.masks]


def test_a_still_scene_needs_fewer_prompts_once_reuse_is_on(active):
    assert active.set(asf__filtering="none") == []
    plain = decoded(active)
    assert plain[0] == 3 and len(plain[1]) == 2
    assert decoded(active) == plain

    assert active.set(reuse__enabled=True) == []
    assert decoded(active) == plain  # a key frame
    assert [decoded(active) for _ in range(3)] == [(2, plain[1])] * 3
    active.answer(image_of(np.full((128, 128, 3), 255, np.uint8)))  # a cut
    assert decoded(active) == plain

    assert decoded(active)[0] == 2
    assert active.change(Transition.TRANSITION_DEACTIVATE)
    active.activate()
    assert [decoded(active)[0] for _ in range(2)] == [3, 2]

    assert "exclude" in active.set(grid__crop_layers=1)[0]
    assert active.set(reuse__enabled=False) == []
    assert decoded(active) == plain


IMAGES = [image_of(boxes_scene()), image_of(boxes_scene(((20, 30, 40, 20),)))]
COUNTS = [2, 1]  # masks of each


def test_results_of_several_workers_are_their_own_images_and_in_order(active):
    active.configure_anew(workers=3, threads=1)
    active.answer(IMAGES[0])
    active.forget()
    sent, number = {}, 0
    while number < 150 or len(active.received["masks"]) <= 15:  # faster than they are segmented
        sent[active.send(IMAGES[number % 2]).nanosec] = COUNTS[number % 2]
        active.spin(0.005)
        if number % 15 == 0:  # requests are answered beside them
            request = Segment.Request(image=IMAGES[0], points=[40.0, 40.0], labels=[1])
            response = active.call(Segment, "segment", request)
            assert response.success, response.message
        number += 1
    active.answer(IMAGES[0])
    answers = [message for message in active.received["masks"] if stamp_of(message) in sent]
    stamps = [stamp_of(masks) for masks in answers]
    assert len(stamps) > 10
    assert stamps == sorted(set(stamps))
    assert all(len(masks.masks) == sent[stamp_of(masks)] for masks in answers)
    assert "fixed" in active.set(workers=1)[0]


def test_several_workers_keep_ids_and_reuse_frames(active):
    active.configure_anew(workers=2, threads=1, tracking__enabled=True, reuse__enabled=True)
    first = active.answer(IMAGES[0])
    active.forget()

    def answered():
        active.send(IMAGES[0])
        active.spin(0.01)
        return len(active.received["masks"]) > 15

    active.wait(answered, "no masks")
    expected = sorted(mask.id for mask in first.masks)
    assert all(sorted(ids_from_top(masks)) == expected for masks in active.received["masks"])
