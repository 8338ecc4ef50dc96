"""Image markers: outlines along the masks' edges, prompts at their pixels."""

import numpy as np
from std_msgs.msg import Header
from visualization_msgs.msg import ImageMarker

from aopsam_ros.drawing.glyphs import PROMPT_STYLES
from aopsam_ros.drawing.overlay import colour_of
from aopsam_ros.masks import encode_full
from aopsam_ros.results import InstanceMask, Prompt, PromptState, Segmentation
from aopsam_ros.ros.messages.image_markers import TOLERANCE, outlines, prompt_points

HEADER = Header(frame_id="camera")


def mask_of(number, pixels):
    box, counts = encode_full(pixels)
    return InstanceMask(number, box, int(pixels.sum()), 0.5, 1.0, (0, 0), 1.0, "", counts)


def pixels_of(*boxes):
    pixels = np.zeros((60, 80), bool)
    for x, y, width, height in boxes:
        pixels[y : y + height, x : x + width] = True
    return pixels


MASKS = (mask_of(3, pixels_of((5, 6, 20, 10), (40, 30, 8, 9))), mask_of(7, pixels_of((2, 2, 1, 1))))
PROMPTS = tuple(Prompt(3.5 * number, 2.25, 0.5, state) for number, state in enumerate(PromptState))
FRAME = Segmentation(60, 80, MASKS, PROMPTS, 0, {}, None, "", "")


def coordinates(marker):
    return np.array([(point.x, point.y) for point in marker.points]).reshape(-1, 2)


def rgb(colour):
    return tuple(round(255 * channel) for channel in (colour.r, colour.g, colour.b))


def test_outlines_are_closed_lines_along_the_edges_in_the_masks_colours():
    marker = outlines(FRAME, HEADER)
    assert (marker.header, marker.type, marker.action) == (
        HEADER,
        ImageMarker.LINE_LIST,
        ImageMarker.ADD,
    )
    lines = coordinates(marker).reshape(-1, 2, 2)
    assert len(marker.outline_colors) == len(lines)  # one a line
    own = np.array([rgb(colour) == tuple(colour_of(3)) for colour in marker.outline_colors])
    starts, ends = lines[own, 0], lines[own, 1]
    assert {tuple(p) for p in starts.tolist()} == {tuple(p) for p in ends.tolist()}
    corners = {(5, 6), (24, 6), (24, 15), (5, 15), (40, 30), (47, 30), (47, 38), (40, 38)}
    assert {tuple(p) for p in starts.tolist()} == corners
    (dot,) = lines[~own]
    np.testing.assert_array_equal(dot, [[2, 2], [2, 2]])


def test_a_round_outline_strays_by_the_tolerance_at_most():
    rows, columns = np.mgrid[:60, :80]
    disc = (rows - 30) ** 2 + (columns - 40) ** 2 <= 20**2
    marker = outlines(Segmentation(60, 80, (mask_of(1, disc),), (), 0, {}, None, "", ""), HEADER)
    radius = np.hypot(*(coordinates(marker) - [40, 30]).T)
    assert radius.min() > 20 - TOLERANCE - 0.8 and radius.max() <= 20
    assert len(marker.points) < 60


def test_prompts_are_points_coloured_by_what_became_of_them():
    marker = prompt_points(FRAME, HEADER)
    assert marker.type == ImageMarker.POINTS
    np.testing.assert_array_equal(coordinates(marker), [(p.x, p.y) for p in PROMPTS])
    expected = [tuple(PROMPT_STYLES[p.state].colour) for p in PROMPTS]
    assert [rgb(colour) for colour in marker.outline_colors] == expected


def test_an_empty_frame_replaces_what_was_shown():
    empty = Segmentation(60, 80, (), (), 0, {}, None, "", "")
    assert outlines(empty, HEADER).points == []
    assert prompt_points(empty, HEADER).points == []
