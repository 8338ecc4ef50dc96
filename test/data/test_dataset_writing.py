"""Data sets written from segmentations hold the same masks when they are read again."""

import contextlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
import yaml

from aopsam_ros.data import dataset_writing
from aopsam_ros.data.dataset_writing import WRITERS
from aopsam_ros.data.datasets import open_dataset
from aopsam_ros.data.frames import NEIGHBOURS
from aopsam_ros.errors import DatasetError
from aopsam_ros.images.files import read_rgb
from support.scenes import best_ious, coloured_scene, full_masks, iou

pytest.importorskip("pycocotools")


@pytest.fixture
def found(tiny):
    """Two images' segmentations; the first mask of each has a label."""
    scenes = {"a": coloured_scene(90, 120)[0], "b.1": coloured_scene(120, 100)[0]}
    named = {}
    for name, rgb in scenes.items():
        segmentation = tiny.segment(rgb)
        first, *others = segmentation.masks
        masks = (replace(first, label="ground"), *others)
        named[name] = (rgb, replace(segmentation, masks=masks))
    return named


def write(folder, kind, found):
    with contextlib.closing(WRITERS[kind](folder)) as writer:
        for name, (rgb, segmentation) in found.items():
            writer.add(name, rgb, segmentation)
    return folder


@pytest.mark.parametrize(
    ("kind", "where"),
    [("coco", "annotations/instances_default.json"), ("sa1b", "."), ("labelmap", ".")],
)
def test_data_sets_are_read_with_the_same_masks(tmp_path, found, kind, where):
    dataset = open_dataset(write(tmp_path / "data", kind, found) / where)
    assert len(dataset) == 2
    for index, (rgb, segmentation) in enumerate(found.values()):
        image = dataset.read(index)
        assert np.abs(image.rgb.astype(int) - rgb).mean() < 8  # as JPEG
        layers = [image.layers[layer] == label for layer, label in image.instances()]
        masks = full_masks(segmentation)
        if kind == "labelmap":  # small ones lie on top
            visible, left = [], np.ones(masks[0].shape, bool)
            for mask in reversed(masks):
                visible.insert(0, mask & left)
                left &= ~mask
            masks = [mask for mask in visible if mask.any()]
        assert len(layers) == len(masks) > 2
        assert best_ious(masks, layers) == [1.0] * len(masks)


def test_coco_is_what_pycocotools_expects(tmp_path, found):
    from pycocotools.coco import COCO

    folder = write(tmp_path / "data", "coco", found)
    coco = COCO(str(folder / "annotations" / "instances_default.json"))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == ["ground", "object"]
    for number, (_, segmentation) in enumerate(found.values(), 1):
        annotations = coco.imgToAnns[number]
        for annotation, mask, wanted in zip(
            annotations, segmentation.masks, full_masks(segmentation), strict=True
        ):
            np.testing.assert_array_equal(coco.annToMask(annotation), wanted)
            assert annotation["area"] == wanted.sum() and annotation["bbox"] == list(mask.bbox)
    ids = [annotation["id"] for annotation in coco.dataset["annotations"]]
    assert ids == list(range(1, len(ids) + 1))


def test_yolo_has_outlines_in_shares_of_the_image(tmp_path, found):
    folder = write(tmp_path / "data", "yolo", found)
    described = yaml.safe_load((folder / "data.yaml").read_text())
    assert described["names"] == {0: "ground", 1: "object"}
    assert (folder / described["train"]).is_dir() and (folder / described["val"]).is_dir()
    for name, (_, segmentation) in found.items():
        assert read_rgb(folder / "images" / f"{name}.jpg").shape[0] == segmentation.height
        lines = (folder / "labels" / f"{name}.txt").read_text().splitlines()
        size = (segmentation.width, segmentation.height)
        assert [int(line.split()[0]) for line in lines] == [0, *[1] * (len(lines) - 1)]
        for line, wanted in zip(lines, full_masks(segmentation), strict=True):
            corners = np.array(line.split()[1:], float).reshape(-1, 2) * size
            assert corners.min() >= 0 and (corners <= size).all()
            drawn = np.zeros(wanted.shape, np.uint8)
            cv2.fillPoly(drawn, [np.floor(corners).astype(np.int32)], 1)
            filled = np.zeros(wanted.shape, np.uint8)  # the format has no holes
            outlines, _ = cv2.findContours(
                wanted.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
            )
            cv2.drawContours(filled, outlines, -1, 1, -1)
            assert iou(drawn.astype(bool), filled.astype(bool)) > 0.99


