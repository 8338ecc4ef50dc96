"""What is measured side by side: the lists written out."""

import pytest

from aopsam_ros.errors import OptionError
from aopsam_ros.evaluation.configurations import PARTS, configurations
from aopsam_ros.option_table import OPTIONS
from aopsam_ros.options import SegmenterOptions

OWN = SegmenterOptions().updated({"asf.filtering": "none", "asf.min_spacing": 8})


def test_sources_come_first_and_unchanged():
    found = configurations(["grid16", "boxes"], PARTS, OWN)
    assert [(one.part, one.title, one.source, one.changes) for one in found] == [
        ("sources", "grid16", "grid16", {}),
        ("sources", "boxes", "boxes", {}),
    ]


def test_the_ablation_adds_one_thing_at_a_time():
    found = configurations(["predictor"], ["ablation"], OWN)[1:]
    assert [one.title for one in found] == ["predictor only", "+ sampling", "+ filtering (paper)"]
    plain, sampled, filtered = (OWN.updated(one.changes).asf for one in found)
    assert (plain.smoothing_sigma, plain.min_spacing, plain.sampling) == (0, 1, "peaks")
    assert (plain.filtering, sampled.filtering, filtered.filtering) == ("none", "none", "paper")
    assert sampled.min_spacing == filtered.min_spacing == 8
    own = OWN.updated({"asf.filtering": "max_inside"})
    assert configurations(["predictor"], ["ablation"], own)[-1].title == "+ filtering (max_inside)"


def test_every_rule_is_measured():
    rules = configurations(["predictor"], ["rules"], OWN)[1:]
    assert [one.title for one in rules] == list(OPTIONS["asf.filtering"].choices)
    assert all(one.changes == {"asf.filtering": one.title} for one in rules)


def test_sweeps_change_one_option_and_hold_the_models_own_value():
    found = configurations(["predictor"], ["sweeps"], OWN)[1:]
    by_option = {}
    for one in found:
        by_option.setdefault(one.swept, []).append(one.value)
    assert by_option == {
        "asf.smoothing_sigma": [0, 1, 2, 3, 4],
        "asf.confidence_threshold": [0.05, 0.1, 0.2, 0.3, 0.4],
        "asf.min_spacing": [2, 4, 5, 6, 7, 8],
        "asf.elimination_threshold": [1.0, 1.25, 1.3, 1.35, 1.4],
        "asf.elimination_cosine": [0.5, 0.65, 0.75, 0.85, 0.95],
        "asf.max_prompts": [8, 16, 32, 64, 128, 256],
    }


PAPER, DUPLICATES = ("elimination_threshold", "paper"), ("elimination_cosine", "duplicates")


@pytest.mark.parametrize(
    ("own", "taken"),
    [("none", {PAPER, DUPLICATES}), ("max", {DUPLICATES}), ("duplicates", {PAPER})],
)
def test_where_the_own_rule_makes_no_use_of_an_option_one_that_does_is_taken(own, taken):
    own = OWN.updated({"asf.filtering": own})
    found = configurations(["predictor"], ["sweeps"], own)
    changed = [one for one in found if "asf.filtering" in one.changes]
    rules = {(one.swept.partition(".")[2], one.changes["asf.filtering"]) for one in changed}
    assert rules == taken


@pytest.mark.parametrize(
    ("sources", "parts", "reason"),
    [
        (["grid4", "grid4"], [], "a source is named twice"),
        (["oracle"], [], "unknown prompt source 'oracle'"),
        (["grid4"], ["rules", "rules"], "a part is named twice"),
        (["grid4"], ["poem"], "unknown part 'poem'; known: sources, ablation"),
    ],
)
def test_wrong_words_are_refused(sources, parts, reason):
    with pytest.raises(OptionError, match=reason):
        configurations(sources, parts, OWN)
