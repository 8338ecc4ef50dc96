"""Malformed messages: refused in one line each, and the valid ones between them are answered."""

from reliability.converters import READERS, read_all
from reliability.fuzz import fuzz
from reliability.fuzz_boxes import fuzz_boxes
from reliability.malformed import REQUESTS

from aopsam_ros.ros.node import WARNING_PERIOD_S

ASK_NOTHING = {
    "get_available_states",
    "get_available_transitions",
    "get_state",
    "get_transition_graph",
    "get_type_description",
}


def test_readers_refuse_in_one_line_or_read():
    refusals = read_all(200)
    assert set(refusals) == set(READERS)
    for name, found in refusals.items():
        assert found.total() > 20, name
        assert len(found) >= (2 if name in ("boxes", "depth") else 1), name


def test_a_node_answers_valid_frames_between_malformed_messages():
    outcome = fuzz(240, wire=True)
    assert outcome.wrong == outcome.rear.wrong == 0
    assert outcome.tracebacks == 0
    assert outcome.answered == 16 * len(REQUESTS)
    assert outcome.refused > 100
    assert outcome.unclear == []
    assert 4 <= outcome.failed <= 16
    assert len(outcome.said) >= 3  # kinds; none keeps another back
    assert all("callback" not in kind for kind in outcome.said)
    assert outcome.closest_s() > WARNING_PERIOD_S - 1.0


def test_every_service_of_the_node_gets_malformed_requests(robot, tiny_folder):
    robot.start_node(model=tiny_folder)

    def services():
        found = dict(robot.node.get_service_names_and_types())
        return {name.removeprefix("/aopsam/") for name in found if name.startswith("/aopsam/")}

    robot.wait(lambda: set(REQUESTS) <= services(), "a service is missing")
    assert services() - set(REQUESTS) - ASK_NOTHING == set()


def test_a_detector_gone_wild_is_refused_and_valid_boxes_taken():
    outcome = fuzz_boxes(15, least=3)
    assert outcome.valid >= 3
    assert outcome.failed >= 3
    assert outcome.tracebacks == 0