def test_ids_that_a_label_map_cannot_hold_are_refused(tmp_path, found):
    rgb, segmentation = found["a"]
    masks = tuple(replace(mask, id=mask.id + 65_530) for mask in segmentation.masks)
    writer = WRITERS["labelmap"](tmp_path)
    writer.add("a", rgb, replace(segmentation, masks=masks[:1]))
    too_many = tuple(replace(mask, id=mask.id + 10) for mask in masks)
    with pytest.raises(DatasetError, match="up to 65535"):
        writer.add("b", rgb, replace(segmentation, masks=too_many))
    assert [file.stem for file in (tmp_path / "images").iterdir()] == ["a"]  # none without labels


def test_an_unfinished_coco_data_set_is_no_data_set(tmp_path, found):
    writer = WRITERS["coco"](tmp_path)
    writer.add("a", *found["a"])
    assert not (tmp_path / "annotations" / "instances_default.json").exists()
    writer.close()
    assert open_dataset(tmp_path / "annotations" / "instances_default.json").read(0).name == "a"


def test_a_run_without_an_image_leaves_a_coco_data_set_as_it_is(tmp_path, found):
    write(tmp_path, "coco", found)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    write(tmp_path, "coco", {})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


@pytest.mark.parametrize("kind", ["sa1b", "labelmap", "yolo"])
def test_an_image_whose_labels_find_no_room_is_not_left_alone(tmp_path, found, kind, monkeypatch):
    """YOLO takes an image without labels for one without objects."""

    def refuse(path, _):
        raise OSError(28, f"No space left on device: {path}")

    monkeypatch.setattr(dataset_writing, "write_bytes", refuse)
    rgb, segmentation = found["a"]
    with pytest.raises(OSError, match="No space left"):
        WRITERS[kind](tmp_path).add("a", rgb, segmentation)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", ["coco", "sa1b", "labelmap"])
def test_neighbours_in_a_stream_are_one_group(tmp_path, found, kind):
    rgb, segmentation = found["a"]
    for _ in range(2):  # the second run adds nothing
        with contextlib.closing(WRITERS[kind](tmp_path / "data")) as writer:
            writer.add("photo", rgb, segmentation)
            for number in range(NEIGHBOURS + 1):
                writer.add(f"drive_{number:02}", rgb, segmentation, "drive")
    dataset = open_dataset(tmp_path / "data")
    groups = [dataset.group(index) for index in range(len(dataset))]
    *first, last, photo = groups
    assert len(first) == NEIGHBOURS
    assert len({*first}) == 1 and len({*groups}) == 3
    assert "drive" in last and photo.startswith("photo")


def test_coco_folders_have_the_folders_name_and_open_again(tmp_path, found):
    for name in ("monday", "tuesday"):
        dataset = open_dataset(write(tmp_path / name, "coco", found))
        assert dataset.name == open_dataset(dataset.path).name == name
        assert len(dataset.read(0).instances()) > 2
    file = tmp_path / "monday" / "annotations" / "instances_default.json"
    assert open_dataset(file).name == "instances_default"


@pytest.mark.needs("supervision")
def test_supervision_gets_the_same_masks_boxes_and_ids(found):
    _, segmentation = found["a"]
    detections = segmentation.to_supervision()
    np.testing.assert_array_equal(detections.mask, full_masks(segmentation))
    x, y, w, h = segmentation.masks[1].bbox
    assert detections.xyxy[1].tolist() == [x, y, x + w, y + h]
    assert detections.area.tolist() == [mask.area for mask in segmentation.masks]
    assert detections.tracker_id.tolist() == [mask.id for mask in segmentation.masks]
    assert detections["class_name"].tolist()[:2] == ["ground", ""]
    np.testing.assert_allclose(detections.confidence, [m.score for m in segmentation.masks])
    assert len(replace(segmentation, masks=()).to_supervision()) == 0
