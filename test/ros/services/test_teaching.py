"""~/teach over DDS: one click, and the masks of the next image carry the label."""

import numpy as np
import pytest
from sensor_msgs.msg import RegionOfInterest

from aopsam_ros.srv import Teach
from support import tiny_bundle
from support.messages import image_of
from support.scenes import boxes_scene

STREAMED = image_of(boxes_scene())  # a green and a blue box
ON_FIRST = [30.0, 35.0]
ON_SECOND = RegionOfInterest(x_offset=70, y_offset=60, width=30, height=50)


def teach(robot, **fields):
    return robot.call(Teach, "teach", Teach.Request(**fields))


def test_a_click_labels_the_masks_of_the_next_image(active, tmp_path):
    folder = tmp_path / "labels"
    active.configure_anew(labels__file=str(folder))
    masks = active.answer(STREAMED)
    assert [mask.label for mask in masks.masks] == ["", ""]
    response = teach(active, label="mug", points=ON_FIRST)
    assert (response.success, response.message) == (True, "")
    assert (response.examples, response.names) == (1, ["mug"])
    assert response.header.stamp == masks.header.stamp
    assert response.mask.roi.x_offset == pytest.approx(20, abs=2)
    assert teach(active, label="door", box=ON_SECOND).names == ["mug", "door"]
    found = {mask.roi.x_offset // 20: mask for mask in active.answer(STREAMED).masks}
    assert {place: mask.label for place, mask in found.items()} == {1: "mug", 3: "door"}
    assert all(0.9 < mask.label_score <= 1 for mask in found.values())
    by_id = teach(active, label="door", mask_id=found[3].id)
    assert (by_id.examples, by_id.mask.id) == (2, found[3].id)
    # Another node finds the labels in the folder.
    active.clean_up()
    active.activate()
    assert sorted(mask.label for mask in active.answer(STREAMED).masks) == ["door", "mug"]
    active.set(labels__min_similarity=1.0, labels__margin=1.0)
    assert [mask.label for mask in active.answer(STREAMED).masks] == ["", ""]
    active.set(labels__min_similarity=-1.0, labels__margin=-1.0)
    found = active.answer(STREAMED, "detections").detections
    assert sorted(each.results[0].hypothesis.class_id for each in found) == ["door", "mug"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"label": "", "points": ON_FIRST}, "a label is 1 to 64 printable characters"),
        ({"label": "x" * 65, "points": ON_FIRST}, "a label is 1 to 64 printable characters"),
        ({"label": "mug"}, "a point, a box, or the mask_id"),
        ({"label": "mug", "mask_id": 99}, "none with the id 99"),
        ({"label": "mug", "mask_id": 1, "points": ON_FIRST}, "exclude each other"),
        ({"label": "mug", "points": [1.0, 2000.0]}, "outside the image"),
    ],
)
def test_what_cannot_be_taught_is_refused_with_a_reason(active, fields, reason):
    active.answer(STREAMED)
    response = teach(active, **fields)
    assert not response.success
    assert reason in response.message and "\n" not in response.message
    assert [mask.label for mask in active.answer(STREAMED).masks] == ["", ""]


def test_a_label_set_that_cannot_be_read_ends_configure_with_its_reason(active, tmp_path):
    active.clean_up()
    (tmp_path / "photo.jpg").touch()
    active.set(labels__file=str(tmp_path))
    assert not active.configure()
    assert active.logged("not a label set")
    active.restore()
    assert [mask.label for mask in active.answer(STREAMED).masks] == ["", ""]


def test_labels_by_their_names_alone(active, tmp_path):
    """A bundle with a labeller, and embeddings of words that somebody made before."""
    models = {"labeller": tiny_bundle.labeller("crops")}
    folder = tiny_bundle.write_tiny_bundle(tmp_path / "b", models, labeller=tiny_bundle.CROPS)
    words = tmp_path / "colours.npz"
    np.savez(words, names=["red", "green", "blue"], embeddings=3 * np.eye(3) - 1)
    active.configure_anew(model=str(folder), labels__file=str(words), labels__names="green, blue")
    assert [mask.label for mask in active.answer(STREAMED).masks] == ["blue", "green"]
    response = teach(active, label="red", points=ON_FIRST)
    assert not response.success and "take no examples" in response.message
    active.clean_up()
    active.set(labels__names="mauve")
    assert not active.configure()
    assert active.logged("no label mauve; there are: ")
