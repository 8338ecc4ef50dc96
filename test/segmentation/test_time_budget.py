"""Pace: what frames took, as the next one's time budget sees it."""

import pytest

from aopsam_ros.segmentation.time_budget import SHARED, Lately


def test_a_single_frame_tells_nothing():
    lately = Lately()
    assert lately.seconds == 0.0
    lately.learn(8, 2.0)
    assert lately.seconds == 0.0


@pytest.mark.parametrize(("count", "seconds"), [(8, 0.024), (1, 0.01), (0, 0.004)])
def test_a_call_takes_as_long_as_some_prompts_for_itself(count, seconds):
    lately = Lately()
    for _ in range(2):
        lately.learn(count, seconds)
    assert lately.seconds == pytest.approx(seconds / (count + SHARED))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([3, 5], 3),
        ([5, 3], 3),
        ([1, 9, 2, 4], 4),
        ([9, 9] + [1] * 6, 9),
        ([9, 9] + [1] * 7, 1),
        ([2000, 1], 1),
    ],
)
def test_the_second_longest_of_the_last_eight_counts(seconds, expected):
    lately = Lately()
    for portion in seconds:
        lately.learn(2, portion * (2 + SHARED))
    assert lately.seconds == pytest.approx(expected)
