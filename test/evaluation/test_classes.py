"""PQ, AP and mIoU by class, against figures worked out by hand."""

import functools
import json
from dataclasses import replace

import pytest

from aopsam_ros.evaluation.classes import ClassFigures, mean_over_classes, with_ground_truth_labels
from aopsam_ros.results import Segmentation
from support.drawn_masks import instance_of, rectangle
from support.scenes import draw_rectangles, write_json, write_label_maps, write_scenes

pytestmark = pytest.mark.needs("pycocotools")
SIZE = 40, 60


def area(left, top, right, bottom):
    return rectangle(top, bottom, left, right, SIZE)


def segmentation(*named):
    masks = [
        instance_of(mask, number, label=label, score=score, label_score=1.0)
        for number, (label, score, mask) in enumerate(named, start=1)
    ]
    return Segmentation(*SIZE, tuple(masks), (), 0, {}, None, "nano", "predictor")


CAT, DOG, OTHER_DOG = area(0, 0, 20, 20), area(30, 0, 50, 20), area(0, 22, 20, 40)
GROUND_TRUTH = [("cat", CAT), ("dog", DOG), ("dog", OTHER_DOG)]


def test_figures_by_class():
    figures = ClassFigures()
    found = segmentation(
        ("cat", 0.9, area(0, 0, 20, 16)),  # IoU 0.8
        ("dog", 0.8, DOG),
        ("cat", 0.3, OTHER_DOG),  # the wrong name
        ("cat", 0.2, area(52, 22, 60, 40)),  # nothing is labelled there: no error
        ("", 0.9, OTHER_DOG),  # unknown: missed, but no error
    )
    figures.add(found, GROUND_TRUTH)
    rows = figures.by_class()
    assert rows["cat"] == pytest.approx(
        # AP: right at 7 of 10 thresholds; the wrong one ranks below.
        {"sq": 0.8, "rq": 1 / 1.5, "pq": 0.8 / 1.5, "ap": 0.7, "miou": 320 / 760, "instances": 1}
    )
    assert rows["dog"] == pytest.approx(
        # AP: one of two is found, exactly: 51 of 101 recalls.
        {"sq": 1, "rq": 1 / 1.5, "pq": 1 / 1.5, "ap": 51 / 101, "miou": 400 / 760, "instances": 2}
    )
    assert mean_over_classes(rows)["sq"] == pytest.approx(0.9)
    assert figures.masks == 4


def test_labels_of_the_ground_truth():
    found = segmentation(("", 1, area(2, 2, 8, 8)), ("", 1, area(10, 0, 40, 20)), ("", 1, DOG))
    labelled = with_ground_truth_labels(found, GROUND_TRUTH)
    assert [mask.label for mask in labelled.masks] == ["cat", "", "dog"]
    assert replace(labelled, masks=()) == replace(found, masks=())


def test_masks_of_nested_instances_get_a_class_each():
    """A perfect segmentation is one whatever lies in what."""
    person, tie = area(0, 0, 30, 40), area(10, 10, 14, 30)
    named = [("person", person), ("tie", tie)]
    found = segmentation(("", 1, person), ("", 1, tie), ("", 1, area(20, 0, 30, 8)))
    labelled = with_ground_truth_labels(found, named)
    assert [mask.label for mask in labelled.masks] == ["person", "tie", "person"]
    figures = ClassFigures()
    figures.add(replace(labelled, masks=labelled.masks[:2]), named)
    assert {name: row["pq"] for name, row in figures.by_class().items()} == {"person": 1, "tie": 1}


def test_the_command_measures_with_and_without_uniting(tmp_path, tiny_folder, aopsam, refused):
    data = write_scenes(tmp_path / "scenes", range(2))
    names = {"1": "left", "2": "middle", "3": "right"}
    write_json(data / "classes.json", {"scene0": names, "scene1": names})
    words = ["evaluate", "--model", tiny_folder, "--data", data, "--threads", "1", "--classes"]
    out = tmp_path / "out"
    result = aopsam(*words, "ground-truth", "--out", out)
    assert result.code == 0
    header, apart, united = result.out.splitlines()
    assert header.split() == ["pq", "sq", "rq", "ap", "miou", "masks"]
    assert float(apart.split()[1]) > 0.8 and float(united.split()[1]) > 0.8
    rows = json.loads((out / "classes.json").read_text())
    assert set(rows["united"]) == {"left", "middle", "right"}
    said = refused(*words, "ground-truth", "--merge-affinity", "0")
    assert "--merge-affinity must be above 0" in said
    boxes = {f"scene{i}": [[0, 0, 40, 40, 0.9]] for i in range(2)}
    by_boxes = ["--prompts", "boxes", "--boxes", write_json(tmp_path / "boxes.json", boxes)]
    assert aopsam(*words, "ground-truth", *by_boxes).code == 0
    said = refused("labels", "--data", data, "--out", "/dev/null/set", at_once=True)
    assert "/dev/null/set: cannot be written" in said
    assert aopsam("labels", "--data", data, "--out", tmp_path / "set").code == 0
    result = aopsam(*words, tmp_path / "set")
    assert result.code == 0 and float(result.out.splitlines()[1].split()[1]) > 0.5
    refused(*words, tmp_path / "none")


@pytest.mark.parametrize("labels", ["ground-truth", "SET"])
def test_a_grid_has_its_crops(tmp_path, tiny_folder, aopsam, labels):
    draw = functools.partial(draw_rectangles, size=(384, 512))
    data = write_label_maps(tmp_path / "scenes", range(2), draw)
    names = {"1": "left", "2": "middle", "3": "right"}
    write_json(data / "classes.json", {"scene0": names, "scene1": names})
    if labels == "SET":
        labels = tmp_path / "set"
        given = ["--data", data, "--model", tiny_folder, "--out", labels]
        assert aopsam("labels", *given).code == 0
    words = ["evaluate", "--model", tiny_folder, "--data", data, "--threads", "1"]
    words += ["--classes", labels, "--prompts", "grid1"]  # whose one point most things are beside

    def masks(*more):
        return int(aopsam(*words, *more).out.splitlines()[1].split()[-1])

    assert masks("--set", "grid.crop_layers=2") > masks()
