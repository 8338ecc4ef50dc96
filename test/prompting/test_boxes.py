"""Boxes: cut at the image, as prompts, from a file, through the segmenter and the command."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.cli import main
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import InputError
from aopsam_ros.geometry import resized_geometry
from aopsam_ros.images.files import write_rgb
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.box_file import BoxFile
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.prompting.prompts import FrameInput
from aopsam_ros.prompting.sources import make_source
from aopsam_ros.segmentation.decoding_loop import as_decoder_input
from aopsam_ros.segmentation.segmenter import Segmenter
from support.scenes import coloured_scene, object_ious

GEOMETRY = resized_geometry(100, 200, 512)


def proposed(name, rows):
    frame = FrameInput(GEOMETRY, SegmenterOptions(), boxes=Boxes.from_rows(rows))
    return make_source(name).propose(frame)


def test_boxes_become_prompts_of_two_corners_best_first():
    rows = [[10, 20, 50, 40, 0.3, 7], [-5, 90, 30, 130, 0.9, 0], [210, 0, 250, 50, 0.8, 0]]
    prompts = proposed("boxes", rows)  # the last one lies outside the image
    coords, labels = as_decoder_input(prompts, np.arange(2))
    assert coords.tolist() == [[[0, 90], [30, 100]], [[10, 20], [50, 40]]]
    assert labels.tolist() == [[2, 3], [2, 3]]
    assert prompts.points.tolist() == [[14.5, 94.5], [29.5, 29.5]]
    assert prompts.confidence.tolist() == pytest.approx([0.9, 0.3])


def test_box_centres_become_points():
    prompts = proposed("box_centres", [[10, 20, 50, 40], [199, 99, 300, 300, 0.5]])
    coords, labels = as_decoder_input(prompts, np.arange(2))
    assert coords.tolist() == [[[29.5, 29.5]], [[199, 99]]]
    assert labels.tolist() == [[1], [1]]
    assert prompts.confidence.tolist() == [1, 0.5]


NUMBERS = st.floats(-400, 400)


@given(st.lists(st.lists(NUMBERS, min_size=4, max_size=6), max_size=8))
def test_whatever_the_boxes_prompts_lie_in_the_image(rows):
    for name in ("boxes", "box_centres"):
        prompts = proposed(name, rows)
        coords, _ = as_decoder_input(prompts, np.arange(len(prompts.points)))
        assert (coords >= 0).all() and (coords <= [200, 100]).all()
        assert (prompts.points >= 0).all() and (prompts.points <= [199, 99]).all()
        assert (np.diff(prompts.confidence) <= 0).all()
        assert not make_source(name).adaptive


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 2, 3]],
        [[1, 2, 3, "x"]],
        [[1, 2, 3, None]],
        [[1, 2, np.nan, 4]],
        [[1, 2, 3, 10**400]],
        [3],
    ],
)
def test_what_is_no_box_is_refused(rows):
    with pytest.raises(InputError, match="box"):
        Boxes.from_rows(rows)
    with pytest.raises(InputError, match=r"\[N, 4\]"):
        Boxes(np.zeros((2, 4)), np.zeros(3, np.float32))


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_pictures_are_found_by_name_and_folders(tmp_path):
    one, two, three = ([[i, i, 9, 9]] for i in (1, 2, 3))
    content = {"a/p.jpg": one, "b/p.jpg": two, "frame.01": three, "none.png": []}
    boxes = BoxFile(write(tmp_path / "boxes.json", content))
    assert boxes.find("p", ["a"]).corners[0, 0] == 1
    assert boxes.find("p.png", ["x", "b"]).corners[0, 0] == 2
    assert boxes.find("frame.01.jpg").corners[0, 0] == 3
    assert len(boxes.find_path(tmp_path / "none.png")) == 0
    for name, folders, reason in [("p", "ab", "several entries"), ("q", "a", "no entry")]:
        with pytest.raises(InputError, match=reason):
            boxes.find(name, folders)
    with pytest.raises(InputError, match="no entry"):
        boxes.find("p", ["c"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "must map"),
        ({"p": 3}, "p: must be a list"),
        ({"p": [[1, 2]]}, "p: a box must be"),
        ({"p": [[200, 100, 50, 40]]}, "p: a box must be left, top, right, bottom, not x, y"),
        ('{"p": [[1, 2, 3, NaN]]}', "p: a box has a number"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_damaged_files_name_the_entry(tmp_path, content, reason):
    with pytest.raises(InputError, match=reason):
        BoxFile(write(tmp_path / "b.json", content))
    with pytest.raises(InputError, match="cannot be read"):
        BoxFile(tmp_path / "none.json")


def rows_of(objects):
    rows = []
    for number, (mask, _) in enumerate(objects):
        y, x = np.nonzero(mask)
        rows.append([int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1, 0.9 - number])
    return rows


@pytest.mark.parametrize("name", ["boxes", "box_centres"])
def test_each_box_gives_its_object(tiny_folder, name):
    rgb, objects = coloured_scene(240, 320)
    rgb[..., 0] = 0
    with Segmenter.from_bundle(tiny_folder, name, EngineOptions(threads=1)) as segmenter:
        result = segmenter.segment(rgb, boxes=Boxes.from_rows(rows_of(objects)))
        assert result.prompts_decoded == len(result.masks) == 3
        assert min(object_ious(result, objects)) > 0.8
        assert segmenter.segment(rgb, boxes=Boxes.from_rows([])).masks == ()
        assert segmenter.source.needs_boxes
        with pytest.raises(InputError, match=f"'{name}' needs boxes"):
            segmenter.segment(rgb)


def test_segment_with_boxes(tiny_folder, tmp_path, capfd, refused):
    rgb, objects = coloured_scene(120, 160)
    write_rgb(tmp_path / "scene.png", rgb)
    write_rgb(tmp_path / "other.png", rgb)
    file = write(tmp_path / "boxes.json", {"scene.png": rows_of(objects)})
    files = [str(tmp_path / name) for name in ("scene.png", "other.png")]
    words = ["segment", *files, "--model", str(tiny_folder)]
    words += ["--out", str(tmp_path / "out"), "--prompts", "boxes"]
    assert "--prompts boxes needs --boxes FILE" in refused(*words)
    assert main([*words, "--boxes", str(file)]) == 2
    assert "other.png: " in capfd.readouterr().err  # the one without an entry
    content = json.loads((tmp_path / "out" / "scene.json").read_text())
    assert content["prompts_decoded"] == len(content["masks"]) == 3
