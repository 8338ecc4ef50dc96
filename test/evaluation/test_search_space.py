"""What is searched, and what it may cost: by hand."""

import pytest

from aopsam_ros.errors import OptionError
from aopsam_ros.options import OPTIONS, SegmenterOptions, check
from aopsam_ros.tuning.score import Budget, Score, TimeModel
from aopsam_ros.tuning.search_space import OF_EXTENTS, SearchSpace
from support.dice import Dice

EVERYTHING = SearchSpace(True, frozenset(), None)


@pytest.mark.parametrize("seed", range(40))
def test_every_suggestion_is_a_possible_option(seed):
    for space in (EVERYTHING, SearchSpace(False, frozenset(), 9.0)):
        for name, value in space.suggest(Dice(seed)).items():
            assert check(name, value) == value and type(value) is OPTIONS[name].value_type


def test_extents_are_searched_only_where_there_are_any():
    assert not {*OF_EXTENTS} & {*SearchSpace(True, frozenset(), None, False).suggest(Dice(1))}
    for seed in range(40):
        values = EVERYTHING.suggest(Dice(seed))
        used = {*OF_EXTENTS} & {*values}
        assert used == ({"asf.prompts"} if values["asf.prompts"] == "points" else {*OF_EXTENTS})


def test_what_the_user_has_set_is_left_alone_and_other_sources_have_options_of_masks_only():
    given = frozenset({"asf.min_spacing", "asf.filtering"})
    names = set(SearchSpace(True, given, None).suggest(Dice(1)))
    assert names.isdisjoint(given) and "mask.combine" in names
    names = SearchSpace(False, frozenset(), None).suggest(Dice(1))
    assert names and all(name.startswith("mask.") for name in names)


def test_the_search_starts_near_the_models_own_values():
    values = {
        "asf.smoothing_sigma": (9.0, 4.0),
        "asf.confidence_threshold": (0.131, 0.14),
        "asf.min_spacing": (1, 2),
        "asf.max_prompts": (100, 128),
        "mask.stability_threshold": (0.12, 0.1),
        "mask.combine": ("box_nms", "box_nms"),
    }
    own = SegmenterOptions().updated({name: given for name, (given, _) in values.items()})
    near = EVERYTHING.near(own.flat())
    assert {name: near[name] for name in values} == {name: v for name, (_, v) in values.items()}
    assert EVERYTHING.near(SegmenterOptions().updated(near).flat()) == near


def test_budgets_by_hand():
    score, time = Score(0.5, 0.5, 10.0, 30.0, 1, 1, 1, 1), TimeModel(100.0, 5.0, 2.0)
    assert time.estimate(30.0, 10.0) == 270.0
    assert Budget().excess(score, None) <= 0
    assert Budget(max_calls=40).excess(score, None) == pytest.approx(-0.25)
    assert Budget(max_calls=20).excess(score, None) == pytest.approx(0.5)
    assert Budget(time_ms=180).excess(score, time) == pytest.approx(0.5)
    assert Budget(max_calls=40, time_ms=180).excess(score, time) == pytest.approx(0.5)
    assert Budget(max_calls=40, time_ms=300).excess(score, time) <= 0
    assert Budget(40, 180.5).describe() == "at most 40 prompts decoded and at most 180.5 ms"
    assert Budget().describe() == "no limit"


@pytest.mark.parametrize("limits", [(0, None), (float("nan"), None), (None, 0), (None, -1)])
def test_impossible_budgets_are_refused(limits):
    with pytest.raises(OptionError, match=r"--max-calls|--time-ms"):
        Budget(*limits)


def test_times_are_fitted():
    runs = [(calls, masks, 90 + 3 * calls + 2 * masks) for calls in (2, 16, 64) for masks in (1, 9)]
    fitted = TimeModel.fit(runs)
    assert (fitted.base, fitted.per_prompt, fitted.per_mask) == pytest.approx((90, 3, 2))
    # More masks in less time: noise, not a law.
    assert TimeModel.fit([(1, 1, 10), (1, 5, 8), (1, 9, 6)]).per_mask == 0
