"""The model's surest masks of unlabelled pixels as labels, beside an image's own."""

import numpy as np
import pytest

from aopsam_ros.data.datasets import open_dataset, split_by_group
from support.scenes import draw_rectangles, iou, write_label_maps
from support.tiny_bundle import write_tiny_bundle

pytest.importorskip("pycocotools")
pytest.importorskip("torch")

from aopsam_ros.cli import main
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.training.data_engine import choose_masks

LABELLED = np.zeros((100, 100), bool)
LABELLED[:, :50] = True


def box(left, top, right, bottom):
    mask = np.zeros((100, 100), bool)
    mask[top:bottom, left:right] = True
    return mask


STABLE, COPY, PART = box(60, 10, 80, 40), box(60, 10, 80, 36), box(60, 10, 80, 20)
OVER_THE_EDGE = box(40, 50, 90, 90)  # a fifth of it is labelled
SHIFTED, ELSEWHERE, TINY = box(60, 60, 82, 94), box(85, 5, 95, 40), box(90, 90, 94, 94)


def chosen(masks, *views, scores=None):
    scores = scores or [0.9 - 0.1 * place for place in range(len(masks))]
    return choose_masks(masks, scores, [lambda view=view: view for view in views], LABELLED)


def test_a_mask_has_to_be_found_again_in_every_view():
    masks = [STABLE, SHIFTED, ELSEWHERE]
    moved = np.roll(SHIFTED, 4, axis=1)  # IoU .69
    assert list(chosen(masks, masks, [STABLE, moved, ELSEWHERE], masks)) == [0, 2]
    assert list(chosen(masks, masks, [ELSEWHERE], [STABLE])) == []


def test_masks_of_what_is_labelled_are_left_out_and_others_clipped():
    masks = [box(10, 10, 40, 40), box(30, 10, 80, 40), OVER_THE_EDGE]
    found = chosen(masks, masks)
    assert list(found) == [2]
    assert (found[2] == box(50, 50, 90, 90)).all()


def test_of_copies_the_surest_stays_and_parts_are_no_copies():
    masks = [STABLE, COPY, PART]
    assert list(chosen(masks, masks, scores=[0.6, 0.8, 0.7])) == [1, 2]


def test_a_things_size():
    masks = [TINY, STABLE]
    assert list(chosen(masks, masks)) == [1]
    whole = ~np.zeros((100, 100), bool)
    assert not choose_masks([whole], [1.0], [lambda: [whole]], ~whole)


def test_no_view_is_looked_at_in_vain():
    def view():
        raise AssertionError

    assert not choose_masks([TINY], [1.0], [view], LABELLED)
    assert not choose_masks([STABLE], [1.0], [lambda: [], view], LABELLED)


def one_labelled(seed):
    """Draw three rectangles, the first of which is labelled."""
    rgb, labels = draw_rectangles(seed)
    return rgb, np.where(labels == 1, 7, 0).astype(np.uint16)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def label(model, tmp_path, capsys):
    def label_unlabelled(data, *words):
        out = tmp_path / "more"
        words = ["--model", str(model), "--threads", "1", *words]
        code = main(["label-unlabelled", "--data", str(data), "--out", str(out), *words])
        return out, code, capsys.readouterr()

    return label_unlabelled


def test_a_data_set_with_more_labels(label, tmp_path):
    data = write_label_maps(tmp_path / "drawn", range(12), one_labelled)
    out, code, said = label(data, "--held-out", "0.3")
    training, held = split_by_group(open_dataset(data), 0.3)
    assert (code, len(held) > 0) == (0, True)
    assert (
        said.out
        == f"drawn: {2 * len(training)} new masks on {len(training)} of {len(training)} images\n"
    )
    before, after = open_dataset(data), open_dataset(out)
    groups = [after.group(i) for i in range(len(after))]
    assert sorted(groups) == sorted(before.group(i) for i in training)
    assert split_by_group(after, 0.3)[1] == []  # as training will split them
    for place, group in enumerate(groups):
        image = after.read(place)
        masks = [image.layers[layer] == number for layer, number in image.instances()]
        wanted = draw_rectangles(int(group.removeprefix("scene")))[1]
        assert len(masks) == 3
        assert max(iou(mask, wanted == 1) for mask in masks) == 1.0
        for number in (2, 3):
            assert max(iou(mask, wanted == number) for mask in masks) > 0.8


