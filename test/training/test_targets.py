"""Target maps of the Prompt Predictor."""

import numpy as np
from drawn_scenes import draw_scene
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.training.predictor_targets import GAUSSIAN_SIGMA, prompt_points, spread_points

POINTS = st.lists(st.tuples(st.integers(-3, 42), st.integers(-3, 32)), max_size=8)


def reference(points, size):
    """The same map, one pixel at a time: half 3 x 3 box, half Gaussian; the larger value stays."""
    target = np.zeros(size)
    for x, y in points:
        if not (0 <= x < size[1] and 0 <= y < size[0]):
            continue
        for row in range(size[0]):
            for column in range(size[1]):
                dx, dy = column - x, row - y
                if max(abs(dx), abs(dy)) <= 3 * GAUSSIAN_SIGMA:
                    value = 0.5 * np.exp(-(dx**2 + dy**2) / (2 * GAUSSIAN_SIGMA**2))
                    value += 0.5 * (max(abs(dx), abs(dy)) <= 1)
                    target[row, column] = max(target[row, column], value)
    return target


@given(POINTS)
def test_against_one_pixel_at_a_time(points):
    target = spread_points(np.array(points, np.float32).reshape(-1, 2), (30, 40))
    np.testing.assert_allclose(target, reference(points, (30, 40)), atol=2e-3)
    assert target.shape == (30, 40)


def test_one_point_an_instance_inside_it():
    _, labels = draw_scene(3)
    layers = np.stack([np.where(labels % 2, labels, 0), np.where(labels % 2, 0, labels)])
    points = prompt_points(layers, 1)
    hit = sorted(int(labels[int(y), int(x)]) for x, y in points)
    assert hit == [int(label) for label in np.unique(labels) if label]
    assert len(prompt_points(layers, labels.size)) == 0
