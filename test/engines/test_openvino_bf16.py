"""OpenVINO in 16 bits: taken where it is right, with coordinates of prompts in 32."""

import logging

import numpy as np
import onnxruntime
import pytest

from aopsam_ros.bundle.loading import DECODER, ENCODER, FRAME_PART, PROMPT_PART, load_bundle
from aopsam_ros.engines.base import EngineOptions, all_logits
from aopsam_ros.engines.openvino.api import FP32, OpenVino
from aopsam_ros.engines.openvino.engine import OpenVinoEngine
from aopsam_ros.engines.openvino.graph import read_model
from aopsam_ros.engines.openvino.prompts import cut_prompts
from aopsam_ros.engines.verification import answers, compare, sample_inputs
from aopsam_ros.geometry import preprocess
from support import tiny_bundle
from support.golden_masks import read_rgb
from support.openvino_cases import NAMES, assert_close
from support.tiny_bundle import IMAGE, MAP, add_constants, nodes, with_last, write_tiny_bundle

# Not importorskip: the package reports being imported over the network, if it is not hindered.
pytestmark = pytest.mark.needs("openvino")


def start(bundle, precision, openvino):
    return OpenVinoEngine(bundle, EngineOptions(threads=1, precision=precision), openvino=openvino)


@pytest.mark.parametrize("precision", ["auto", "fp16"])
def test_bf16_is_taken_where_the_processor_has_it(bundle, engines, with_bf16, caplog, precision):
    caplog.set_level("WARNING")
    engine = start(bundle, precision, with_bf16)
    assert engine.precision == "bf16" and not caplog.records
    samples = sample_inputs(bundle)
    found, wanted = answers(engine, samples), answers(engines("tiny")[1], samples)
    compare("tiny in bf16", found, wanted, 0.999)
    assert np.abs(found["embedding"] - wanted["embedding"]).max() > 1e-4  # it is 16 bits


@pytest.mark.parametrize(
    ("precision", "has_it", "gains"),
    [("fp32", True, True), ("auto", True, False), ("auto", False, False), ("fp16", False, False)],
)
def test_fp32_is_fp32(bundle, openvino, engines, monkeypatch, precision, has_it, gains):
    monkeypatch.setattr(openvino, "has_bf16", has_it)
    monkeypatch.setattr(openvino, "gains_by_bf16", gains)
    engine = start(bundle, precision, openvino)
    assert engine.precision == "fp32"
    samples = sample_inputs(bundle)
    wanted = answers(engines("tiny")[1], samples)
    for name, array in answers(engine, samples).items():
        assert_close(array, wanted[name])


@pytest.mark.parametrize("name", ["nano", "mobile_sam"])
def test_neighbouring_prompts_stay_apart_in_bf16(bundles, engines, with_bf16, name):
    """A prompt's masks change from pixel to pixel, and nearly as much as in 32 bits."""
    bundle = bundles(name)
    engine = start(bundle, "auto", with_bf16)
    assert engine.precision == "bf16"
    size = bundle.image_size
    image = preprocess(read_rgb("cat.jpg"), size, bundle.mean, bundle.std).tensor
    coords = np.full((13, 1, 2), 0.3 * size, np.float32)
    coords[:, 0, 0] = 0.3 * size + np.arange(13)  # where masks change, by 4 % and more
    labels = np.ones((13, 1), np.float32)
    found, wanted = (
        all_logits(r.decode(r.encode(image), coords, labels)) for r in (engine, engines(name)[1])
    )
    compare(name, {"logits": found}, {"logits": wanted}, 0.999)
    for distance in (1, 12):
        moves, reference = (x[distance:] - x[:-distance] for x in (found, wanted))
        for move, expected in zip(moves, reference, strict=True):
            assert np.linalg.norm(move) > 0.5 * np.linalg.norm(expected) > 0
    total = {"move": (found[-1] - found[0])}
    compare(name, total, {"move": wanted[-1] - wanted[0]}, 0.9)


def test_wrong_bf16_falls_back_to_fp32(tmp_path, with_bf16, caplog):
    """A number that 16 bits swallow: what is added is lost."""
    encoder = with_last(tiny_bundle.encoder(), "embedding", "Add", {"number": np.float32(4096)})
    encoder.graph.node[-1].output[0] = "large"
    encoder.graph.node.extend(nodes("moved = Conv(large, unit) embedding = Sub(moved, number)"))
    add_constants(encoder.graph, unit=np.eye(3, dtype=np.float32)[..., None, None])
    bundle = load_bundle(write_tiny_bundle(tmp_path / "b", {"encoder": encoder}))
    with caplog.at_level(logging.WARNING):
        engine = start(bundle, "auto", with_bf16)
    assert engine.precision == "fp32"
    (record,) = caplog.records
    assert "openvino computes in fp32, because bf16 was found wrong" in record.message
    assert "embedding differs from the reference" in record.message
    pooled = IMAGE.reshape(1, 3, MAP, 2, MAP, 2).mean((3, 5))[:, [1, 2, 0]]
    np.testing.assert_allclose(engine.embedding(engine.encode(IMAGE)), pooled, atol=0.01)


def test_bf16_that_openvino_does_not_take_falls_back(bundle, monkeypatch, caplog):
    openvino = OpenVino(threads=1)
    openvino.has_bf16 = True
    compile_in = openvino.compile
    monkeypatch.setattr(openvino, "compile", lambda model, precision: compile_in(model, FP32))
    engine = start(bundle, "fp16", openvino)
    assert engine.precision == "fp32"
    assert "OpenVINO computes in f32 here" in caplog.text
    assert engine.embedding(engine.encode(IMAGE)).shape == (1, 3, MAP, MAP)


def run_cut(openvino, model, inputs):
    """Cut a model, run what is made of prompts alone, then the rest: its outputs by their names."""
    first, rest = cut_prompts(openvino.module, model)
    assert {value.get_any_name() for value in first.inputs} == {"point_coords", "point_labels"}
    requests = [openvino.compile(part, FP32).create_infer_request() for part in (first, rest)]
    prompts = {name: inputs[name] for name in ("point_coords", "point_labels")}
    bridges = list(requests[0].infer(prompts).values())
    places = range(len(rest.inputs) - len(bridges), len(rest.inputs))
    names = {name for value in rest.inputs for name in value.get_names()}
    given = {name: array for name, array in inputs.items() if name in names}
    found = requests[1].infer({**given, **dict(zip(places, bridges, strict=True))})
    pairs = zip(rest.outputs, found.values(), strict=True)
    return {name: array for value, array in pairs for name in value.get_names()}


@pytest.mark.parametrize(
    ("name", "graph"),
    [*((name, DECODER) for name in NAMES), ("nano", PROMPT_PART), ("mobile_sam", PROMPT_PART)],
)
def test_a_cut_graph_computes_the_same(bundles, engines, openvino, name, graph):
    """What is made of prompts alone is made of nothing else, and the rest needs nothing more."""
    bundle, reference = bundles(name), engines(name)[1]
    samples, content = sample_inputs(bundle), {**bundle.graphs, **bundle.split_graphs}[graph].read()
    shared = {"embedding": reference.embedding(reference.encode(samples[ENCODER][0]["image"]))}
    if graph == PROMPT_PART:
        shared |= reference.run_graph(FRAME_PART, shared)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for prompts in samples[DECODER]:
        inputs = {value.name: {**shared, **prompts}[value.name] for value in session.get_inputs()}
        found = run_cut(openvino, read_model(openvino, content, graph), inputs)
        for output, array in zip(session.get_outputs(), session.run(None, inputs), strict=True):
            assert_close(found[output.name], array)
