"""The shift of the whole image, against crops of photographs whose places are known."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aopsam_ros.streaming.camera_motion import CameraMotion


@pytest.fixture(scope="module")
def photograph(root):
    def read(name):
        return cv2.imread(str(root / "photographs" / f"{name}.jpg"))[..., ::-1]

    return read


def crop(rgb, x, y, size=(220, 300)):
    return np.ascontiguousarray(rgb[y : y + size[0], x : x + size[1]])


@settings(max_examples=30)
@given(st.sampled_from(["coffee", "astronaut", "cat"]), st.tuples(*[st.integers(0, 60)] * 4))
def test_a_moved_crop_has_moved_so_far(photograph, name, places):
    (x0, y0, x1, y1), rgb, motion = places, photograph(name), CameraMotion()
    assert motion.update(crop(rgb, x0, y0)) == (0.0, 0.0)
    found = motion.update(crop(rgb, x1, y1))
    # The content goes the other way; half a pixel of the thumbnail is about one of the crop.
    np.testing.assert_allclose(found, (x0 - x1, y0 - y1), atol=2.0)


def test_an_object_of_its_own_motion_does_not_move_the_camera(photograph):
    rgb, motion = photograph("astronaut").copy(), CameraMotion()
    moving = rgb.copy()
    rgb[100:200, 100:200] = moving[300:400, 300:400]
    motion.update(rgb)
    again = moving.copy()
    again[140:240, 160:260] = moving[300:400, 300:400]
    np.testing.assert_allclose(motion.update(again), (0, 0), atol=1.0)


def test_a_cut_another_size_and_empty_pictures_are_no_motion(photograph):
    motion = CameraMotion()
    motion.update(crop(photograph("coffee"), 0, 0))
    assert motion.update(crop(photograph("astronaut"), 0, 0)) == (0.0, 0.0)
    assert motion.update(crop(photograph("astronaut"), 10, 0, (200, 200))) == (0.0, 0.0)
    for value in (0, 255, 0):
        assert motion.update(np.full((200, 200, 3), value, np.uint8)) == (0.0, 0.0)
    motion.reset()
    assert motion.update(crop(photograph("coffee"), 20, 0)) == (0.0, 0.0)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (5000, 3, 3), (15, 15, 3)])
def test_tiny_pictures(shape):
    motion = CameraMotion()
    for seed in range(2):
        rgb = np.random.default_rng(seed).integers(0, 255, shape, np.uint8)
        assert motion.update(rgb) == (0.0, 0.0)
