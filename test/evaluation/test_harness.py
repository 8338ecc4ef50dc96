"""The harness: what is measured how often, and what is kept."""

import pytest

from aopsam_ros.data.datasets import open_dataset
from aopsam_ros.evaluation.automatic import measure
from aopsam_ros.evaluation.configurations import Configuration
from aopsam_ros.evaluation.harness import ALL, Harness
from aopsam_ros.evaluation.photographs import choose, read
from aopsam_ros.evaluation.store import Store, Stored, configuration_key
from aopsam_ros.segmentation.segmenter import Segmenter
from support.scenes import write_scenes


@pytest.fixture(scope="module")
def grid(tiny_folder):
    with Segmenter.from_bundle(tiny_folder, "onnxruntime", "grid4", threads=1) as segmenter:
        yield segmenter


def opened(data):
    return [open_dataset(folder) for folder in data]


def test_a_limit_spreads_over_each_set(tmp_path):
    sets = [open_dataset(write_scenes(tmp_path / "ten", range(10)))]
    assert [index for _, index in choose(sets, 0)] == list(range(10))
    assert [index for _, index in choose(sets, 4)] == [0, 2, 5, 7]
    assert [index for _, index in choose(sets, 1)] == [0]
    assert [index for _, index in choose(sets, 99)] == list(range(10))


def test_rows_are_the_means_of_what_the_library_finds(data, tiny, grid):
    harness = Harness(settings={"asf.batch_size": 2})
    one = harness.prepare(Configuration("sources", "predictor", "predictor"), tiny)
    two = harness.prepare(Configuration("rules", "inside", "x", {"asf.filtering": "inside"}), tiny)
    other = harness.prepare(Configuration("sources", "grid4", "grid4"), grid)
    harness.run(opened(data), 0, [one, two, other])
    for measured in (one, two, other):
        results = []
        for dataset in opened(data):
            for index in range(len(dataset)):
                photograph = read(dataset, index)
                found = measured.segmenter.segment(photograph.image.rgb, measured.options)
                results.append(measure(found, photograph.truth))
        rows = harness.rows(measured)
        assert list(rows) == ["near", "far", ALL]
        assert [rows[name].images for name in rows] == [3, 2, 5]
        mean = sum(result.one_to_one for result in results) / 5
        assert rows[ALL].one_to_one == pytest.approx(mean)
        assert rows["near"].closest == pytest.approx(sum(r.closest for r in results[:3]) / 3)
        assert rows[ALL].decoder_calls == sum(r.decoder_calls for r in results) / 5
    assert harness.rows(two)[ALL].decoder_calls <= harness.rows(one)[ALL].decoder_calls
    assert harness.rows(other)[ALL].decoder_calls == 16


def test_the_first_run_of_a_configuration_only_warms_up(data, tiny, monkeypatch):
    harness, calls = Harness(), []
    segment = Segmenter.segment
    monkeypatch.setattr(Segmenter, "segment", lambda *a: calls.append(1) or segment(*a))
    both = [
        harness.prepare(Configuration("sources", name, "predictor", {"asf.max_prompts": n}), tiny)
        for name, n in (("a", 2), ("b", 3))
    ]
    harness.run(opened(data), 2, both)
    assert len(calls) == 2 * (4 + 1)


def test_equal_options_are_measured_once(data, tiny, monkeypatch):
    harness, calls = Harness(), []
    segment = Segmenter.segment
    monkeypatch.setattr(Segmenter, "segment", lambda *a: calls.append(1) or segment(*a))
    own = tiny.options.asf.filtering
    both = [
        harness.prepare(Configuration("sources", "predictor", "predictor"), tiny),
        harness.prepare(Configuration("rules", own, "predictor", {"asf.filtering": own}), tiny),
    ]
    harness.run(opened(data), 1, both)
    assert len(calls) == 2 + 1
    assert harness.rows(both[0]) == harness.rows(both[1])


def test_a_key_differs_for_whatever_gives_other_results():
    basis = {"graphs": {"encoder": "a"}, "options": {"x": 1}, "source": "predictor"}
    changed = [
        basis | {"graphs": {"encoder": "b"}},
        basis | {"options": {"x": 2}},
        basis | {"source": "grid4"},
    ]
    keys = {configuration_key(description) for description in (basis, *changed)}
    assert len(keys) == 4
    assert configuration_key(dict(reversed(basis.items()))) == configuration_key(basis)


def test_a_store_survives_a_line_that_was_cut_off(tmp_path, data, tiny):
    photograph = read(open_dataset(data[0]), 0)
    result = measure(tiny.segment(photograph.image.rgb), photograph.truth)
    stored = Stored(result, ("abc", "d"), (0.5, 0.25))
    path = tmp_path / "store.jsonl"
    store = Store(path)
    store.put("one", stored)
    store.put("two", stored)
    content = path.read_text()
    path.write_text(content[: len(content) - 20])
    again = Store(path)
    assert again.get("one") == stored and again.get("two") is None
    again.put("two", stored)
    again.put("three", stored)
    last = Store(path)
    assert [last.get(name) == stored for name in ("one", "two", "three")] == [True] * 3
    path.write_text('nonsense\n{"image": 3}\n[1]\n')
    assert Store(path).get("one") is None
