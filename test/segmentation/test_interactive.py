"""One prompt of the user's own: what it means, what is refused, and its masks."""

import numpy as np
import pytest

from aopsam_ros.errors import InputError
from aopsam_ros.masks.rle import decode_full
from aopsam_ros.prompting.user_prompts import UserPrompt
from aopsam_ros.segmentation.interactive import (
    Refinement,
    mask_logits,
    segment_clicks,
    segment_prompt,
)
from aopsam_ros.segmentation.segmenter import Segmenter
from support.scenes import coloured_scene, iou
from support.tiny_bundle import mask_decoder, with_mask_input, write_tiny_bundle

RGB, OBJECTS = coloured_scene()
(WANTED, (X, Y)), *_ = OBJECTS
ON_FIRST, FURTHER_ON_FIRST = (X + 6, Y + 6), (X + 8, Y + 8)


def prompt(points=(), labels=None, box=None):
    points = np.array(points, np.float64).reshape(-1, 2)
    labels = np.ones(len(points), np.uint8) if labels is None else np.array(labels, np.uint8)
    return UserPrompt(points, labels, box)


@pytest.mark.parametrize(("wanted", "middle"), OBJECTS, ids=["first", "second", "third"])
def test_a_point_gives_the_object_it_lies_on(tiny, wanted, middle):
    x, y = middle
    (mask,), _ = segment_prompt(tiny, tiny.encode(RGB), prompt([(x + 6, y + 6)]))
    assert iou(decode_full(mask, *wanted.shape), wanted) > 0.85
    assert mask.id == 1
    assert mask.prompt == (x + 6, y + 6)
    assert mask.area == decode_full(mask, 90, 120).sum()
    assert mask.predicted_iou == pytest.approx(0.9)
    assert 0 <= mask.stability_score <= 1


def test_a_box_gives_what_its_corner_lies_on_and_is_cut_at_the_image(tiny):
    frame = tiny.encode(RGB)
    (whole,), _ = segment_prompt(tiny, frame, prompt(box=(-50.0, -9.0, 500.0, 300.0)))
    (same,), _ = segment_prompt(tiny, frame, prompt(box=(0.0, 0.0, 120.0, 90.0)))
    np.testing.assert_array_equal(whole.counts, same.counts)
    assert whole.prompt == (59.5, 44.5)


def test_all_masks_are_the_models_three_best_first(tiny):
    frame = tiny.encode(RGB)
    masks, _ = segment_prompt(tiny, frame, prompt([ON_FIRST]), all_masks=True)
    assert [mask.id for mask in masks] == [1, 2, 3]
    scores = [mask.predicted_iou for mask in masks]
    assert scores == sorted(scores, reverse=True)
    areas = {mask.area for mask in masks}
    assert len(areas) > 1  # three tolerances of the tiny model
    (best,), _ = segment_prompt(tiny, frame, prompt([ON_FIRST]))
    np.testing.assert_array_equal(best.counts, masks[0].counts)


def test_rows_are_points_and_then_corners():
    coords, labels = prompt([(1, 2), (3, 4)], [1, 0], (5.0, 6.0, 7.0, 8.0)).as_decoder_input()
    np.testing.assert_array_equal(coords, [[[1, 2], [3, 4], [5, 6], [7, 8]]])
    np.testing.assert_array_equal(labels, [[1, 0, 2, 3]])
    assert prompt([(1, 2), (3, 4)], [0, 1]).anchor == (3, 4)


