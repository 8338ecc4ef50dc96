"""Constants of the generated messages; docs/interface.md has their fields."""

import pytest

pytest.importorskip("rclpy", reason="needs ROS")

from aopsam_ros.msg import MaskArray, Prompt
from aopsam_ros.results import PromptState, Status


def test_prompt_states_are_those_of_the_library():
    assert (Prompt.KEPT, Prompt.ELIMINATED, Prompt.REJECTED, Prompt.UNUSED) == (0, 1, 2, 3)
    assert [state.value for state in PromptState] == [0, 1, 2, 3]


def test_statuses_are_those_of_the_library():
    constants = MaskArray.STATUS_COMPLETE, MaskArray.STATUS_CUT, MaskArray.STATUS_NO_TIME
    assert constants == (Status.COMPLETE, Status.CUT, Status.NO_TIME) == tuple(Status)
