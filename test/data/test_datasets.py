"""Label maps, COCO JSON and SA-1B give the same instances; broken files are named."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from aopsam_ros.data.coco_masks import decode_mask
from aopsam_ros.data.datasets import open_dataset, split_by_group
from aopsam_ros.data.labelled_images import stack_layers
from aopsam_ros.errors import DatasetError, InputError
from support.scenes import (
    draw_ellipses,
    left_point,
    write_json,
    write_label_maps,
    write_sa1b,
)


def column_runs(mask):
    """COCO's uncompressed run lengths: column by column, the first run counts zeros."""
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": ([0] if flat[0] else []) + runs}


def masks_of(image):
    return [image.layers[layer] == label for layer, label in image.instances()]


def test_label_maps(tmp_path):
    dataset = open_dataset(write_label_maps(tmp_path / "drawn", range(3)))
    rgb, labels = draw_ellipses(1)
    image = dataset.read(1)
    assert (len(dataset), dataset.name, image.name) == (3, "drawn", "scene1")
    np.testing.assert_array_equal(image.rgb, rgb)
    np.testing.assert_array_equal(image.layers[0], labels)


# In a process of its own, which OpenCV would end.
NO_TEXT = """
import os, sys
from pathlib import Path
from aopsam_ros.data.datasets import open_dataset
folder = Path(sys.argv[1])
for part in folder.glob("*/scene0.*"):
    part.rename(part.with_name(os.fsdecode(b"caf\\xe9") + part.suffix))
print(len(open_dataset(folder).read(0).instances()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_label_maps_whose_name_is_no_text(tmp_path):
    folder = write_label_maps(tmp_path / "drawn", range(1))
    wanted = len(open_dataset(folder).read(0).instances())
    command = [sys.executable, "-c", NO_TEXT, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == f"{wanted}\n", done


def test_a_label_map_that_is_not_there_and_one_in_colour(tmp_path):
    folder = write_label_maps(tmp_path / "drawn", range(2))
    dataset = open_dataset(folder)
    (folder / "masks" / "scene0.png").unlink()
    with pytest.raises(DatasetError, match=r"scene0\.png: not there"):
        dataset.read(0)
    cv2.imwrite(str(folder / "masks" / "scene1.png"), np.zeros((96, 128, 3), np.uint8))
    with pytest.raises(DatasetError, match=r"scene1\.png: not a readable one-channel"):
        dataset.read(1)


def test_sixteen_bit_labels_are_kept(tmp_path):
    folder = write_label_maps(tmp_path / "drawn", range(1))
    labels = np.zeros((96, 128), np.uint16)
    labels[10:20, 10:20] = 40_000
    cv2.imwrite(str(folder / "masks" / "scene0.png"), labels)
    assert open_dataset(folder).read(0).instances() == [(0, 40_000)]


def test_groups_come_from_the_manifest(tmp_path):
    folder = write_label_maps(tmp_path / "train" / "drawn", range(3))
    (tmp_path / "manifest.csv").write_text(
        "set,id,group\ndrawn,scene0,tote\ndrawn,scene1,tote\nother,scene2,elsewhere\n"
    )
    dataset = open_dataset(folder)
    assert [dataset.group(i) for i in range(3)] == ["tote", "tote", "scene2"]
    (tmp_path / "manifest.csv").write_text("set,group\ndrawn,tote\n")
    with pytest.raises(DatasetError, match="not a table of set, id and group"):
        open_dataset(folder)


def coco(file_name, annotations):
    return {"images": [{"id": 7, "file_name": file_name}], "annotations": annotations}


@pytest.mark.needs("pycocotools")
def test_coco_polygons_runs_and_crowds(tmp_path):
    rgb, labels = draw_ellipses(0)
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), rgb[:, :, ::-1])
    square = [10, 20, 30, 20, 30, 40, 10, 40]
    annotations = [
        {"image_id": 7, "segmentation": [square]},
        {"image_id": 7, "segmentation": column_runs(labels == 4)},
        {"image_id": 7, "segmentation": column_runs(labels == 0), "iscrowd": 1},
    ]
    path = write_json(tmp_path / "instances.json", coco("a.png", annotations))
    for source in (path, tmp_path):
        masks = masks_of(open_dataset(source).read(0))
        assert len(masks) == 2
        assert any(np.array_equal(mask, labels == 4) for mask in masks)
        polygon = np.zeros(labels.shape, bool)
        polygon[20:40, 10:30] = True
        assert any(np.array_equal(mask, polygon) for mask in masks)


@pytest.mark.needs("pycocotools")
def test_polygons_without_an_area_are_left_out(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((60, 80, 3), np.uint8))
    square, line = [10, 20, 30, 20, 30, 40, 10, 40], [1, 2, 50, 50]
    polygons = [line, square], [square, line], [square], [line], [[5, 5]]
    annotations = [{"image_id": 7, "segmentation": some} for some in polygons]
    path = write_json(tmp_path / "instances.json", coco("a.png", annotations))
    masks = masks_of(open_dataset(path).read(0))
    assert [mask.sum() for mask in masks] == 3 * [400]


@pytest.mark.needs("pycocotools")
def test_sa1b_with_its_points(tmp_path):
    _, labels = draw_ellipses(2)
    image = open_dataset(write_sa1b(tmp_path / "images", 3)).read(2)
    drawn = [labels == label for label in (1, 2, 3, 4)]
    assert {mask.tobytes() for mask in masks_of(image)} == {mask.tobytes() for mask in drawn}
    np.testing.assert_allclose(image.points, [left_point(mask) for mask in drawn])


def test_overlapping_masks_lie_on_different_layers():
    rng = np.random.default_rng(0)
    masks = []
    for _ in range(12):
        y, x = rng.integers(0, 30, 2)
        mask = np.zeros((40, 40), bool)
        mask[y : y + 15, x : x + 12] = True
        masks.append(mask)
    layers = stack_layers([*masks, np.zeros((40, 40), bool)], (40, 40))
    labels = np.unique(layers)
    assert sorted(labels[labels > 0]) == list(range(1, 13))
    found = {(layers == label).any(0).tobytes() for label in range(1, 13)}
    assert found == {mask.tobytes() for mask in masks}


def test_split_keeps_groups_together_and_is_stable():
    class Dataset:
        name = "frames"

        def __len__(self):
            return 300

        def group(self, index):
            return f"video{index // 10}"

    training, held = split_by_group(Dataset(), 0.3)
    assert sorted(training + held) == list(range(300))
    assert not {i // 10 for i in training} & {i // 10 for i in held}
    assert 30 <= len(held) <= 150
    assert split_by_group(Dataset(), 0.3) == (training, held)
    # A larger share only adds to what is held out: no image changes sides twice.
    assert set(held) <= set(split_by_group(Dataset(), 0.5)[1])


def encoded(array):
    return cv2.imencode(".png", array)[1].tobytes()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("masks", b"not a png"),
        ("masks", encoded(np.zeros((5, 5), np.uint16))),  # another size than the image's
        ("masks", encoded(np.zeros((96, 128, 3), np.uint8))),
        ("images", b"\x89PNG"),
    ],
)
def test_broken_files_are_named(tmp_path, file, content):
    folder = write_label_maps(tmp_path / "drawn", range(1))
    (folder / file / "scene0.png").write_bytes(content)
    with pytest.raises((DatasetError, InputError), match=r"scene0\.png"):
        open_dataset(folder).read(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a COCO"),
        ("[]", "not a COCO"),
        ('{"images": []}', "not a COCO"),
        ('{"images": [], "annotations": []}', "no image has"),
        ('{"images": [], "annotations": [{"segmentation": [[1]]}]}', "not a COCO"),
        ('{"images": [{"file_name": "a"}], "annotations": []}', "not a COCO"),
        ('{"images": [], "annotations": ["a"]}', "not a COCO"),
        ("[" * 100_000, "not a COCO"),
    ],
)
def test_broken_coco_files(tmp_path, content, message):
    path = tmp_path / "instances.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=message):
        open_dataset(path)


@pytest.mark.needs("pycocotools")
def test_malformed_segmentation(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    annotation = {"image_id": 7, "segmentation": {"size": [9, 9], "counts": [81]}}
    path = write_json(tmp_path / "instances.json", coco("a.png", [annotation]))
    with pytest.raises(DatasetError, match=r"instances\.json"):
        open_dataset(path).read(0)


def packed(mask):
    from pycocotools import mask as coco

    return coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode("ascii")


@pytest.mark.needs("pycocotools")
@pytest.mark.parametrize("seed", range(20))
def test_packed_runs_are_those_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(tuple(rng.integers(1, 90, 2))) < rng.choice([0.0, 0.02, 0.5, 1.0])
    mask[: seed * len(mask) // 40] = True
    runs = {"size": list(mask.shape), "counts": packed(mask)}
    np.testing.assert_array_equal(decode_mask(runs, mask.shape, "x"), mask)


@pytest.mark.needs("pycocotools")
@pytest.mark.parametrize(
    "malformed",
    [
        [[1, 1, 20, 1, 20, float("nan")]],
        [[1, 1, 20, 1, 20, float("inf")]],
        [[1, 1, 20, 1, 20, 1e9]],  # pixels are counted along each side
        [[1, 1, 20, 1, 20, 20], []],
        {"size": [30, 40], "counts": [1199]},  # the last pixel is whatever the memory held
        {"size": [30, 40], "counts": [1201]},
        {"size": [30, 40], "counts": [600, -10, 610]},
        {"size": [30, 40], "counts": [600.0, 600.0]},
        {"size": [300_000, 400_000], "counts": [1]},
        {"size": [30, 40], "counts": "0bT1"},  # 30 x 39 pixels
        {"size": [30, 40], "counts": "01n000"},  # of a longer one
        {"size": [30, 40], "counts": "zzzzzzzzzzzzzzzzzzzz0"},
        {"size": [30, 40], "counts": ""},
        {"size": [30, 40]},
        "polygon",
    ],
)
def test_what_is_no_mask_does_not_reach_pycocotools(malformed):
    with pytest.raises(DatasetError, match=r"x\.json: malformed segmentation"):
        decode_mask(malformed, (30, 40), "x.json")


@pytest.mark.needs("pycocotools")
def test_an_image_of_another_size_than_its_polygons_is_refused(tmp_path):
    square = [10, 20, 30, 20, 30, 40, 10, 40]
    content = coco("a.png", [{"image_id": 7, "segmentation": [square]}])
    content["images"][0] |= {"width": 60, "height": 80}
    path = write_json(tmp_path / "instances.json", content)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((80, 60, 3), np.uint8))
    assert len(masks_of(open_dataset(path).read(0))) == 1
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((60, 80, 3), np.uint8))  # as if turned
    with pytest.raises(DatasetError, match=r"a\.png: \(60, 80\), but .* says \(80, 60\)"):
        open_dataset(path).read(0)


def write_voc(folder, palette):
    """Write one image with two instances, of classes 15 (person) and 8 (cat), and a void rim."""
    from aopsam_ros.data.class_names import voc_colours

    instances, kinds = np.zeros((2, 30, 40), np.uint8)
    instances[2:12, 2:12], kinds[2:12, 2:12] = 1, 15
    instances[15:25, 20:35], kinds[15:25, 20:35] = 2, 8
    instances[14, 20:35] = kinds[14, 20:35] = 255
    images = {"JPEGImages/a.jpg": np.zeros((30, 40, 3), np.uint8)}
    for name, indices in (("Object", instances), ("Class", kinds)):
        colours = voc_colours()[indices]
        coloured = np.stack([colours & 255, (colours >> 8) & 255, colours >> 16], axis=-1)
        images[f"Segmentation{name}/a.png"] = coloured if palette else indices
    for name, pixels in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), pixels.astype(np.uint8))
    cv2.imwrite(str(folder / "JPEGImages" / "unlabelled.jpg"), np.zeros((9, 9, 3), np.uint8))
    return folder


@pytest.mark.parametrize("palette", [True, False])
def test_pascal_voc(tmp_path, palette):
    dataset = open_dataset(write_voc(tmp_path / "VOC", palette))
    image = dataset.read(0)
    assert len(dataset) == 1
    assert image.classes == {1: "person", 2: "cat"}
    assert [int(mask.sum()) for mask in masks_of(image)] == [100, 150]
    (tmp_path / "VOC" / "class_names.txt").write_text("_background_\n" + "x\n" * 7 + "mug\n")
    assert open_dataset(tmp_path / "VOC").read(0).classes == {2: "mug"}


def test_names_that_cannot_be_read_are_refused(tmp_path):
    names = write_voc(tmp_path / "VOC", True) / "class_names.txt"
    names.write_bytes("fond\nthé\n".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"class_names\.txt: not text in UTF-8"):
        open_dataset(tmp_path / "VOC")
    names = write_label_maps(tmp_path / "drawn", range(1)) / "classes.json"
    names.write_text("[" * 100_000)
    with pytest.raises(DatasetError, match=r"classes\.json: not JSON"):
        open_dataset(tmp_path / "drawn")


def test_vocs_palette_is_the_published_one():
    from aopsam_ros.data.class_names import voc_colours

    known = {1: 0x800000, 2: 0x008000, 3: 0x808000, 8: 0x400000, 15: 0xC08080, 255: 0xE0E0C0}
    assert {index: int(voc_colours()[index]) for index in known} == known


def test_a_colour_that_is_not_vocs_is_an_error(tmp_path):
    folder = write_voc(tmp_path / "VOC", palette=True)
    cv2.imwrite(str(folder / "SegmentationClass/a.png"), np.full((30, 40, 3), 3, np.uint8))
    with pytest.raises(DatasetError, match=r"SegmentationClass/a.png: a colour is not"):
        open_dataset(folder).read(0)


@pytest.mark.parametrize(("place", "key"), [(".", "scene1"), ("..", "drawn/scene1")])
def test_classes_of_label_maps(tmp_path, place, key):
    folder = write_label_maps(tmp_path / "drawn", range(2))
    write_json(folder / place / "classes.json", {key: {"1": "mug", "3": "door"}})
    dataset = open_dataset(folder)
    assert dataset.read(1).classes == {1: "mug", 3: "door"}
    assert dataset.read(0).classes == {}
    write_json(folder / place / "classes.json", {key: ["mug"]})
    with pytest.raises(DatasetError, match=r"classes.json: scene1"):
        open_dataset(folder).read(1)


@pytest.mark.needs("pycocotools")
def test_coco_categories_follow_their_masks(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((40, 40, 3), np.uint8))
    small, large = [1, 1, 5, 1, 5, 5, 1, 5], [10, 10, 30, 10, 30, 30, 10, 30]
    annotations = [
        {"image_id": 7, "category_id": 3, "segmentation": [small]},
        {"image_id": 7, "category_id": 9, "segmentation": [large]},
    ]
    content = coco("a.png", annotations)
    content["categories"] = [{"id": 3, "name": "cup"}, {"id": 9, "name": "table"}]
    image = open_dataset(write_json(tmp_path / "a.json", content)).read(0)
    areas = {image.classes[n]: int((image.layers == n).sum()) for n in image.classes}
    assert areas["cup"] < areas["table"] and set(areas) == {"cup", "table"}
    annotations[0]["category_id"] = [3]
    with pytest.raises(DatasetError, match="not a COCO annotation file"):
        open_dataset(write_json(tmp_path / "a.json", content))


def test_bsds_has_a_layer_for_each_annotator(tmp_path):
    from scipy.io import savemat

    people = np.zeros((2, 6, 8), np.uint16) + 1
    people[0, :, 4:], people[1, 3:] = 2, 2
    annotators = np.empty((1, 2), object)
    for number, regions in enumerate(people):
        annotators[0, number] = {"Segmentation": regions, "Boundaries": np.zeros((6, 8), np.uint8)}
    for name in ("images", "groundTruth"):
        (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "12.jpg"), np.zeros((6, 8, 3), np.uint8))
    savemat(tmp_path / "groundTruth" / "12.mat", {"groundTruth": annotators})
    image = open_dataset(tmp_path).read(0)
    assert image.is_by_annotator and image.name == "12"
    np.testing.assert_array_equal(image.layers, people + np.array([0, 2])[:, None, None])
    file = tmp_path / "groundTruth" / "12.mat"
    savemat(file, {"groundTruth": annotators}, do_compression=True)
    whole = file.read_bytes()
    in_hdf5 = whole[:124] + b"\x00\x02" + whole[126:]  # of MATLAB 7.3, as its header says
    for content in (b"no matrix", whole[:200] + bytes(8) + whole[208:], in_hdf5):
        file.write_bytes(content)
        with pytest.raises(DatasetError, match=r"12\.mat: not BSDS500's ground truth"):
            open_dataset(tmp_path).read(0)
