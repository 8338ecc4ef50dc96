"""Every stage that is timed runs on a frame, knows its work, and does what the pipeline does."""

import numpy as np
import pytest

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.registry import create_engine
from support.scenes import coloured_scene
from support.tiny_split import write_split_bundle

pytest.importorskip("onnxruntime")
from aopsam_benchmarks.benchmark_frame import BenchmarkFrame
from aopsam_benchmarks.stages import stages_of

ALWAYS = ["preprocess", "encoder", "predictor", "sampling", "decoder, 1 at once"]
ALWAYS += ["decoder, 4 at once", "filtering", "selection", "overlaps", "upscaling and run lengths"]


@pytest.fixture(scope="module")
def frame(tiny_folder):
    bundle = load_bundle(tiny_folder)
    runtime = create_engine(bundle, EngineOptions(engine="onnxruntime", threads=1))
    yield BenchmarkFrame(bundle, runtime, coloured_scene(480, 640)[0])
    runtime.close()


@pytest.fixture(scope="module")
def stages(frame):
    return {stage.name: stage for stage in stages_of(frame, batches=(1, 4))}


def test_stages_are_those_of_a_frame(stages):
    assert [name for name in stages if name != "message"] == ALWAYS


@pytest.mark.parametrize("name", [*ALWAYS, "message"])
def test_stage_runs_and_has_work(stages, name):
    if name not in stages:
        pytest.skip("needs ROS 2")
    stage = stages[name]
    stage.run()
    work = stage.work()
    assert work.moved > 0
    assert work.macs >= 0
    assert "None" not in stage.amount()


def test_stages_lead_to_the_masks_of_the_pipeline(frame, stages):
    found = sorted((m.area, m.bbox) for m in stages["upscaling and run lengths"].run())
    masks = frame.segmentation.masks
    assert found == sorted((m.area, m.bbox) for m in masks)
    assert len(masks) == len(frame.kept) >= 3
    assert stages["overlaps"].amount() == f"{len(frame.found)} masks"


def test_prompts_are_repeated_where_a_batch_wants_more(frame):
    coords, labels = frame.some_prompts(len(frame.prompts) + 2)
    np.testing.assert_array_equal(coords[:2], coords[-2:])
    assert len(coords) == len(labels) == len(frame.prompts) + 2


@pytest.fixture(scope="module", params=[False, True], ids=["of prompts", "of masks"])
def split_frame(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "split"
    bundle = load_bundle(write_split_bundle(folder, is_per_mask=request.param))
    runtime = create_engine(bundle, EngineOptions(engine="onnxruntime", threads=1))
    yield BenchmarkFrame(bundle, runtime, coloured_scene(480, 640)[0])
    runtime.close()


def test_a_decoder_in_parts_is_counted_as_it_runs(split_frame):
    stages = {stage.name: stage for stage in stages_of(split_frame, batches=(1, 4))}
    once = stages["decoder, once a frame"]
    once.run()
    graphs = split_frame.bundle.split_graphs
    sizes = {name: len(graph.read()) for name, graph in graphs.items()}
    assert once.work().moved > sizes["decoder_frame"]
    few, more = stages["decoder, 1 at once"].work(), stages["decoder, 4 at once"].work()
    drawn = 4 * len(split_frame.found.logits[0]) ** 2  # bytes of a mask's logits
    assert few.moved > sizes["decoder_prompts"] + sizes["decoder_masks"] + drawn
    assert more.moved >= few.moved + 3 * drawn
    split_frame.options = split_frame.options.updated({"mask.predicted_iou_threshold": 1.0})
    none_drawn = stages["decoder, 4 at once"].work()
    assert none_drawn.moved < few.moved - sizes["decoder_masks"]