def test_it_goes_on_where_it_stopped_and_leaves_broken_images_out(label, tmp_path):
    data = write_label_maps(tmp_path / "drawn", range(4), one_labelled)
    (data / "images" / "scene1.png").write_bytes(b"cut short")
    out, _, _ = label(data, "--held-out", "0", "--limit", "2")
    files = {file.name: file.stat().st_mtime_ns for file in out.glob("*.jpg")}
    names = [name.rpartition("-")[0] for name in sorted(files)]
    assert names == ["drawn-scene0", "drawn-scene2"]
    out, code, said = label(data, "--held-out", "0")
    assert code == 0 and said.out == "drawn: 6 new masks on 3 of 3 images\n"
    assert "drawn, image 1:" in said.err
    assert all((out / name).stat().st_mtime_ns == time for name, time in files.items())
    assert len(open_dataset(out)) == 3


def test_it_goes_on_where_a_full_disk_left_no_row(label, tmp_path):
    """Without names of its columns, the manifest could not be read again."""
    data = write_label_maps(tmp_path / "drawn", range(2), one_labelled)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "manifest.csv").touch()
    for _ in range(2):
        out, code, said = label(data, "--held-out", "0")
        assert (code, said.out) == (0, "drawn: 4 new masks on 2 of 2 images\n")
    assert sorted(map(open_dataset(out).group, range(2))) == ["scene0", "scene1"]


def test_a_folder_that_holds_anything_else_stays_as_it_is(label, tmp_path):
    """Labels among a COCO data set's files would make another data set of it."""
    data = write_label_maps(tmp_path / "drawn", range(2), one_labelled)
    out = tmp_path / "more"
    out.mkdir()
    (out / "instances.json").write_text("{}")
    for reason in ("more: holds other files", "manifest.csv: the manifest of another data set"):
        before = {file.name: file.read_bytes() for file in out.iterdir()}
        _, code, said = label(data, "--held-out", "0")
        assert code == 2 and reason in said.err
        assert {file.name: file.read_bytes() for file in out.iterdir()} == before
        (out / "manifest.csv").write_text("set,id,group\nmore,a,b\n")


def test_groups_are_found_in_a_folder_that_was_given_as_the_working_one(
    model, tmp_path, monkeypatch
):
    data = write_label_maps(tmp_path / "drawn", range(2), one_labelled)
    (tmp_path / "more").mkdir()
    monkeypatch.chdir(tmp_path / "more")
    words = ["--model", str(model), "--threads", "1", "--held-out", "0", "--out", "."]
    assert main(["label-unlabelled", "--data", str(data), *words]) == 0
    assert sorted(map(open_dataset(tmp_path / "more").group, range(2))) == ["scene0", "scene1"]


def test_of_one_view_a_models_masks_are_taken_as_they_are(label, tmp_path, monkeypatch):
    segment, seen = Segmenter.segment, []

    def segment_seen(self, *arguments, **more):
        seen.append(self.source.name)
        return segment(self, *arguments, **more)

    monkeypatch.setattr(Segmenter, "segment", segment_seen)
    data = write_label_maps(tmp_path / "drawn", range(2), one_labelled)
    _, code, said = label(data, "--held-out", "0", "--views", "1", "--prompts", "grid8")
    assert (code, seen) == (0, ["grid8"] * 2)
    assert said.out == "drawn: 4 new masks on 2 of 2 images\n"


def test_another_data_set_of_the_same_name_adds_its_images(label, tmp_path):
    for folder, seeds in (("kitchen", [0, 1]), ("garden", [0, 1, 2])):
        data = write_label_maps(tmp_path / folder / "drawn", seeds, one_labelled)
        out, _, _ = label(data, "--held-out", "0")
    assert len(open_dataset(out)) == 3


@pytest.mark.parametrize("share", ["-1", "nan", "1"])
def test_a_share_that_cannot_be_is_refused(label, tmp_path, share):
    out, code, said = label(tmp_path, "--held-out", share)
    assert (code, out.exists()) == (2, False)
    assert "--held-out must be at least 0 and below 1" in said.err