@pytest.mark.parametrize(
    ("points", "labels", "box", "reason"),
    [
        ([], None, None, "needs a point on the object, or a box"),
        ([(1, 1)], [0], None, "needs a point on the object, or a box"),
        ([(1, 1)], [2], None, "a label is 1"),
        ([(1, 1)], [1, 1], None, r"points must be \[K, 2\]"),
        ([(np.nan, 1)], None, None, "not finite"),
        ([(1, 1)] * 65, None, None, "at most 64 points"),
        ([(120, 10)], None, None, "outside the image of 120x90"),
        ([(10, -0.5)], None, None, "outside the image of 120x90"),
        ([], None, (120.0, 0.0, 130.0, 10.0), "box lies outside"),
        ([], None, (10.0, 20.0, 10.0, 30.0), "box lies outside"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(tiny, points, labels, box, reason):
    with pytest.raises(InputError, match=reason) as caught:
        segment_prompt(tiny, tiny.encode(RGB), prompt(points, labels, box))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def with_masks(tmp_path_factory):
    """The tiny model, whose decoder adds the mask that it is given to its logits."""
    models = {"mask_decoder": with_mask_input(mask_decoder())}
    folder = write_tiny_bundle(tmp_path_factory.mktemp("masks") / "tiny", models)
    with Segmenter.from_bundle(folder, engine="onnxruntime") as segmenter:
        yield segmenter


def test_a_mask_to_begin_with_is_handed_to_the_decoder(with_masks):
    """A blank image: the decoder sees one colour everywhere, and only the mask can take away."""
    frame = with_masks.encode(np.full((128, 128, 3), 99, np.uint8))
    wanted = np.zeros((128, 128), np.bool_)
    wanted[20:60, 30:100] = True
    (free,), without = segment_prompt(with_masks, frame, prompt([(50, 40)]))
    assert free.area == 128 * 128
    begun = UserPrompt(np.array([[50.0, 40.0]]), np.ones(1, np.uint8), mask=wanted)
    added = segment_prompt(with_masks, frame, begun).logits - without
    # Another of the three may answer: its logits differ by the same everywhere.
    np.testing.assert_array_equal(added > (added.min() + added.max()) / 2, wanted[::2, ::2])
    other = UserPrompt(begun.points, begun.labels, mask=wanted[:50])
    with pytest.raises(InputError, match="mask is not of an image of 128x128"):
        segment_prompt(with_masks, frame, other)


def test_a_masks_logits_are_the_log_odds_of_a_cells_share(tiny):
    frame = tiny.encode(np.zeros((128, 128, 3), np.uint8))
    mask = np.zeros((128, 128), np.bool_)
    mask[:64] = True
    mask[64, 1::2] = True  # a quarter of each cell of two pixels a side
    logits = mask_logits(mask, frame.geometry, 64)
    assert (logits[:32] == 6).all() and (logits[33:] == -6).all()
    np.testing.assert_allclose(logits[32], np.log(0.25 / 0.75), rtol=1e-5)


def test_a_refinement_encodes_once_and_goes_on_from_the_mask_before(with_masks, watched):
    decoded, encoded = (watched(with_masks.engine, name) for name in ("decode", "encode"))
    refinement = Refinement(with_masks, RGB)
    refinement.answer(prompt([ON_FIRST]))
    refinement.answer(prompt([ON_FIRST, FURTHER_ON_FIRST]))
    u, v = OBJECTS[1][1]
    on_other = u + 6, v + 6
    refinement.answer(prompt([on_other]))  # another object does not begin with this one's mask
    refinement.answer(prompt([on_other, ON_FIRST], [1, 0]))
    assert [mask_input is not None for *_, mask_input in decoded] == [False, True, False, True]
    assert len(encoded) == 1


@pytest.mark.parametrize("padding", ["square", "least"])
def test_an_engine_that_keeps_one_embedding_encodes_again(
    with_masks, monkeypatch, watched, padding
):
    encoded = watched(with_masks.engine, "encode")
    options = with_masks.options.updated({"encoder.padding": padding})
    refinement = Refinement(with_masks, RGB, options)
    (before,) = refinement.answer(prompt([ON_FIRST]))
    monkeypatch.setattr(with_masks.engine, "keeps_embeddings", False)
    (after,) = refinement.answer(prompt([ON_FIRST]))
    assert after.bbox == before.bbox
    assert [valid is None for _, valid in encoded] == [padding == "square"] * 2


def test_a_refused_first_prompt_does_not_end_a_refinement(with_masks, monkeypatch, watched):
    """The embedding is replaced before the next, whatever became of the first."""
    refinement = Refinement(with_masks, RGB)
    monkeypatch.setattr(with_masks.engine, "keeps_embeddings", False)
    encoded = watched(with_masks.engine, "encode")
    with pytest.raises(InputError, match="outside the image"):
        refinement.answer(prompt([(500, 10)]))
    assert not encoded
    (mask,) = refinement.answer(prompt([ON_FIRST]))
    assert encoded and iou(decode_full(mask, *WANTED.shape), WANTED) > 0.85


def test_clicks_one_after_another_are_one_segmentation(with_masks):
    found = segment_clicks(with_masks, RGB, prompt([ON_FIRST, FURTHER_ON_FIRST]))
    assert found.prompts_decoded == 2 and found.prompt_source == "user"
    assert iou(decode_full(found.masks[0], *WANTED.shape), WANTED) > 0.85


def test_a_prompt_without_a_mask_was_not_kept(tmp_path):
    nothing = {"mask_decoder": mask_decoder(tolerances=(-1.0, -1.0, -1.0))}
    with Segmenter.from_bundle(write_tiny_bundle(tmp_path / "b", nothing), "grid1") as segmenter:
        found = segment_clicks(segmenter, RGB, prompt([ON_FIRST]))
    assert found.masks == () and [one.state.name for one in found.prompts] == ["REJECTED"]


@pytest.mark.parametrize("right", [float(WANTED.shape[1]), 1e20, float("inf")])
def test_a_box_is_shown_as_far_as_it_lies_in_the_image(tiny, right):
    found = segment_clicks(tiny, RGB, prompt(box=(0.0, 0.0, right, float(WANTED.shape[0]))))
    (shown,) = found.prompts
    assert shown.box == (0.0, 0.0, *WANTED.shape[::-1])
    assert {mask.prompt for mask in found.masks} == {(shown.x, shown.y)}
