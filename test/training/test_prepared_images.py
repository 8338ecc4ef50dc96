"""What is kept between runs: found again, and only by the content that it was made of."""

import json

import cv2
import numpy as np
import pytest

from aopsam_ros.data.datasets import open_dataset
from aopsam_ros.errors import DatasetError
from aopsam_ros.training.prepared_images import EmbeddingCache, TargetCache, resize_to_square
from support.scenes import draw_ellipses, left_point, write_label_maps, write_sa1b

SIZE, STRIDE, SIDE = 256, 4, 64
SHAPE = (8, 4, 4)
SCALE = SIZE / 128  # the scenes are 96 x 128


@pytest.fixture
def maps(tmp_path):
    return open_dataset(write_label_maps(tmp_path / "drawn", range(3)))


@pytest.fixture
def targets(tmp_path):
    return TargetCache(tmp_path / "targets", SIZE)


@pytest.fixture
def embeddings(tmp_path):
    return EmbeddingCache(tmp_path / "embeddings", "a" * 64, SHAPE)


def stored(targets, dataset, index=0):
    image = targets.identify(dataset, index)
    targets.store(image, dataset.read(index))
    return image


def embedding(seed=0):
    return np.random.default_rng(seed).normal(0, 1, SHAPE).astype(np.float32)


def test_targets_are_the_innermost_points(maps, targets):
    image = stored(targets, maps)
    labels = draw_ellipses(0)[1]
    target = targets.target(image)
    centres = (target.points[:, :2] + 0.5) * STRIDE / SCALE  # pixels of the scene, from its corner
    hit = sorted(int(labels[int(y), int(x)]) for x, y in centres)
    assert hit == [int(label) for label in np.unique(labels) if label]
    assert targets.layers(image).shape == (1, 192, 256)
    known = cv2.resize((labels > 0).astype(np.uint8), (SIDE, 48), interpolation=cv2.INTER_AREA)
    assert target.known.shape == (SIDE, SIDE) and not target.known[48:].any()
    assert (target.known[:48] >= (known > 0)).all()
    assert np.mean(target.known[:48] != (labels[::2, ::2] > 0)) < 0.1


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.needs("pycocotools")
def test_points_that_come_with_the_data_are_the_targets(tmp_path, targets, flipped):
    dataset = open_dataset(write_sa1b(tmp_path / "sa1b", 1))
    found = targets.target(stored(targets, dataset), flipped)
    labels = draw_ellipses(0)[1]
    expected = np.array([left_point(labels == label) for label in np.unique(labels) if label])
    if flipped:
        expected[:, 0] = 127 - expected[:, 0]
    # A whole coordinate is a pixel's: SAM adds the half to its centre after scaling.
    expected = (expected * SCALE + 0.5) / STRIDE - 0.5
    np.testing.assert_allclose(sorted(found.points[:, :2].tolist()), sorted(expected.tolist()))
    peaks = found.map()[np.rint(expected[:, 1]).astype(int), np.rint(expected[:, 0]).astype(int)]
    np.testing.assert_allclose(peaks, 1)


@pytest.mark.parametrize("coords", [[["x", 1]], [[1]], [[float("nan"), 1]], [5]])
@pytest.mark.needs("pycocotools")
def test_points_that_are_none_are_refused(tmp_path, coords):
    folder = write_sa1b(tmp_path / "sa1b", 1)
    content = json.loads((folder / "sa_0.json").read_text())
    content["annotations"][0]["point_coords"] = coords
    (folder / "sa_0.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"sa_0\.json: not SA-1B"):
        open_dataset(folder).read(0)


def test_targets_follow_image_labels_and_size(maps, targets, tmp_path):
    image = stored(targets, maps)
    assert targets.has(image) and targets.identify(maps, 0) == image
    other = TargetCache(targets.folder, 2 * SIZE)
    assert not other.has(other.identify(maps, 0))
    mask = maps.path / "masks" / "scene0.png"
    mask.write_bytes((maps.path / "masks" / "scene1.png").read_bytes())
    changed = targets.identify(maps, 0)
    assert not targets.has(changed) and changed.image_key == image.image_key


@pytest.mark.parametrize("keep", [0, 50, -1])
def test_damaged_targets_are_not_used(maps, targets, keep):
    image = stored(targets, maps)
    (file,) = targets.folder.iterdir()
    file.write_bytes(file.read_bytes()[:keep])
    assert not targets.has(image)
    with pytest.raises(DatasetError, match="damaged"):
        targets.target(image)
    stored(targets, maps)
    assert targets.has(image)


def test_embeddings_are_found_again(maps, targets, embeddings):
    image = targets.identify(maps, 0)
    assert not embeddings.has(image, False)
    embeddings.store(image, False, embedding())
    assert embeddings.has(image, False) and not embeddings.has(image, True)
    found = embeddings.load(image, False)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, embedding(), atol=2e-3)
    (file,) = embeddings.folder.iterdir()
    assert embeddings.bytes_each <= file.stat().st_size <= embeddings.bytes_each + 200


def test_embeddings_belong_to_an_image_and_an_encoder(maps, targets, embeddings):
    image = targets.identify(maps, 0)
    embeddings.store(image, False, embedding())
    elsewhere = EmbeddingCache(embeddings.folder.parent, "b" * 64, SHAPE)
    assert not elsewhere.has(image, False)
    assert not embeddings.has(targets.identify(maps, 1), False)
    assert not EmbeddingCache(embeddings.folder.parent, "a" * 64, (8, 4, 5)).has(image, False)
    other_labels = maps.path / "masks" / "scene0.png"
    other_labels.write_bytes((maps.path / "masks" / "scene1.png").read_bytes())
    assert embeddings.has(targets.identify(maps, 0), False)


@pytest.mark.parametrize("keep", [0, 20, 100, -1])
def test_truncated_embeddings_are_not_used(maps, targets, embeddings, keep):
    image = targets.identify(maps, 0)
    embeddings.store(image, True, embedding())
    (file,) = embeddings.folder.iterdir()
    file.write_bytes(file.read_bytes()[:keep])
    assert not embeddings.has(image, True)
    with pytest.raises(DatasetError, match="damaged"):
        embeddings.load(image, True)


def test_embeddings_beyond_half_precision_are_refused(maps, targets, embeddings):
    image = targets.identify(maps, 0)
    with pytest.raises(DatasetError, match="does not fit into 16 bits"):
        embeddings.store(image, False, embedding() + 1e5)
    assert not embeddings.has(image, False)


def test_images_are_padded_as_at_inference():
    from aopsam_ros.geometry import preprocess

    rgb = draw_ellipses(0)[0][:61, :83]
    canvas, geometry = resize_to_square(rgb, 64)
    mean, std = (120.0, 110.0, 100.0), (50.0, 60.0, 70.0)
    expected = preprocess(rgb, 64, mean, std)
    found = ((canvas - np.array(mean)) / std).transpose(2, 0, 1)
    found[:, geometry.valid_height :] = 0
    found[:, :, geometry.valid_width :] = 0
    assert geometry == expected.geometry
    np.testing.assert_allclose(found, expected.tensor[0], atol=1e-4)
