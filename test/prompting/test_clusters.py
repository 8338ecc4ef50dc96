"""Prompts of clusters: presets, medoids against a plain search, places in the image, padding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.geometry import resized_geometry
from aopsam_ros.options import ClusterOptions
from aopsam_ros.prompting.clusters import PRESETS, cluster, cluster_points, medoids
from aopsam_ros.prompting.features import FeatureMap, attention_features
from aopsam_ros.prompting.hdbscan import hdbscan
from aopsam_ros.segmentation.segmenter import Segmenter
from support.scenes import coloured_scene, object_ious
from support.tiny_bundle import ATTENTION, encoder, with_attention, write_tiny_bundle


@given(st.integers(0, 1000))
def test_medoid_is_the_member_most_like_the_others(seed):
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(20, 4))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    labels = rng.integers(-1, 3, 20)
    similarity = (unit @ unit.T).astype(np.float32)
    cells, means = medoids(similarity, labels)
    present = sorted({int(label) for label in labels if label >= 0})
    assert len(cells) == len(present)
    for label, cell, mean in zip(present, cells, means, strict=True):
        members = [i for i in range(20) if labels[i] == label]
        means = [np.mean([unit[i] @ unit[j] for j in members]) for i in members]
        assert labels[cell] == label
        assert mean == pytest.approx(np.clip(max(means), 0, 1), abs=1e-5)


def patches():
    """An embedding of four quarters, each with a direction of its own and a little noise."""
    rng = np.random.default_rng(0)
    embedding = np.zeros((1, 6, 32, 32), np.float32)
    for index, (row, column) in enumerate([(0, 0), (0, 16), (16, 0), (16, 16)]):
        embedding[0, index, row : row + 16, column : column + 16] = 1.0
    return embedding + rng.normal(0, 0.02, embedding.shape).astype(np.float32)


def points_of(embedding, geometry, **options):
    features = FeatureMap(embedding, geometry, embedding.shape[1])
    return cluster_points(features, geometry, ClusterOptions(**options))


@pytest.mark.parametrize("side", [32, 16, 11, 8])
def test_each_quarter_gets_one_point(side):
    geometry = resized_geometry(400, 400, 512)
    points, means = points_of(patches(), geometry, side=side, min_cluster_size=side**2 // 8)
    quarters = sorted((int(x > 200), int(y > 200)) for x, y in points)
    assert quarters == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert (means > 0.9).all() and (np.diff(means) <= 0).all()


def test_padding_is_no_cluster():
    # The lower half of the square is padding: its two quarters are not seen.
    points, _ = points_of(patches(), resized_geometry(200, 400, 512), min_cluster_size=128)
    assert sorted(int(x > 200) for x, _ in points) == [0, 1]
    assert (points >= 0).all() and (points <= [399, 199]).all()
    none, _ = points_of(patches(), resized_geometry(200, 400, 512), min_cluster_size=400)
    assert len(none) == 0


def test_a_point_lies_where_its_cells_are():
    """One odd block in a plain map, 8 x 8 cells from column 16, row 8 of 32: pixels 200-300."""
    embedding = np.zeros((1, 2, 32, 32), np.float32)
    embedding[0, 0] = 1.0
    embedding[0, :, 8:16, 16:24] = np.array([0.0, 1.0])[:, None, None]
    points, _ = points_of(embedding, resized_geometry(400, 400, 512))
    inside = [(x, y) for x, y in points if 200 <= x < 300 and 100 <= y < 200]
    assert len(points) == 2 and len(inside) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (37, 61)])
def test_any_image_size(size):
    geometry = resized_geometry(*size, 512)
    points, means = points_of(np.ones((1, 3, 32, 32), np.float32), geometry)
    assert len(points) == len(means)
    assert (points >= 0).all() and (points <= [size[1] - 1, size[0] - 1]).all()


def test_the_whole_way(tiny_folder):
    rgb, objects = coloured_scene(480, 640)
    rgb[..., 0] = 0
    with Segmenter.from_bundle(tiny_folder, "clusters", EngineOptions(threads=1)) as segmenter:
        assert segmenter.options.mask.combine == "merge"
        result = segmenter.segment(rgb)
    assert min(object_ious(result, objects)) > 0.8
    assert result.confidence_map is None


def test_cells_that_attend_to_the_same_cells_are_one_cluster():
    """Three groups of columns of a 16 x 16 square, whose lower half is padding, attended by all."""
    group = np.tile(np.repeat([0, 1, 2], [4, 4, 8]), 16)
    is_padding = np.arange(256) >= 128
    attention = (group[:, None] == group) / 64 + 4.0 * is_padding
    attention = (attention / attention.sum(1, keepdims=True))[None].astype(np.float32)
    geometry = resized_geometry(200, 400, 512)
    features = attention_features(attention, geometry)
    assert features.unit.shape == (128, 128)
    points, means = cluster_points(features, geometry, ClusterOptions(side=16))
    assert sorted(np.digitize(points[:, 0], [100, 200]).tolist()) == [0, 1, 2]
    assert (points[:, 1] < 200).all() and means == pytest.approx(1.0)


def test_attention_takes_the_embeddings_place(tmp_path):
    """It sees red, which this embedding's compared channels leave out."""
    rgb = np.zeros((128, 128, 3), np.uint8)
    rgb[:, 64:, 0] = 255
    counts = []
    for model, attention in ((encoder(), None), (with_attention(encoder()), ATTENTION)):
        folder = tmp_path / str(attention is None)
        write_tiny_bundle(folder, {"encoder": model}, attention=attention)
        with Segmenter.from_bundle(folder, "clusters", EngineOptions(threads=1)) as segmenter:
            options = segmenter.options.updated({"clusters.min_cluster_size": 16})
            prompts = segmenter.segment(rgb, options).prompts
        counts.append(sorted(int(prompt.x > 64) for prompt in prompts))
    assert counts[0] != [0, 1] and counts[1] == [0, 1]


