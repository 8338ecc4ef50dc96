"""The model's own masks as labels: complete, resumable, and read back like any data set."""

import itertools
import json

import pytest

from aopsam_ros.commands.training.self_labelling import share_of
from aopsam_ros.data.datasets import open_dataset
from aopsam_ros.data.frames import SourceFrame
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import DatasetError, InputError
from aopsam_ros.images.files import read_rgb
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.training.self_labels import SelfLabeller
from support.scenes import coloured_scene
from support.tiny_bundle import SIZE, write_tiny_bundle

pytest.importorskip("pycocotools")


class Scenes:
    """A source of coloured scenes that counts how often each is read."""

    name = "scenes"

    def __init__(self, sizes, broken=()):
        self.sizes, self.broken, self.reads = sizes, broken, []

    def __len__(self):
        return len(self.sizes)

    def key(self):
        return "scenes"

    def frames(self):
        for index in range(len(self.sizes)):
            yield SourceFrame(f"frame_{index}", f"part_{index // 2}", lambda i=index: self.read(i))

    def read(self, index):
        self.reads.append(index)
        if index in self.broken:
            raise InputError("cut short")
        return coloured_scene(*self.sizes[index])[0]


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    folder = write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")
    with Segmenter.from_bundle(
        folder, prompt_source="grid16", engine=EngineOptions(threads=1)
    ) as model:
        yield model


@pytest.fixture
def labeller(segmenter, tmp_path):
    return SelfLabeller(lambda: segmenter, SIZE, tmp_path / "labels")


def test_labels_are_the_models_masks(labeller, tmp_path):
    count = labeller.label(Scenes([(90, 120), (60, 100)]))
    dataset = open_dataset(tmp_path / "labels")
    assert (count.frames, count.broken, len(dataset)) == (2, 0, 2)
    found = [dataset.read(index) for index in range(2)]
    assert count.masks == sum(len(image.instances()) for image in found)
    for image, size in zip(found, [(90, 120), (60, 100)], strict=True):
        rgb, objects = coloured_scene(*size)
        assert image.rgb.shape == rgb.shape
        assert image.points is None  # so that training takes the masks' innermost points
        masks = [image.layers[layer] == label for layer, label in image.instances()]
        for wanted, _ in objects:
            ious = [(mask & wanted).sum() / (mask | wanted).sum() for mask in masks]
            assert max(ious) > 0.8


def test_frames_are_no_larger_than_the_model_sees_them(labeller, tmp_path):
    labeller.label(Scenes([(480, 640)]))
    assert read_rgb(tmp_path / "labels" / "frame_0.jpg").shape == (96, SIZE, 3)
    content = json.loads((tmp_path / "labels" / "frame_0.json").read_text())
    assert content["image"] == {"file_name": "frame_0.jpg", "height": 96, "width": SIZE}
    for annotation in content["annotations"]:
        assert 0 < annotation["predicted_iou"] <= 1 and 0 < annotation["stability_score"] <= 1


def test_groups_go_with_the_frames(labeller, tmp_path):
    labeller.label(Scenes([(60, 80)] * 4))
    dataset = open_dataset(tmp_path / "labels")
    assert [dataset.group(i) for i in range(4)] == ["part_0", "part_0", "part_1", "part_1"]


def test_what_is_labelled_is_not_labelled_again(labeller, tmp_path):
    first = labeller.label(Scenes([(60, 80)] * 3))
    folder = tmp_path / "labels"
    before = (folder / "frame_2.json").read_bytes()
    (folder / "frame_0.json").write_bytes(before[: len(before) // 2])  # as a full disk leaves it
    (folder / "frame_1.jpg").unlink()
    again = Scenes([(60, 80)] * 3)
    assert labeller.label(again) == first
    assert again.reads == [0, 1]
    assert (folder / "frame_0.json").read_text() == before.decode().replace("frame_2", "frame_0")
    assert SelfLabeller(None, SIZE, folder).label(again) == first  # no model is needed


def test_frames_that_are_gone_are_removed(labeller, tmp_path):
    labeller.label(Scenes([(60, 80)] * 3))
    labeller.label(Scenes([(60, 80)]))
    names = sorted(file.name for file in (tmp_path / "labels").iterdir())
    assert names == ["frame_0.jpg", "frame_0.json", "manifest.csv"]


def test_broken_frames_are_counted_and_left_out(labeller, tmp_path):
    count = labeller.label(Scenes([(60, 80)] * 3, broken=(1,)))
    assert (count.frames, count.broken, count.reason) == (2, 1, "frame_1: cut short")
    files = open_dataset(tmp_path / "labels").files
    assert [file.stem for file in files] == ["frame_0", "frame_2"]


def test_nothing_but_broken_frames(labeller):
    with pytest.raises(DatasetError, match=r"no frame could be read \(frame_1: cut short\)"):
        labeller.label(Scenes([(60, 80)] * 2, broken=(0, 1)))


def test_no_mask_at_all(labeller, segmenter, monkeypatch):
    strict = segmenter.options.updated({"mask.predicted_iou_threshold": 1.0})
    monkeypatch.setattr(segmenter, "options", strict)
    with pytest.raises(DatasetError, match="no mask in any of 2 frames"):
        labeller.label(Scenes([(60, 80)] * 2))


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 600])
def test_shards_are_equal_parts_of_all_frames_and_read_few_sources(parts):
    """Of the second source nobody knows beforehand how many frames it has."""
    said, real = (3, 0, 500, 20, 1), (3, 2, 500, 20, 1)
    done, sizes, opened = [], [], []
    for part in range(1, parts + 1):
        shares = share_of([range(count) for count in said], f"{part}/{parts}")
        frames = [
            [(source, frame) for frame in itertools.islice(range(count), s.start, s.stop)]
            for source, (count, s) in enumerate(zip(real, shares, strict=True))
        ]
        done += itertools.chain(*frames)
        sizes.append(sum(map(len, frames)))
        opened.append(sum(map(bool, frames)))
    assert done == [(source, frame) for source, count in enumerate(real) for frame in range(count)]
    assert max(sizes) - min(sizes) <= 2
    assert sum(opened) <= parts + len(said)
