"""One warning for each kind of fault, once in a while."""

import pytest

from aopsam_ros.ros.monitoring.throttle import MOST_KINDS, Throttle, kind_of


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("the image has 5 bytes of data", "the image has 6789 bytes of data"),
        ("encoding 'abc' is not supported", "encoding 'h264' is not supported"),
        ("box: -1.5e+09 x 3 at (nan, inf)", "box: 7 x -inf at (1, 2)"),
        ("Traceback:\n  line 3\nValueError: 3", "Traceback:\n  line 900\nValueError: 4\n"),
    ],
)
def test_numbers_and_quoted_input_make_no_other_kind(first, second):
    assert kind_of(first) == kind_of(second)


def test_other_words_are_another_kind():
    assert kind_of("the image is empty: 0x0") != kind_of("the image's step is 0 bytes")
    assert kind_of("") == ""


def test_a_kind_waits_and_keeps_no_other_back():
    now = [0.0]
    throttle = Throttle(5.0, lambda: now[0])
    assert throttle.passes("empty: 1") and throttle.passes("too large: 1")
    assert not throttle.passes("empty: 2")
    now[0] = 4.9
    assert not throttle.passes("too large: 2")
    now[0] = 5.0
    assert throttle.passes("empty: 3") and not throttle.passes("empty: 4")


def test_it_does_not_grow():
    throttle = Throttle(5.0, lambda: 0.0)
    for number in range(10 * MOST_KINDS):
        assert throttle.passes("x" * number)
    assert len(throttle._told) == MOST_KINDS
    assert throttle.passes("")  # the oldest kind is forgotten
