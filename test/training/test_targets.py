"""Target maps of the Prompt Predictor."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.training.predictor_targets import prompt_points, spread_points
from support.scenes import draw_ellipses

DEPTHS = st.sampled_from([0.5, 3.0, 6.0, 50.0])
POINTS = st.lists(st.tuples(st.integers(-3, 42), st.integers(-3, 32), DEPTHS), max_size=6)


def reference(points, size):
    """The same map, one pixel at a time: half a box, half a Gaussian; the larger value stays."""
    target = np.zeros(size)
    for x, y, depth in points:
        if not (0 <= x < size[1] and 0 <= y < size[0]):
            continue
        sigma = min(max(depth / 2, 1.0), 5.0)
        for row in range(size[0]):
            for column in range(size[1]):
                dx, dy = column - x, row - y
                if max(abs(dx), abs(dy)) <= int(3 * sigma):
                    value = 0.5 * np.exp(-(dx**2 + dy**2) / (2 * sigma**2))
                    value += 0.5 * (max(abs(dx), abs(dy)) <= int(sigma))
                    target[row, column] = max(target[row, column], value)
    return target


@given(POINTS)
def test_against_one_pixel_at_a_time(points):
    target = spread_points(np.array(points, np.float32).reshape(-1, 3), (30, 40))
    np.testing.assert_allclose(target, reference(points, (30, 40)), atol=1e-5)
    assert target.shape == (30, 40)


def test_one_point_an_instance_inside_it():
    _, labels = draw_ellipses(3)
    layers = np.stack([np.where(labels % 2, labels, 0), np.where(labels % 2, 0, labels)])
    points = prompt_points(layers, 1)
    hit = sorted(int(labels[int(y), int(x)]) for x, y, _ in points)
    assert hit == [int(label) for label in np.unique(labels) if label]
    assert (points[:, 2] >= 1).all() and (points[:, 2] < 50).all()
    assert len(prompt_points(layers, labels.size)) == 0
