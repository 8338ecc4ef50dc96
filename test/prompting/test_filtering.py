"""Adaptive filtering: each rule against its formula written out, and what must always hold."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from aopsam_ros.geometry import resized_geometry
from aopsam_ros.options import AsfOptions
from aopsam_ros.prompting.features import FeatureMap, single_thread_matmul
from aopsam_ros.prompting.filtering import RULE_OPTIONS, RULES, FilterContext

SQUARE, LOW, SIDE, CHANNELS = 128, 32, 8, 5
GEOMETRY = resized_geometry(300, 400, SQUARE)  # 96 x 128 valid: 24 x 32 low, 6 x 8 features


def make_context(seed=0, masks=3, remaining=12):
    generator = np.random.default_rng(seed)
    rows, columns = GEOMETRY.valid_cells(LOW)
    embedding = generator.normal(size=(1, CHANNELS + 2, SIDE, SIDE)).astype(np.float32) + 0.5
    drawn = np.zeros((masks, rows, columns), bool)
    for mask in drawn:
        top, left = generator.integers(0, rows - 4), generator.integers(0, columns - 4)
        mask[top : top + generator.integers(1, 14), left : left + generator.integers(1, 14)] = True
    last = np.array([GEOMETRY.width, GEOMETRY.height]) - 1
    prompts = np.arange(masks) // 2  # two masks of each prompt
    context = FilterContext(
        features=lambda: FeatureMap(embedding, GEOMETRY, CHANNELS),
        geometry=GEOMETRY,
        low_size=LOW,
        masks=drawn,
        predicted_iou=generator.random(masks).astype(np.float32),
        prompts=prompts,
        points=(generator.random(((masks + 1) // 2, 2)) * last)[prompts],
        remaining=generator.random((remaining, 2)) * last,
    )
    return context, embedding


def dropped(rule, context, k=1.3, cosine=0.75):
    asf = AsfOptions(elimination_threshold=k, elimination_cosine=cosine)
    return RULES[rule](context, asf)


def unit_features(embedding):
    return embedding[0, :CHANNELS] / np.linalg.norm(embedding[0, :CHANNELS], axis=0)


def lookup(grid, point):
    """Bilinear value of a map [rows, columns] at a source point, by the definition."""
    cell = SQUARE / SIDE
    x, y = (point * GEOMETRY.scale + 0.5) / cell - 0.5
    x, y = np.clip(x, 0, grid.shape[1] - 1), np.clip(y, 0, grid.shape[0] - 1)
    x0, y0 = int(x), int(y)
    x1, y1 = min(x0 + 1, grid.shape[1] - 1), min(y0 + 1, grid.shape[0] - 1)
    above = grid[y0, x0] * (1 - x + x0) + grid[y0, x1] * (x - x0)
    below = grid[y1, x0] * (1 - x + x0) + grid[y1, x1] * (x - x0)
    return above * (1 - y + y0) + below * (y - y0)


def similarity_maps(context, embedding):
    """C_i by loops: pool the unit features of the cells covered by half, compare with each."""
    rows, columns = GEOMETRY.valid_cells(SIDE)
    unit = unit_features(embedding)
    ratio = LOW // SIDE
    maps = []
    for mask, point in zip(context.masks, context.points, strict=True):
        inside = []
        for r in range(rows):
            for c in range(columns):
                block = mask[r * ratio : (r + 1) * ratio, c * ratio : (c + 1) * ratio]
                if block.mean() >= 0.5:
                    inside.append(unit[:, r, c])
        if not inside:
            c, r = np.rint((point * GEOMETRY.scale + 0.5) / 16 - 0.5).astype(int)
            inside.append(unit[:, min(max(r, 0), rows - 1), min(max(c, 0), columns - 1)])
        pooled = np.mean(inside, axis=0)
        pooled /= np.linalg.norm(pooled)
        maps.append(np.einsum("c,crk->rk", pooled, unit[:, :rows, :columns]))
    return np.array(maps)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("k", [0.6, 1.0, 1.3])
def test_papers_rule_is_the_papers_formula(seed, k):
    context, embedding = make_context(seed)
    mean_map = similarity_maps(context, embedding).mean(0)
    at_prompts = [lookup(mean_map, point) for point in context.points]
    threshold = max(0.0, np.mean(context.predicted_iou * at_prompts))
    expected = [lookup(mean_map, q) > k * threshold for q in context.remaining]
    assert dropped("paper", context, k).tolist() == expected


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("k", [0.6, 1.0, 1.3])
def test_max_rule_tests_each_mask_by_itself(seed, k):
    context, embedding = make_context(seed)
    maps = similarity_maps(context, embedding)
    rows = zip(maps, context.predicted_iou, context.points, strict=True)
    tests = [(m, k * max(0.0, iou * lookup(m, p))) for m, iou, p in rows]
    expected = [any(lookup(m, q) > t for m, t in tests) for q in context.remaining]
    assert dropped("max", context, k).tolist() == expected


def lies_in(mask, point):
    column, row = np.rint((point * GEOMETRY.scale + 0.5) / 4 - 0.5).astype(int)
    return bool(mask[min(row, 23), min(column, 31)])


@pytest.mark.parametrize("seed", range(4))
def test_inside_rule_looks_up_the_masks(seed):
    context, _ = make_context(seed, remaining=40)
    expected = [any(lies_in(mask, q) for mask in context.masks) for q in context.remaining]
    assert any(expected) and not all(expected)
    assert dropped("inside", context, 1.3).tolist() == expected


@pytest.mark.parametrize("seed", range(4))
def test_both_means_both_of_one_mask(seed):
    whole, _ = make_context(seed, remaining=40)
    expected = np.zeros(40, bool)
    for row in range(3):
        names = "masks", "predicted_iou", "prompts", "points"
        one = replace(whole, **{name: getattr(whole, name)[row : row + 1] for name in names})
        expected |= dropped("max", one, 0.7) & dropped("inside", one, 0.7)
    assert expected.any()
    assert dropped("max_inside", whole, 0.7).tolist() == expected.tolist()


def unit_feature(embedding, point):
    """The feature at a source point: every channel of the unit features by bilinear value."""
    rows, columns = GEOMETRY.valid_cells(SIDE)
    channels = unit_features(embedding)[:, :rows, :columns]
    vector = np.array([lookup(channel, point) for channel in channels])
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("cosine", [0.0, 0.6, 0.9])
def test_duplicates_lie_in_all_masks_of_a_prompt_and_look_like_it(seed, cosine):
    context, embedding = make_context(seed, masks=5, remaining=40)
    inside_all, duplicate = [], []
    for q in context.remaining:
        covers, similar = [], []
        for prompt in range(3):  # masks 0 and 1, 2 and 3, 4
            masks = context.masks[2 * prompt : 2 * prompt + 2]
            covers.append(all(lies_in(mask, q) for mask in masks))
            p = context.points[2 * prompt]
            similar.append(unit_feature(embedding, p) @ unit_feature(embedding, q) > cosine)
        inside_all.append(any(covers))
        duplicate.append(any(c and a for c, a in zip(covers, similar, strict=True)))
    assert dropped("inside_all", context).tolist() == inside_all
    assert dropped("duplicates", context, cosine=cosine).tolist() == duplicate


@given(
    hnp.arrays(np.bool_, st.tuples(st.just(2), st.just(75), st.just(128))),
    st.sampled_from([(301, 512), (298, 512), (300, 512)]),
)
def test_cells_cut_by_the_images_edge_are_measured_by_what_is_there(masks, size):
    geometry = resized_geometry(*size, 512)
    rows, columns = geometry.valid_cells(128)
    masks = np.resize(masks, (2, rows, columns))
    embedding = np.random.default_rng(0).normal(size=(1, 4, 32, 32)).astype(np.float32)
    features = FeatureMap(embedding, geometry, 4)
    points = np.array([[5.0, 5.0], [500.0, 290.0]])
    pooled = features.pool(masks, points, 128)
    for mask, point, got in zip(masks, points, pooled, strict=True):
        inside = np.zeros((features.rows, features.columns), bool)
        for r, c in np.ndindex(inside.shape):
            inside[r, c] = mask[4 * r : 4 * r + 4, 4 * c : 4 * c + 4].mean() >= 0.5
        if not inside.any():
            inside.ravel()[features.nearest(point[None])] = True
        mean = features.unit[inside.ravel()].mean(0)
        np.testing.assert_allclose(got, mean / np.linalg.norm(mean), atol=1e-4)


def test_zero_features_are_no_error():
    features = FeatureMap(np.zeros((1, 3, SIDE, SIDE), np.float32), GEOMETRY, 3)
    context, _ = make_context(1)
    blank = replace(context, features=lambda: features)
    for rule in RULES.values():
        assert rule(blank, AsfOptions()).dtype == bool


@given(
    st.integers(0, 200),
    st.sampled_from(sorted(RULES)),
    st.tuples(st.floats(0, 3), st.floats(0, 3)),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_rules_use_what_they_say_they_use(seed, rule, k, cosine):
    context, _ = make_context(seed)
    found = dropped(rule, context, k[0], cosine[0])
    used_k = k if rule in RULE_OPTIONS["asf.elimination_threshold"] else (k[0], k[0])
    used_cosine = (
        cosine if rule in RULE_OPTIONS["asf.elimination_cosine"] else (cosine[0], cosine[0])
    )
    again = dropped(rule, context, k[1], cosine[1])
    np.testing.assert_array_equal(again, dropped(rule, context, used_k[1], used_cosine[1]))
    if used_k[0] == used_k[1] and used_cosine[0] == used_cosine[1]:
        np.testing.assert_array_equal(again, found)
    # A higher factor and a higher cosine never drop more.
    for name, pair in (("k", k), ("cosine", cosine)):
        low, high = (dropped(rule, context, **{name: value}) for value in sorted(pair))
        assert not (high & ~low).any()


@pytest.mark.parametrize(
    ("m", "k", "n"), [(8, 128, 576), (64, 9, 1280), (1, 1, 1), (3, 0, 5), (0, 4, 7), (4, 7, 0)]
)
def test_a_product_in_blocks_is_the_product(m, k, n):
    generator = np.random.default_rng(0)
    a = generator.normal(size=(m, k)).astype(np.float32)
    b = generator.normal(size=(k, n)).astype(np.float32)
    for layout in (b, b.T.copy().T):
        found = single_thread_matmul(a, layout)
        np.testing.assert_allclose(found, a.astype(float) @ b, rtol=1e-4, atol=1e-4)