def noisy_cosines(seed):
    """Cosines of up to 300 unit vectors around some directions, more or less far from them."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(rng.integers(1, 8), 6))
    chosen = directions[rng.integers(0, len(directions), rng.integers(50, 300))]
    vectors = chosen + rng.normal(0, rng.uniform(0.05, 0.6), chosen.shape)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return (unit @ unit.T).astype(np.float32)


def together(labels):
    """Which pairs of points are in one cluster."""
    return (labels[:, None] == labels) & (labels >= 0)


@pytest.mark.needs("sklearn")
@pytest.mark.parametrize("preset", PRESETS)
def test_clusters_are_scikit_learns(preset):
    """But for points that are equally far from two others: either may come first."""
    from sklearn.cluster import HDBSCAN

    samples, size = PRESETS[preset]
    for seed in range(10):
        cosines = noisy_cosines(seed)
        distance = np.maximum(1.0 - (cosines + cosines.T).astype(np.float64) / 2, 0.0)
        np.fill_diagonal(distance, 0.0)
        reference = HDBSCAN(
            metric="precomputed", min_samples=samples, min_cluster_size=size, copy=True
        ).fit(distance)
        found = cluster(cosines, samples, size)
        assert found.max() == reference.labels_.max()
        assert (together(found) == together(reference.labels_)).mean() > 0.99


def test_clusters_of_other_densities_and_noise_beside_them():
    """On a line: one alone, six near to each other, six ten times as far, one alone."""
    places = np.array([-9.0, *(0.01 * np.arange(6)), *(6.0 + 0.1 * np.arange(6)), 20.0])
    distance = np.abs(places[:, None] - places)
    assert hdbscan(distance, 2, 4).tolist() == [-1] + [0] * 6 + [1] * 6 + [-1]
