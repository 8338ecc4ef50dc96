"""Adaptive sampling: the filter, the maxima and their spacing against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter

from aopsam_ros.prompting.confidence_map_sampling import local_maxima, sample, smooth, space_out

# Few distinct values, so that equal neighbours and level tops occur often.
MAPS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14),
    elements=st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0]),
)


def random_map(seed, shape=(48, 64)):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def reference(values, threshold, min_spacing):
    """The definition: greedy over every pixel that is a maximum of its neighbourhood."""
    rows, columns = values.shape
    peaks = []
    for r, c in np.ndindex(rows, columns):
        around = values[max(0, r - 1) : r + 2, max(0, c - 1) : c + 2]
        if values[r, c] >= threshold and values[r, c] >= around.max():
            peaks.append((r, c))
    peaks.sort(key=lambda p: (-values[p], p))
    kept = []
    for r, c in peaks:
        if all((r - i) ** 2 + (c - j) ** 2 >= min_spacing**2 for i, j in kept):
            kept.append((r, c))
    return kept


@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("shape", [(48, 64), (9, 9), (30, 5)])
def test_smoothing_is_a_gaussian_filter(sigma, shape):
    values = random_map(1, shape)
    expected = gaussian_filter(values.astype(np.float64), sigma, mode="reflect", truncate=4.0)
    np.testing.assert_allclose(smooth(values, sigma), expected, atol=2e-4)


@given(MAPS, st.sampled_from([0.0, 0.2, 0.25, 0.9]), st.integers(1, 7))
def test_agrees_with_the_definition(values, threshold, min_spacing):
    maxima = local_maxima(values, threshold)
    kept = maxima[space_out(maxima, min_spacing, values.shape)]
    assert [tuple(p) for p in kept.tolist()] == reference(values, threshold, min_spacing)


@given(MAPS, st.floats(0, 3), st.floats(0, 1), st.integers(1, 9))
def test_spacing_confidence_and_order_always_hold(values, sigma, threshold, min_spacing):
    points, confidence = sample(values, sigma, threshold, min_spacing)
    assert (np.diff(confidence) <= 0).all()
    assert (confidence >= np.float32(threshold) - 1e-6).all()
    squared = ((points[:, None] - points[None]) ** 2).sum(-1) + 10**6 * np.eye(len(points))
    assert squared.min(initial=10**6) >= min_spacing**2


@given(MAPS, st.floats(0, 1), st.integers(1, 9))
def test_filling_adds_prompts_until_every_confident_place_is_near_one(values, threshold, spacing):
    peaks, _ = sample(values, 0.0, threshold, spacing)
    points, confidence = sample(values, 0.0, threshold, spacing, fill=True)
    np.testing.assert_array_equal(points[: len(peaks)], peaks)
    assert (np.diff(confidence[len(peaks) :]) <= 0).all()
    squared = ((points[:, None] - points[None]) ** 2).sum(-1) + 10**6 * np.eye(len(points))
    assert squared.min(initial=10**6) >= spacing**2
    confident = np.argwhere(values >= threshold)
    distance = ((confident[:, None] - points[None]) ** 2).sum(-1)
    assert len(confident) == 0 or (distance.min(1) < spacing**2).all()
    assert (values[points[:, 0], points[:, 1]] >= threshold).all()


def test_two_blobs_give_their_centres():
    y, x = np.mgrid[:64, :96]
    blobs = 0.9 * np.exp(-((x - 20) ** 2 + (y - 30) ** 2) / 40)
    blobs += 0.6 * np.exp(-((x - 70) ** 2 + (y - 12) ** 2) / 40)
    noisy = (blobs + 0.05 * random_map(3, blobs.shape)).astype(np.float32)
    points, confidence = sample(noisy, 2.0, 0.2, 6)
    assert len(points) == 2
    np.testing.assert_allclose(points, [[30, 20], [12, 70]], atol=1)
    assert 0.6 < confidence[0] < 0.95 and 0.4 < confidence[1] < 0.65
