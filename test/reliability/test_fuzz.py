"""Malformed messages: refused in one line each, and the valid ones between them are answered."""

from reliability.converters import READERS, read_all
from reliability.fuzz import fuzz
from reliability.fuzz_boxes import fuzz_boxes

from aopsam_ros.ros.node import WARNING_PERIOD_S


def test_readers_refuse_in_one_line_or_read():
    refusals = read_all(200)
    assert set(refusals) == set(READERS)
    for name, found in refusals.items():
        assert found.total() > 20, name
        assert len(found) >= (2 if name in ("boxes", "depth") else 1), name


def test_a_node_answers_valid_frames_between_malformed_messages():
    outcome = fuzz(100, wire=True)
    assert outcome.wrong == 0
    assert outcome.tracebacks == 0
    assert outcome.answered == outcome.refused == 20  # requests
    assert 5 <= outcome.failed <= 20
    assert len(outcome.said) >= 3  # kinds; none keeps another back
    assert all("callback" not in kind for kind in outcome.said)
    assert outcome.closest_s() > WARNING_PERIOD_S - 1.0


def test_a_detector_gone_wild_is_refused_and_valid_boxes_taken():
    outcome = fuzz_boxes(15)
    assert outcome.valid == 3
    assert outcome.failed >= 3
    assert outcome.tracebacks == 0
