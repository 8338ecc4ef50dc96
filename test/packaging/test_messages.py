"""The generated messages: fields, constants, and the way over the wire and back."""

import array

import pytest

pytest.importorskip("rclpy", reason="needs ROS")

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header

from aopsam_ros.msg import Mask, MaskArray, Prompt, PromptArray
from aopsam_ros.results import PromptState
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
        "counts": "sequence<uint32>",
    },
    MaskArray: {**SIZED, **MASKS},
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


def header():
    stamp = Header().stamp.__class__(sec=2**31 - 1, nanosec=999_999_999)
    return Header(stamp=stamp, frame_id="camera_färbig")


def mask(counts):
    return Mask(
        id=7,
        roi=RegionOfInterest(x_offset=3, y_offset=5, width=4, height=2),
        area=3,
        predicted_iou=0.5,
        stability_score=0.25,
        prompt_x=4.5,
        prompt_y=5.5,
        prompt_confidence=0.75,
        label="Tasse",
        counts=array.array("I", counts),
    )


def over_the_wire(message):
    return deserialize_message(serialize_message(message), type(message))


@pytest.mark.parametrize("message", FIELDS, ids=lambda m: m.__name__)
def test_fields_in_order(message):
    assert list(message.get_fields_and_field_types().items()) == list(FIELDS[message].items())


def test_prompt_states_are_those_of_the_library():
    assert (Prompt.KEPT, Prompt.ELIMINATED, Prompt.REJECTED, Prompt.UNUSED) == (0, 1, 2, 3)
    assert [state.value for state in PromptState] == [0, 1, 2, 3]


def test_masks_survive_the_wire():
    sent = MaskArray(header=header(), height=480, width=640)
    sent.masks = [mask([1, 2, 2, 1, 2]), mask([0, 8]), mask([8]), mask([0, 2**32 - 1])]
    received = over_the_wire(sent)
    assert received == sent and received.header.frame_id == "camera_färbig"
    assert [m.counts.tolist() for m in received.masks] == [m.counts.tolist() for m in sent.masks]
    assert {(type(m.counts), m.counts.typecode) for m in received.masks} == {(array.array, "I")}


def test_prompts_survive_the_wire():
    sent = PromptArray(header=header(), height=480, width=640)
    states = [state.value for state in PromptState]
    sent.prompts = [Prompt(x=1.5, y=2.5, confidence=0.125, state=state) for state in states]
    received = over_the_wire(sent)
    assert received == sent and [prompt.state for prompt in received.prompts] == states


def test_empty_results_survive_the_wire():
    assert over_the_wire(MaskArray(height=1, width=1)).masks == []
    assert over_the_wire(PromptArray(height=1, width=1)).prompts == []
