"""What is measured side by side: the lists written out."""

import pytest

from aopsam_ros.errors import OptionError
from aopsam_ros.evaluation.configurations import configurations
from aopsam_ros.options import SegmenterOptions

OWN = SegmenterOptions().updated(
    {"asf.filtering": "none", "asf.min_spacing": 8, "asf.prompts": "points"}
)


def test_the_ablation_adds_one_thing_at_a_time():
    found = configurations(["predictor"], ["ablation"], OWN)[1:]
    assert [one.title for one in found] == ["predictor only", "+ sampling", "+ filtering (paper)"]
    plain, sampled, filtered = (OWN.updated(one.changes).asf for one in found)
    assert (plain.smoothing_sigma, plain.min_spacing, plain.sampling) == (0, 1, "peaks")
    assert (plain.filtering, sampled.filtering, filtered.filtering) == ("none", "none", "paper")
    assert sampled.min_spacing == filtered.min_spacing == 8
    own = OWN.updated({"asf.filtering": "max_inside"})
    assert configurations(["predictor"], ["ablation"], own)[-1].title == "+ filtering (max_inside)"


def test_the_ablation_of_a_model_with_extents_begins_without_them_and_without_a_budget():
    own = OWN.updated({"asf.prompts": "extents", "asf.max_prompts": 100})
    found = configurations(["predictor"], ["ablation"], own)[1:]
    steps = [own.updated(one.changes).asf for one in found]
    assert [step.prompts for step in steps] == ["points", "points", "points", "extents"]
    assert [step.max_prompts for step in steps] == [4096, 100, 100, 100]
    assert found[-1].title == "+ extents" and steps[-1].filtering == steps[-2].filtering


def test_presets_of_clusters_and_how_masks_of_points_are_combined():
    parts = ["presets", "merging"]
    found = configurations(["grid4", "predictor", "clusters", "boxes"], parts, OWN)[4:]
    presets, merging = found[:4], found[4:]
    assert [one.changes for one in presets] == [
        {"clusters.preset": name} for name in ("low_latency", "high_quality", "sam3d", "sam1")
    ]
    assert {one.source for one in presets} == {"clusters"}
    assert [(one.title, one.changes["mask.combine"]) for one in merging] == [
        ("grid4, nms", "nms"),
        ("grid4, merge", "merge"),
        ("clusters, nms", "nms"),
        ("clusters, merge", "merge"),
    ]
    assert configurations(["grid4"], parts, OWN)[1:] == []


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
