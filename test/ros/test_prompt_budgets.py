"""The live node where prompts come from a grid and a budget ends them."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from aopsam_ros.msg import MaskArray
from aopsam_ros.msg import Prompt as PromptMessage
from support.messages import image_of
from support.scenes import boxes_scene

GOOD = image_of(boxes_scene())


@pytest.fixture
def on_a_grid(active):
    own = {name: active.get(f"asf.{name}") for name in ("max_prompts", "min_spacing")}
    assert active.set(**{f"asf__{name}": value for name, value in own.items()}) == []  # to restore
    active.configure_anew(prompt_source="grid16")
    return active


def decoded_of(prompts):
    """Places of the prompts that were decoded, pixels."""
    return np.array([(p.x, p.y) for p in prompts if p.state != PromptMessage.UNUSED])


def test_a_grid_is_whole_until_somebody_sets_a_limit(on_a_grid):
    assert on_a_grid.get("asf.max_prompts") == 4096
    assert len(decoded_of(on_a_grid.answer(GOOD, "prompts").prompts)) == 256
    assert on_a_grid.set(asf__max_prompts=20) == []
    on_a_grid.forget()
    decoded = decoded_of(on_a_grid.answer(GOOD, "prompts").prompts)
    assert len(decoded) == 20
    parts, _, _ = np.histogram2d(*decoded.T, bins=2, range=[[0, 128]] * 2)
    assert parts.min() >= 3  # of five in each quarter of the image
    expected = "budgets left 236 of 256 prompts undecoded"
    text, values = on_a_grid.reported(DiagnosticStatus.WARN, expected, GOOD)
    assert text == expected
    assert values["prompts_unused"] == "236"


def test_a_spent_budget_still_decodes_a_batch_and_the_message_says_so(on_a_grid):
    assert on_a_grid.set(asf__time_budget_ms=1) == []
    large = image_of(np.ascontiguousarray(np.tile(boxes_scene(), (8, 8, 1))))  # to be resized
    message = on_a_grid.answer(large)
    prompts = on_a_grid.answer(large, "prompts").prompts
    assert message.status == MaskArray.STATUS_NO_TIME
    assert len(decoded_of(prompts)) == 8
    expected = "the time budget ends before the first of 256 prompts: 8 are decoded all the same"
    assert on_a_grid.reported(DiagnosticStatus.WARN, expected, large)[0] == expected


def test_what_the_grid_does_not_use_is_taken_with_a_reason(on_a_grid):
    changes = [Parameter("asf.min_spacing", value=7), Parameter("asf.batch_size", value=8)]
    request = SetParameters.Request(parameters=[each.to_parameter_msg() for each in changes])
    spacing, size = on_a_grid.call(SetParameters, "set_parameters", request).results
    assert (spacing.successful, size.successful, size.reason) == (True, True, "")
    assert spacing.reason == "asf.min_spacing has no effect with the prompt source 'grid16'"
    assert on_a_grid.get("asf.min_spacing") == 7
    on_a_grid.configure_anew(model=on_a_grid.get("model"))  # as one given at start
    assert on_a_grid.logged("asf.min_spacing has no effect with the prompt source 'grid16'")
