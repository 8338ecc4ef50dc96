"""Every graph that is timed runs on an image and knows its multiplications; rows join both."""

import dataclasses

import pytest

pyperf = pytest.importorskip("pyperf")
pytest.importorskip("onnx")

from aopsam_benchmarks.graphs import graph_rows, graph_runs  # noqa: E402
from aopsam_ros.bundle.loading import load_bundle  # noqa: E402
from aopsam_ros.engines.base import EngineOptions  # noqa: E402
from aopsam_ros.engines.registry import create_engine  # noqa: E402
from support.scenes import coloured_scene  # noqa: E402
from support.tiny_split import write_split_bundle  # noqa: E402


def runs_of(bundle):
    engine = create_engine(bundle, EngineOptions(engine="onnxruntime", threads=1))
    return {run.name: run for run in graph_runs(bundle, engine, coloured_scene()[0], (1, 4))}


def test_graphs_are_encoder_predictor_and_decoders(tiny_folder):
    runs = runs_of(load_bundle(tiny_folder))
    assert list(runs) == ["encoder", "predictor", "decoder, 1 at once", "decoder, 4 at once"]
    for run in runs.values():
        run.run()
        assert run.count() >= 0
    # The encoder's one product: a 1 x 1 convolution of 3 to 3 channels over 128 x 128 pixels.
    assert runs["encoder"].count() == 9 * 128 * 128


@pytest.mark.parametrize("is_per_mask", [False, True], ids=["of prompts", "of masks"])
def test_a_decoder_in_parts_runs_and_is_counted(tmp_path, is_per_mask):
    runs = runs_of(load_bundle(write_split_bundle(tmp_path / "split", is_per_mask=is_per_mask)))
    runs["decoder, 4 at once"].run()
    assert runs["decoder, 4 at once"].count() == 0  # the hand-made parts have no product


def test_what_the_prompts_of_an_image_share_does_not_count():
    """The whole decoder's products are those of its parts and of what is shared."""
    bundle = load_bundle("nano")
    parts, whole = runs_of(bundle), runs_of(dataclasses.replace(bundle, split_graphs={}))
    one, four = "decoder, 1 at once", "decoder, 4 at once"
    assert parts[four].count() == 4 * parts[one].count() > 0
    shared = whole[one].count() - parts[one].count()
    # The whole decoder also reads a mask to start from for each prompt.
    assert 0 < shared < whole[four].count() - parts[four].count() < 4 * shared


def test_rows_are_medians_of_what_pyperf_measured_beside_their_floors(tmp_path):
    runs = [
        pyperf.Run([v], metadata={"name": "b"}, collect_metadata=False) for v in (1.0, 2.0, 9.0)
    ]
    file = tmp_path / "times.json"
    pyperf.BenchmarkSuite([pyperf.Benchmark(runs)]).dump(str(file))
    (row,) = graph_rows(file, {"b": 50_000_000}, rate=100e6)
    floor = {"floor_ms": 500.0, "times_floor": 4.0}
    assert row == {"graph": "b", "ms": 2000.0, "scatter_ms": 1000.0, "gflop": 0.1, **floor}
    (row,) = graph_rows(file, {"b": 50_000_000}, rate=None)
    assert (row["floor_ms"], row["times_floor"]) == (None, None)
