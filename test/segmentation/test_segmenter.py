"""The whole way of a frame, with a bundle whose results are known beforehand."""

import itertools
from unittest.mock import Mock

import numpy as np
import pytest

from aopsam_ros.errors import InputError, OptionError
from aopsam_ros.masks.rle import decode, decode_full
from aopsam_ros.results import PromptState, Status
from aopsam_ros.segmentation import segmenter as segmenter_module
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.segmentation.time_budget import Stopwatch, TimeBudget, spread_best
from support.scenes import coloured_scene, object_ious
from support.tiny_bundle import write_tiny_bundle


@pytest.mark.parametrize("size", [(90, 120), (480, 640), (700, 500), (64, 64)])
def test_every_object_is_found_with_one_prompt_each_best_first(tiny, size):
    rgb, objects = coloured_scene(*size)
    result = tiny.segment(rgb)
    assert (result.height, result.width) == size
    assert len(result.prompts) == result.prompts_decoded == len(result.masks) == 4
    assert min(object_ious(result, objects)) > 0.8
    assert all(prompt.state is PromptState.KEPT for prompt in result.prompts)
    cell = max(size) / 64  # of the confidence map, in source pixels
    for _, (x, y) in objects:
        assert min(max(abs(p.x - x), abs(p.y - y)) for p in result.prompts) <= cell
    confidences = [p.confidence for p in result.prompts]
    assert confidences == sorted(confidences, reverse=True)
    assert all(0 <= c <= 1 for c in confidences)


def test_masks_carry_what_they_say(tiny):
    rgb, _ = coloured_scene(480, 640)
    result = tiny.segment(rgb)
    areas = [mask.area for mask in result.masks]
    assert areas == sorted(areas, reverse=True)
    assert [mask.id for mask in result.masks] == [1, 2, 3, 4]
    places = {(p.x, p.y): p.confidence for p in result.prompts}
    for mask in result.masks:
        x, y, w, h = mask.bbox
        crop = decode(mask)
        assert crop.shape == (h, w)
        assert crop.sum() == mask.area
        assert crop[0].any() and crop[-1].any() and crop[:, 0].any() and crop[:, -1].any()
        assert 0 <= x <= x + w <= 640 and 0 <= y <= y + h <= 480
        assert places[mask.prompt] == mask.prompt_confidence
        assert mask.predicted_iou == pytest.approx(0.9)
        assert mask.stability_score > 0.5
        assert decode_full(mask, 480, 640)[y : y + h, x : x + w].sum() == mask.area


def test_grid_decodes_every_point_and_finds_the_same_objects(tiny_grid):
    rgb, objects = coloured_scene(480, 640)
    result = tiny_grid.segment(rgb)
    assert result.prompt_source == "grid8"
    assert result.prompts_decoded == len(result.prompts) == 64
    assert result.confidence_map is None
    assert min(object_ious(result, objects)) > 0.8
    states = {prompt.state for prompt in result.prompts}
    assert states == {PromptState.KEPT, PromptState.REJECTED}


def test_grid_takes_its_own_thresholds_from_the_bundle(tmp_path):
    defaults = {
        "mask": {"predicted_iou_threshold": 0.7, "stability_threshold": 0.3},
        "grid": {"predicted_iou_threshold": 0.95},
    }
    folder = write_tiny_bundle(tmp_path / "b", defaults=defaults)
    grid = Segmenter.from_bundle(folder, prompt_source="grid4").options.mask
    assert grid.predicted_iou_threshold == 0.95
    assert grid.stability_threshold == 0.3
    assert (grid.candidates, grid.combine) == ("all", "box_nms")
    predictor = Segmenter.from_bundle(folder).options.mask
    assert predictor.predicted_iou_threshold == 0.7
    assert (predictor.candidates, predictor.combine) == ("best", "nms")


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_batch_size_changes_nothing_without_filtering(tiny, batch_size):
    rgb, _ = coloured_scene(200, 300)
    options = tiny.options.updated({"asf.filtering": "none"})
    expected = tiny.segment(rgb, options)
    result = tiny.segment(rgb, options.updated({"asf.batch_size": batch_size}))
    assert result.prompts == expected.prompts
    assert [m.area for m in result.masks] == [m.area for m in expected.masks]


