"""Pace: what frames took, as the next one's time budget sees it."""

import pytest

from aopsam_ros.pace import Lately, Pace


def test_nothing_is_known_before_the_first_frame():
    pace = Pace()
    pace.learn_rounds([])
    assert pace.opening.seconds == pace.prompt.seconds == pace.mask.seconds == 0.0


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([3], 3),
        ([3, 5], 3),
        ([5, 3], 3),
        ([1, 9, 2, 4], 4),
        ([9, 9] + [1] * 6, 9),
        ([9, 9] + [1] * 7, 1),
    ],
)
def test_the_second_longest_of_the_last_eight_counts(seconds, expected):
    lately = Lately()
    for some in seconds:
        lately.learn(2, 2.0 * some)
    assert lately.seconds == expected


def test_a_frame_with_nothing_to_learn_from_is_no_frame():
    lately = Lately()
    lately.learn(0, 7.0)
    assert lately.seconds == 0.0
    lately.learn(1, 7.0)
    assert lately.seconds == 7.0


def test_prompts_are_learnt_from_the_rounds_after_the_first():
    pace = Pace()
    pace.learn_rounds([(8, 0.020), (8, 0.008), (4, 0.010)])
    assert pace.prompt.seconds == pytest.approx(0.018 / 12)
    assert pace.opening.seconds == pytest.approx(0.020 - 8 * 0.018 / 12)


def test_a_first_round_is_learnt_from_where_there_is_no_other():
    pace = Pace()
    pace.learn_rounds([(8, 0.016)])
    assert pace.prompt.seconds == pytest.approx(0.002)
    assert pace.opening.seconds == pytest.approx(0.0)
    # Fewer prompts show that not all of it was theirs.
    pace.learn_rounds([(2, 0.010)])
    pace.learn_rounds([(2, 0.010)])
    assert pace.prompt.seconds == pytest.approx(0.002)
    assert pace.opening.seconds == pytest.approx(0.006)


def test_an_opening_takes_no_less_than_nothing():
    pace = Pace()
    pace.learn_rounds([(2, 0.001), (8, 0.080)])
    assert pace.opening.seconds == 0.0
