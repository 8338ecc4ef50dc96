"""Boxes in space from depth images rendered of known objects."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from aopsam_ros.errors import InputError
from aopsam_ros.masks import encode_full
from aopsam_ros.results import InstanceMask
from aopsam_ros.space.boxes_3d import MOST_POINTS, DepthMap, fit_box, metres, points_of

FOCAL, MIDDLE = np.array([300.0, 310.0]), np.array([159.5, 119.5])


class Camera:
    """A pinhole camera."""

    @staticmethod
    def rays(pixels):
        return (pixels - MIDDLE) / FOCAL


CAMERA = Camera()


def mask_of(pixels):
    box, counts = encode_full(pixels)
    return InstanceMask(1, box, int(pixels.sum()), 1.0, 1.0, (0, 0), 1.0, "", counts)


def plate(distance, x0, x1, y0, y1, size=(240, 320)):
    """A plate that faces the camera, metres: its mask and depth image."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    x = (columns - MIDDLE[0]) / FOCAL[0] * distance
    y = (rows - MIDDLE[1]) / FOCAL[1] * distance
    pixels = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
    return mask_of(pixels), np.where(pixels, distance, 4.0).astype(np.float32)


def test_a_plate_has_its_place_and_size():
    mask, depth = plate(2.0, -0.3, 0.5, -0.2, 0.4)
    points = points_of(mask, DepthMap(depth, 240, 320), CAMERA)
    box = fit_box(points, "optical")
    np.testing.assert_allclose(box.center, [0.1, 0.1, 2.0], atol=0.01)
    np.testing.assert_allclose(box.size, [0.8, 0.6, 0.0], atol=0.02)
    assert box.quaternion() == (0, 0, 0, 1)
    assert 1000 < len(points) <= MOST_POINTS


@pytest.mark.parametrize("ray", [np.nan, 1e60])  # of a fisheye camera; by a wrong calibration
def test_pixels_without_a_ray_are_left_out(ray):
    class HalfBlind(Camera):
        @staticmethod
        def rays(pixels):
            return np.where(pixels[:, :1] < MIDDLE[0], Camera.rays(pixels), ray)

    mask, depth = plate(2.0, -0.3, 0.5, -0.2, 0.4)
    box = fit_box(points_of(mask, DepthMap(depth, 240, 320), HalfBlind()), "optical")
    np.testing.assert_allclose(box.size, [0.3, 0.6, 0.0], atol=0.02)


def test_background_at_the_outline_is_left_out():
    mask, depth = plate(2.0, -0.3, 0.3, -0.3, 0.3)
    x, y, width, height = mask.bbox
    depth[y : y + 4, x : x + width] = 4.0
    depth[y : y + height, x] = np.nan
    box = fit_box(points_of(mask, DepthMap(depth, 240, 320), CAMERA), "optical")
    assert box.size[2] < 0.05 and box.center[2] == pytest.approx(2.0, abs=0.01)


def cuboid(rng, size, rotation):
    """Points of a cuboid somewhere, and its centre."""
    center = rng.uniform(-2, 2, 3)
    corners = np.array(np.meshgrid(*[np.linspace(-0.5, 0.5, 8)] * 3)).reshape(3, -1).T
    return (corners * size) @ rotation.T + center, center


@given(st.integers(0, 10_000))
def test_oriented_boxes_are_those_of_turned_cuboids(seed):
    rng = np.random.default_rng(seed)
    size = np.array([1.0, 0.6, 0.3]) * rng.uniform(0.8, 1.2, 3)
    rotation = Rotation.random(random_state=seed).as_matrix()
    points, center = cuboid(rng, size, rotation)
    box = fit_box(points, "principal")
    np.testing.assert_allclose(box.center, center, atol=1e-6)
    np.testing.assert_allclose(box.size, size, atol=1e-6)
    assert np.linalg.det(box.rotation) == pytest.approx(1)
    np.testing.assert_allclose(np.abs((box.rotation * rotation).sum(0)), 1, atol=1e-6)
    back = Rotation.from_quat(box.quaternion()).as_matrix()
    np.testing.assert_allclose(back, box.rotation, atol=1e-6)


@given(st.integers(0, 10_000))
def test_upright_boxes_are_those_of_cuboids_turned_about_the_vertical(seed):
    rng = np.random.default_rng(seed)
    size = rng.uniform(0.2, 1.0, 3)
    rotation = Rotation.from_euler("y", rng.uniform(-np.pi, np.pi)).as_matrix()
    points, center = cuboid(rng, size, rotation)
    box = fit_box(points, "upright")
    np.testing.assert_allclose(box.center, center, atol=1e-4)
    assert box.size[1] == pytest.approx(size[1])
    np.testing.assert_allclose(np.sort(box.size), np.sort(size), atol=1e-3)
    np.testing.assert_allclose(box.rotation[:, 1], [0, 1, 0], atol=1e-9)
    assert np.linalg.det(box.rotation) == pytest.approx(1)


@pytest.mark.parametrize("shape_type", [((2, 2, 1), np.uint16), ((4,), np.float32), ((2, 2), int)])
def test_other_depth_images_are_refused(shape_type):
    with pytest.raises(InputError, match="depth must be"):
        metres(np.zeros(*shape_type))


@given(st.integers(0, 10_000))
def test_every_depth_pixel_inside_the_mask_counts_and_no_other(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 60, 2)
    factor = rng.choice([0.5, 1, 1.5, 2])
    rows, columns = int(height * factor), int(width * factor)
    pixels = rng.random((height, width)) < 0.5
    depth = rng.uniform(1, 2, (rows, columns)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.2] = np.nan
    try:
        coordinates, depths = DepthMap(depth, height, width).of(mask_of(pixels))
    except InputError:  # rounding made the shapes too different
        return
    expected = []
    for row, column in np.ndindex(rows, columns):
        y = np.rint((row + 0.5) * (height / rows) - 0.5).astype(int)
        x = np.rint((column + 0.5) * (width / columns) - 0.5).astype(int)
        if pixels[min(y, height - 1), min(x, width - 1)] and not np.isnan(depth[row, column]):
            expected.append(depth[row, column])
    if len(expected) <= MOST_POINTS:
        np.testing.assert_array_equal(depths, expected)
    assert coordinates.shape == (len(depths), 2)


def test_depth_of_another_shape_is_refused():
    with pytest.raises(InputError, match="depth of 320x240 pixels does not show the view"):
        DepthMap(np.ones((240, 320), np.float32), 720, 1280)
