"""The generated messages: fields and constants."""

import pytest

pytest.importorskip("rclpy", reason="needs ROS")

from aopsam_ros.msg import Mask, MaskArray, Prompt, PromptArray
from aopsam_ros.results import PromptState, Status
from aopsam_ros.srv import Segment

SIZED = {"header": "std_msgs/Header", "height": "uint32", "width": "uint32"}
MASKS = {"masks": "sequence<aopsam_ros/Mask>"}
FIELDS = {
    Mask: {
        "id": "uint32",
        "roi": "sensor_msgs/RegionOfInterest",
        "area": "uint32",
        "predicted_iou": "float",
        "stability_score": "float",
        "prompt_x": "float",
        "prompt_y": "float",
        "prompt_confidence": "float",
        "label": "string",
        "label_score": "float",
        "parent": "uint32",
        "level": "uint8",
        "counts": "sequence<uint32>",
    },
    MaskArray: {
        **SIZED,
        "status": "uint8",
        "age_ms": "float",
        "model": "string",
        "prompt_source": "string",
        **MASKS,
    },
    Prompt: {"x": "float", "y": "float", "confidence": "float", "state": "uint8"},
    PromptArray: {**SIZED, "prompts": "sequence<aopsam_ros/Prompt>"},
    Segment.Request: {
        "image": "sensor_msgs/Image",
        "points": "sequence<double>",
        "labels": "sequence<uint8>",
        "box": "sensor_msgs/RegionOfInterest",
        "all_masks": "boolean",
    },
    Segment.Response: {"success": "boolean", "message": "string", **SIZED, **MASKS},
}


@pytest.mark.parametrize("message", FIELDS, ids=lambda m: m.__name__)
def test_fields_in_order(message):
    assert list(message.get_fields_and_field_types().items()) == list(FIELDS[message].items())


def test_prompt_states_are_those_of_the_library():
    assert (Prompt.KEPT, Prompt.ELIMINATED, Prompt.REJECTED, Prompt.UNUSED) == (0, 1, 2, 3)
    assert [state.value for state in PromptState] == [0, 1, 2, 3]


def test_statuses_are_those_of_the_library():
    constants = MaskArray.STATUS_COMPLETE, MaskArray.STATUS_CUT, MaskArray.STATUS_NO_TIME
    assert constants == (Status.COMPLETE, Status.CUT, Status.NO_TIME) == tuple(Status)