def test_max_prompts_leaves_the_rest_unused(tiny, monkeypatch):
    rgb, _ = coloured_scene(200, 300)
    options = tiny.options.updated({"asf.max_prompts": 3, "asf.batch_size": 2})
    result = tiny.segment(rgb, options)
    assert result.prompts_decoded == 3
    assert [p.state.name for p in result.prompts] == ["KEPT"] * 3 + ["UNUSED"]
    monkeypatch.setattr(tiny, "options", options)  # for all images that have none of their own
    assert tiny.segment(rgb).prompts_decoded == 3


def test_a_second_prompt_of_an_object_is_eliminated_or_its_mask_suppressed_or_merged(tiny):
    rgb, objects = coloured_scene(240, 320)
    x, y = (int(v) for v in objects[0][1])
    rgb[y + 30 : y + 38, x - 4 : x + 4, 0] = 200  # a second, weaker dot on the first object
    for rule, combine, state, decoded in (
        ("none", "nms", "REJECTED", 5),
        ("none", "merge", "KEPT", 5),
        ("inside", "nms", "ELIMINATED", 4),
    ):
        asf = {"asf.batch_size": 1, "asf.filtering": rule, "mask.combine": combine}
        result = tiny.segment(rgb, tiny.options.updated(asf))
        assert result.prompts_decoded == decoded and len(result.masks) == 4
        assert sorted(p.state.name for p in result.prompts) == sorted(["KEPT"] * 4 + [state])


def test_unsure_and_small_masks_are_left_out(tiny):
    rgb, _ = coloured_scene(240, 320)
    result = tiny.segment(rgb, tiny.options.updated({"mask.predicted_iou_threshold": 0.95}))
    assert result.masks == ()
    assert {p.state for p in result.prompts} == {PromptState.REJECTED}
    areas = [mask.area for mask in tiny.segment(rgb).masks]
    least = sorted(areas)[1]
    result = tiny.segment(rgb, tiny.options.updated({"mask.min_area": least}))
    assert [mask.area for mask in result.masks] == [area for area in areas if area >= least]


def test_time_budget_spent_before_decoding_decodes_one_batch_and_says_so(tiny):
    rgb, _ = coloured_scene(240, 320)
    times = itertools.count(0.0, 3600.0)  # an hour passes whenever one looks
    options = tiny.options.updated({"asf.time_budget_ms": 60_000, "asf.batch_size": 1})
    result = tiny.segment(rgb, options, stopwatch=Stopwatch(lambda: next(times)))
    assert (result.prompts_decoded, len(result.masks), result.status) == (1, 1, Status.NO_TIME)
    assert [p.state.name for p in result.prompts] == ["KEPT"] + ["UNUSED"] * 3


