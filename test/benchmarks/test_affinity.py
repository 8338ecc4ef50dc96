"""Fitting and comparing what tells that two masks show one thing."""

from dataclasses import replace

import numpy as np
import pytest

from aopsam_benchmarks import affinity
from aopsam_ros.errors import DatasetError
from aopsam_ros.evaluation.classes import with_ground_truth_labels
from aopsam_ros.labels.composing import affinities, coarse, pair_features
from aopsam_ros.results import Segmentation
from support.drawn_masks import instance_of, rectangle
from support.scenes import write_json, write_scenes

SIZE = 60, 100


def area(left, top, right, bottom):
    return rectangle(top, bottom, left, right, SIZE)


HALVES = area(10, 10, 30, 40), area(30, 10, 45, 40)
PAIR = area(50, 10, 65, 40), area(65, 10, 80, 40)


def sample_of(scores, shift=0):
    """Unsure halves of a mug and two sure mugs that touch, `shift` pixels lower."""
    moved = [np.roll(mask, shift, axis=0) for mask in (*HALVES, *PAIR)]
    named = [("mug", moved[0] | moved[1]), ("mug", moved[2]), ("mug", moved[3])]
    masks = tuple(
        instance_of(mask, number, score=score, stability_score=0.9)
        for number, (mask, score) in enumerate(zip(moved, scores, strict=True), start=1)
    )
    found = Segmentation(*SIZE, masks, (), 0, {}, None, "nano", "predictor")
    found = with_ground_truth_labels(found, named)
    cells = coarse(list(found.masks), found)
    geometry = pair_features(cells, np.array(scores, np.float32))
    semantic = np.eye(4, 8, dtype=np.float32)
    covered = np.zeros((4, 4), np.float32)
    instance = np.array([0, 0, 1, 2])
    return affinity.MaskPairs("classes", named, found, instance, geometry, covered, semantic)


SAMPLES = [
    sample_of((low, low + 0.1, high, high), shift)
    for shift, (low, high) in enumerate(((0.1, 0.8), (0.2, 0.7), (0.15, 0.9)))
]


def test_pairs_are_those_that_meet_and_one_thing_is_one_instance():
    inputs, same = affinity.training_pairs(SAMPLES[:1], affinity.geometric)
    assert inputs.shape == (2, 3)
    assert same.tolist() == [1, 0]  # the halves; the mugs beside each other
    np.testing.assert_allclose(inputs[:, 2], [0.1, 0.8], rtol=1e-6)
    alone = replace(SAMPLES[0], instance=np.arange(4))
    with pytest.raises(DatasetError, match="of one thing and of two"):
        affinity.training_pairs([alone], affinity.geometric)


def test_the_shipped_head_is_the_packages_affinity():
    one = SAMPLES[0]
    head = affinity.regression(np.array((affinity.BIAS, *affinity.WEIGHTS)), affinity.geometric)
    np.testing.assert_allclose(head(one), affinities(one.masks), rtol=1e-5)


@pytest.mark.needs("torch", "pycocotools")
def test_fitted_heads_unite_the_halves_and_leave_two_things_apart(capsys):
    heads, weights = affinity.fitted_heads(SAMPLES)
    assert weights.shape == (4,) and weights[3] < 0  # sure masks are two things
    for name in ("fitted", "and cosine", "network"):
        found = heads[name](SAMPLES[1])
        assert found[0, 1] > 0.5 > found[2, 3], name
        assert found[0, 3] == 0  # they do not meet
    assert affinity.figures(SAMPLES, heads["fitted"], 0.5)[0] == pytest.approx(1.0)
    assert affinity.figures(SAMPLES, heads["apart"], 0.5)[0] < 0.8
    affinity.report(heads, SAMPLES[:2], SAMPLES[2:])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(heads)
    assert "held out classes (2) | test classes (1)" in lines[0]


def test_the_rule_unites_what_is_covered_or_touches_and_looks_alike():
    one = SAMPLES[0]
    assert not affinity.rule(one)[0, 1]
    assert affinity.rule(replace(one, semantic=np.ones((4, 1), np.float32)))[0, 1]
    assert affinity.rule(replace(one, covered=np.full((4, 4), 0.7, np.float32)))[0, 3]


def test_kinds_of_data_and_what_is_held_out(tmp_path):
    data = write_scenes(tmp_path / "scenes", range(6))
    images = list(affinity.read([f"{data}=kind"], 4, 0.5))
    assert len(images) == 4 and {kind for _, kind, _ in images} == {"kind"}
    assert len(list(affinity.read([str(data)], 4, 0.0))) == 4
    assert not any(is_held for *_, is_held in affinity.read([str(data)], 4, 0.0))
    with pytest.raises(DatasetError, match="classes, kind, thing"):
        list(affinity.read([f"{data}=parts"], 4, 0.5))
    image = images[0][0]
    kinds = {kind: affinity.things_of(image, kind) for kind in affinity.KINDS}
    assert kinds["classes"] == []  # no classes.json
    assert [name for name, _ in kinds["kind"]] == ["thing"] * 3
    np.testing.assert_array_equal(
        kinds["thing"][0][1], np.any([mask for _, mask in kinds["kind"]], axis=0)
    )


def test_an_images_masks_get_the_classes_and_instances_they_lie_in(tmp_path, tiny):
    data = write_scenes(tmp_path / "scenes", range(1))
    names = {"1": "left", "2": "middle", "3": "right"}
    write_json(data / "classes.json", {"scene0": names})
    ((image, kind, _),) = affinity.read([str(data)], 4, 0.0)
    with affinity.closing(affinity.SemanticEncoder(tiny, affinity.EngineOptions())) as encoder:
        one = affinity.sample(tiny, encoder, image, kind)
    assert one is not None and len(one.masks.masks) == len(one.instance) > 0
    for mask, place in zip(one.masks.masks, one.instance.tolist(), strict=True):
        assert mask.label == one.named[place][0]
    np.testing.assert_allclose(np.diag(one.covered), 1.0)
