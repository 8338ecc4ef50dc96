"""Recent times, as the next frame's time budget sees them."""

import pytest

from aopsam_ros.segmentation.time_budget import FIXED_COST, RecentTimes


def test_a_single_frame_tells_nothing():
    times = RecentTimes()
    assert times.seconds == 0.0
    times.add(8, 2.0)
    assert times.seconds == 0.0


@pytest.mark.parametrize(("count", "seconds"), [(8, 0.024), (1, 0.01), (0, 0.004)])
def test_a_batch_costs_as_much_as_some_prompts_besides(count, seconds):
    times = RecentTimes()
    for _ in range(2):
        times.add(count, seconds)
    assert times.seconds == pytest.approx(seconds / (count + FIXED_COST))


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
    times = RecentTimes()
    for unit in seconds:
        times.add(2, unit * (2 + FIXED_COST))
    assert times.seconds == pytest.approx(expected)
