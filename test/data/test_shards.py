"""SA-1B's tar files: streamed with their labels, or read as frames without."""

import gzip
import itertools
import sys
import tarfile
from functools import partial

import numpy as np
import pytest

from aopsam_ros.cli import main
from aopsam_ros.data.datasets import open_dataset
from aopsam_ros.data.recordings import open_frames
from aopsam_ros.data.shards import Sa1bShards
from aopsam_ros.errors import DatasetError, EngineError, InputError
from aopsam_ros.images.files import read_rgb
from support.scenes import write_sa1b

pytest.importorskip("pycocotools.mask")
pytest.importorskip("webdataset")

IMAGES = 6  # of two shards


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Drawn images as SA-1B's, in a folder, and in two tar files beside it."""
    parent = tmp_path_factory.mktemp("sa1b")
    folder = write_sa1b(parent / "images", IMAGES)
    for shard in range(2):
        with tarfile.open(parent / f"sa_{shard:06}.tar", "w") as tar:
            for index in range(3 * shard, 3 * shard + 3):
                for suffix in ("jpg", "json"):  # as in the published files
                    tar.add(folder / f"sa_{index}.{suffix}", f"./sa_{index}.{suffix}")
    return folder


def pattern(folder):
    return str(folder.parent / "sa_{000000..000001}.tar")


def test_a_stream_gives_what_the_folder_has_in_any_order_without_end(folder):
    shards, stored = Sa1bShards(pattern(folder)), open_dataset(folder)
    assert len(shards) == len(stored) == IMAGES
    expected = {image.name: image for image in map(stored.read, range(IMAGES))}
    streamed = [shards.read(0) for _ in range(10 * IMAGES)]
    assert {image.name for image in streamed} == set(expected)
    for image in streamed:
        assert np.array_equal(image.rgb, expected[image.name].rgb)
        assert np.array_equal(image.layers, expected[image.name].layers)
    names = [image.name for image in streamed]
    assert names[:IMAGES] != names[IMAGES : 2 * IMAGES]


def test_training_streams(folder, tmp_path, capfd):
    pytest.importorskip("torch")
    pytest.importorskip("skimage")
    sizes = ["--image-size", "64", "--canvas", "64", "--batch-size", "2", "--threads", "1"]
    words = ["--data", pattern(folder), "--views", "2", "--out", str(tmp_path), *sizes]
    assert main(["train-segmenter", *words]) == 0
    assert f"{IMAGES} images to train on, 0 held out" in capfd.readouterr().out


@pytest.mark.needs("torch")
def test_a_sample_that_is_broken_is_left_out(folder, tmp_path):
    from aopsam_ros.training.loop.loader import readable

    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with tarfile.open(tmp_path / "mixed.tar", "w") as tar:
        tar.add(tmp_path / "bad.jpg", "bad.jpg")
        tar.add(folder / "sa_0.json", "bad.json")
        tar.add(folder / "sa_1.jpg", "sa_1.jpg")
        tar.add(folder / "sa_1.json", "sa_1.json")
    shards = Sa1bShards(str(tmp_path / "mixed.tar"))
    assert {readable(lambda: shards.read(0)).name for _ in range(5)} == {"sa_1"}
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        tar.add(tmp_path / "bad.jpg", "bad.jpg")
        tar.add(folder / "sa_0.json", "bad.json")
    with pytest.raises(InputError, match=r"bad\.jpg: not an image"):
        readable(partial(Sa1bShards(str(tmp_path / "bad.tar")).read, 0))


def test_of_a_damaged_shard_the_rest_is_left_out(folder, tmp_path, caplog):
    """One of a thousand shards may be half downloaded: the others are read all the same."""
    whole = [(folder.parent / f"sa_{n:06}.tar").read_bytes() for n in range(2)]
    files = [tmp_path / f"sa_{n:06}.tar" for n in range(2)]
    files[0].write_bytes(whole[0])
    files[1].write_bytes(whole[1][: whole[1].index(b"./sa_4.jpg") + 600])
    shards = Sa1bShards(str(tmp_path / "sa_{000000..000001}.tar"))
    names = {shards.read(0).name for _ in range(10 * IMAGES)}
    assert names >= {"sa_0", "sa_1", "sa_2"} and "sa_5" not in names
    assert "the rest of a shard is left out" in caplog.text
    for file in files:
        file.write_bytes(b"")
    shards = Sa1bShards.__new__(Sa1bShards)  # which would not begin with such files
    shards.path, shards.urls, shards._damaged = tmp_path, list(map(str, files)), 0
    for _ in range(2):
        with pytest.raises(DatasetError, match="shards in a row cannot be read"):
            shards.read(0)


def test_what_cannot_be_streamed_is_refused(folder, tmp_path, monkeypatch):
    with pytest.raises(DatasetError, match=r"sa_000002\.tar: no such file"):
        Sa1bShards(str(folder.parent / "sa_{000000..000002}.tar"))
    (tmp_path / "text.tar").write_text("no tar file")
    with pytest.raises(DatasetError, match="not a readable tar file"):
        Sa1bShards(str(tmp_path / "text.tar"))
    packed = gzip.compress((folder.parent / "sa_000000.tar").read_bytes())
    (tmp_path / "packed.tar").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DatasetError, match=r"packed\.tar: not a readable tar file"):
        Sa1bShards(str(tmp_path / "packed.tar"))
    monkeypatch.setitem(sys.modules, "webdataset.shardlists", None)
    with pytest.raises(EngineError, match="pip install webdataset"):
        Sa1bShards(pattern(folder))


def test_a_tar_file_is_frames_without_labels(folder):
    source = open_frames(folder.parent / "sa_000001.tar")
    assert len(source) == 3 and source.name == "sa_000001"
    for index, frame in zip(itertools.count(3), source.frames(), strict=False):
        assert frame.name == f"{index - 3:06}-sa_{index}"
        assert np.array_equal(frame.read(), read_rgb(folder / f"sa_{index}.jpg"))