def test_a_frame_ends_in_its_time_budget_with_the_best_prompts(tiny, monkeypatch):
    """Time passes only here: 8 ms a call of the decoder, 2 a prompt; 12 an end, 3 a mask."""
    now = [0.0]

    def decode(handle, coords, labels, _mask_input=None, original=tiny.engine.decode):
        now[0] += 0.008 + 0.002 * len(coords)
        return original(handle, coords, labels)

    def build_instances(decoded, *others, original=segmenter_module.build_instances):
        now[0] += 0.012 + 0.003 * len(decoded.masks)
        return original(decoded, *others)

    def segment(**asf):
        now[0] = 0.0
        chosen = {"filtering": "none", "batch_size": 1, **asf}
        options = tiny.options.updated({f"asf.{name}": value for name, value in chosen.items()})
        return tiny.segment(rgb, options, stopwatch=Stopwatch(lambda: now[0]))

    monkeypatch.setattr(tiny, "time_budget", TimeBudget())  # other tests' frames took real time
    monkeypatch.setattr(tiny.engine, "decode", decode)
    monkeypatch.setattr(segmenter_module, "build_instances", build_instances)
    rgb, _ = coloured_scene(240, 320)
    everything = segment()
    whole_ms = everything.timings_ms["total"]
    assert whole_ms == pytest.approx(13 * everything.prompts_decoded + 12)
    calls = []
    for budget_ms in range(1, int(whole_ms) + 10):
        found = segment(time_budget_ms=budget_ms)
        assert found.timings_ms["total"] <= max(budget_ms, 25) + 1e-6  # one prompt in any case
        states = [prompt.state for prompt in found.prompts]
        points = np.array([(prompt.x, prompt.y) for prompt in found.prompts])
        first = spread_best(points, 240, 320)[: found.prompts_decoded]
        decoded = [i for i, state in enumerate(states) if state is not PromptState.UNUSED]
        assert decoded == sorted(first)
        calls.append(found.prompts_decoded)
    assert calls == sorted(calls)
    assert set(calls) == set(range(1, everything.prompts_decoded + 1))


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 500), (500, 1), (3, 3), (4320, 7680)])
@pytest.mark.parametrize("source", ["tiny", "tiny_grid"])
def test_any_image_size(request, source, size):
    segmenter = request.getfixturevalue(source)
    rgb = np.zeros((*size, 3), np.uint8)
    rgb[:, size[1] // 2 :] = 255
    result = segmenter.segment(rgb)
    assert (result.height, result.width) == size
    for prompt in result.prompts:
        assert 0 <= prompt.x < size[1] and 0 <= prompt.y < size[0]
    for mask in result.masks:
        x, y, w, h = mask.bbox
        assert x + w <= size[1] and y + h <= size[0]


@pytest.mark.parametrize(
    "image", [None, np.zeros((0, 0, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))]
)
def test_bad_image_is_an_input_error_and_the_next_one_works(tiny, image):
    with pytest.raises(InputError):
        tiny.segment(image)
    rgb, _ = coloured_scene(90, 120)
    assert len(tiny.segment(rgb).masks) == 4


@pytest.mark.parametrize(
    ("coords", "labels"),
    [
        (np.zeros((3, 2)), np.ones((3, 1))),
        (np.zeros((3, 1, 3)), np.ones((3, 1))),
        (np.zeros((3, 1, 2)), np.ones((3, 2))),
        (np.zeros((3, 1, 2)), np.ones(3)),
        (np.zeros((0, 1, 2)), np.ones((0, 1))),
        (np.full((1, 1, 2), np.nan), np.ones((1, 1))),
    ],
)
def test_bad_prompts_are_an_input_error(tiny, coords, labels):
    frame = tiny.encode(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(InputError, match="prompts must"):
        tiny.decode(frame, coords, labels)


def test_bundle_without_predictor_serves_grids_only(bare):
    rgb, objects = coloured_scene(240, 320)
    with Segmenter.from_bundle(bare, prompt_source="grid8") as grid:
        assert min(object_ious(grid.segment(rgb), objects)) > 0.8
    engine = Mock(has_predictor=False)
    with pytest.raises(OptionError, match=r"no prompt predictor: .*such as .*train-predictor"):
        Segmenter.from_bundle(bare, "predictor", make_engine=lambda *_: engine)
    engine.close.assert_called_once_with()


def test_auto_takes_the_predictor_or_what_works_without_and_says_so(tiny_folder, bare, caplog):
    sources = "aopsam_ros.prompting.sources"
    caplog.set_level("INFO", sources)
    for folder, source in ((tiny_folder, "predictor"), (bare, "clusters")):
        with Segmenter.from_bundle(folder, prompt_source="auto") as segmenter:
            assert segmenter.segment(coloured_scene(120, 160)[0]).prompt_source == source
    assert [(r.levelname, r.message) for r in caplog.records if r.name == sources] == [
        ("INFO", "prompts from predictor (auto)"),
        (
            "WARNING",
            "model 'tiny' has no prompt predictor (`aopsam add-prompter` gives it one): prompts "
            "from clusters",
        ),
    ]
