"""A segmentation as messages: nothing is lost, and the header is the image's."""

import array

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header

from aopsam_ros.msg import Mask, MaskArray, Prompt, PromptArray
from aopsam_ros.results import InstanceMask, PromptState, Segmentation
from aopsam_ros.results import Prompt as CorePrompt
from aopsam_ros.ros.messages import segmentations

HEADER = Header(frame_id="camera_optical_frame")
HEADER.stamp.sec, HEADER.stamp.nanosec = 12, 34


def mask_of(id_, x, y, picture, **values):
    """A mask from rows of '#' and '.', its counts found by walking along the pixels."""
    bits = np.array([[c == "#" for c in row] for row in picture])
    counts, current = [0], False
    for bit in bits.ravel():
        if bit != current:
            counts.append(0)
            current = bit
        counts[-1] += 1
    height, width = bits.shape
    fields = {
        "predicted_iou": 0.75,
        "stability_score": 0.5,
        "prompt": (x + 0.5, y + 0.25),
        "prompt_confidence": 0.25,
        "label": "",
        **values,
    }
    return InstanceMask(
        id_, (x, y, width, height), int(bits.sum()), counts=np.array(counts, np.uint32), **fields
    )


LARGE = mask_of(1, 1, 0, ["####", "#..#", "####"])
SMALL = mask_of(2, 3, 1, [".##", "##."], predicted_iou=0.5, label="cup")
FRAME = Segmentation(
    height=5,
    width=8,
    masks=(LARGE, SMALL),
    prompts=tuple(CorePrompt(x + 0.5, 2.0, x / 4, PromptState(x)) for x in range(4)),
    decoder_calls=3,
    timings_ms={},
    confidence_map=np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4),
    model="tiny",
    prompt_source="predictor",
)


def over_the_wire(message):
    return deserialize_message(serialize_message(message), type(message))


def test_masks_arrive_as_they_were():
    message = over_the_wire(segmentations.mask_array(FRAME, HEADER))
    assert message.header == HEADER
    assert (message.height, message.width) == (5, 8)
    for mask, sent in zip(FRAME.masks, message.masks, strict=True):
        roi = sent.roi
        assert (roi.x_offset, roi.y_offset, roi.width, roi.height) == mask.bbox
        assert (sent.id, sent.area, sent.label) == (mask.id, mask.area, mask.label)
        assert sent.predicted_iou == mask.predicted_iou
        assert sent.stability_score == mask.stability_score
        assert (sent.prompt_x, sent.prompt_y) == mask.prompt
        assert sent.prompt_confidence == mask.prompt_confidence
        assert list(sent.counts) == mask.counts.tolist()
        assert not roi.do_rectify


def test_counts_take_the_fast_path_whatever_their_integer_type():
    counts = LARGE.counts.astype(np.int64)
    mask = mask_of(1, 0, 0, ["#"])
    object.__setattr__(mask, "counts", counts)
    frame = Segmentation(5, 8, (mask,), (), 0, {}, None, "tiny", "predictor")
    sent = segmentations.mask_array(frame, HEADER).masks[0].counts
    assert isinstance(sent, array.array)
    assert sent.typecode == "I"
    assert sent.tolist() == counts.tolist()


def test_prompts_keep_their_state():
    message = over_the_wire(segmentations.prompt_array(FRAME, HEADER))
    assert isinstance(message, PromptArray)
    assert message.header == HEADER
    assert [p.x for p in message.prompts] == [0.5, 1.5, 2.5, 3.5]
    assert [p.confidence for p in message.prompts] == [0.0, 0.25, 0.5, 0.75]
    states = [Prompt.DECODED, Prompt.ELIMINATED, Prompt.REJECTED, Prompt.UNUSED]
    assert [p.state for p in message.prompts] == states
    assert states == [
        PromptState.DECODED,
        PromptState.ELIMINATED,
        PromptState.REJECTED,
        PromptState.UNUSED,
    ]


def test_label_map_paints_small_masks_on_top():
    message = segmentations.label_map(FRAME, HEADER)
    assert (message.encoding, message.header) == ("mono16", HEADER)
    labels = np.frombuffer(message.data, np.uint16).reshape(5, 8)
    expected = ["01111000", "01002200", "01122000", "00000000", "00000000"]
    assert ["".join(map(str, row)) for row in labels] == expected


@pytest.mark.parametrize(("id_", "label"), [(65535, 65535), (65536, 1), (131071, 1)])
def test_label_map_with_ids_beyond_its_range(id_, label):
    frame = Segmentation(1, 1, (mask_of(id_, 0, 0, ["#"]),), (), 0, {}, None, "", "")
    message = segmentations.label_map(frame, HEADER)
    assert np.frombuffer(message.data, np.uint16).tolist() == [label]


def test_confidence_map_keeps_its_values():
    message = segmentations.confidence_map(FRAME, HEADER)
    assert (message.encoding, message.height, message.width) == ("32FC1", 3, 4)
    values = np.frombuffer(message.data, np.float32).reshape(3, 4)
    np.testing.assert_array_equal(values, FRAME.confidence_map)
    without = Segmentation(1, 1, (), (), 0, {}, None, "", "grid16")
    assert segmentations.confidence_map(without, HEADER) is None


def test_detections_give_the_boxes_back():
    message = over_the_wire(segmentations.detections(FRAME, HEADER))
    assert message.header == HEADER
    for mask, found in zip(FRAME.masks, message.detections, strict=True):
        box = found.bbox
        left = box.center.position.x - box.size_x / 2
        top = box.center.position.y - box.size_y / 2
        assert (left, top, box.size_x, box.size_y) == mask.bbox
        assert found.header == HEADER
        assert found.id == str(mask.id)
        assert found.results[0].hypothesis.score == mask.predicted_iou
        assert found.results[0].hypothesis.class_id == mask.label


def test_an_empty_frame_is_a_message_too():
    frame = Segmentation(5, 8, (), (), 0, {}, None, "", "")
    assert over_the_wire(segmentations.mask_array(frame, HEADER)) == MaskArray(
        header=HEADER, height=5, width=8
    )
    assert segmentations.detections(frame, HEADER).detections == []
    assert not any(segmentations.label_map(frame, HEADER).data)
    assert Mask().counts == array.array("I")
