"""Encoder and Prompt Predictor in 8 bits for ONNX Runtime on a CPU, calibrated on photographs."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from aopsam_ros.bundle.loading import ENCODER, PREDICTOR, Bundle, load_bundle
from aopsam_ros.engines import verification
from aopsam_ros.engines.base import FP32, INT8, Arrays, EngineOptions
from aopsam_ros.engines.onnxruntime import OnnxRuntimeEngine
from aopsam_ros.errors import BundleError
from aopsam_ros.models.bundle_files import (
    describe_graphs,
    new_bundle,
    read_description,
    save_description,
)
from aopsam_ros.models.stored_weights import load_graph

INT8_SUFFIX = ".int8.onnx"
# What a graph in 8 bits has in 8 bits: convolutions, and what lies between them.
EIGHT_BITS = ("Conv", "Clip", "Relu", "Add")
# But for an image's first ones, whose rounding all others inherit: in 32 bits they cost no time
# that could be measured, and `nano`'s embedding has a quarter of the error.
FULL_FIRST_CONVOLUTIONS = 3
# Far below what is useful: `nano`'s embedding still gave 99 % of its mIoU with 0.95.
LEAST_COSINE = 0.9
EncoderImage = NDArray[np.float32]  # `[1, 3, S, S]`, as the encoder takes it


@dataclass(frozen=True)
class QuantizationReport:
    """A graph in 8 bits beside the same in 32."""

    graph: str  # the encoder, or the predictor
    cosine: float  # least cosine between an output of theirs, of the same inputs
    time_ratio: float  # median of the time in 8 bits over that in 32
    bytes_before: int  # size of the graph in 32 bits
    bytes_after: int  # size of the graph in 8 bits


def quantize_bundle(
    bundle: Bundle, folder: Path, images: Sequence[EncoderImage], threads: int = 0
) -> list[QuantizationReport]:
    """Write a bundle with graphs in 8 bits beside its others: encoder, and predictor if it has one.

    Args:
        bundle: from `load_bundle`.
        folder: made, or the bundle in it replaced, once everything is checked; untouched before.
        images: photographs to calibrate on and to compare with, at least one.
        threads: of the comparison; 0 leaves the choice to ONNX Runtime.

    Raises:
        BundleError: if a graph is missing or altered, nothing in the encoder can be quantised, or
            the folder holds something else than a bundle.
        VerificationError: if a graph in 8 bits is too far from the one in 32.
    """
    with new_bundle(folder, replace(bundle, int8_graphs={})) as work:
        samples = _samples(bundle, images)
        for graph, inputs in samples.items():
            source, target = work / bundle.graphs[graph].path.name, work / f"{graph}{INT8_SUFFIX}"
            write_int8(source, target, inputs)
        _describe(bundle, work, len(images))
        return [_compare(load_bundle(work), *each, threads) for each in samples.items()]


def _samples(bundle: Bundle, images: Sequence[EncoderImage]) -> dict[str, list[Arrays]]:
    """Return what each graph that can run in 8 bits takes of images."""
    samples: dict[str, list[Arrays]] = {ENCODER: [{"image": image} for image in images]}
    if PREDICTOR in bundle.graphs and _to_quantise(load_graph(bundle.graphs[PREDICTOR].path)):
        engine = _engine(bundle, FP32)
        known = [{**inputs, **engine.run_graph(ENCODER, inputs)} for inputs in samples[ENCODER]]
        taken = bundle.predictor_inputs
        samples[PREDICTOR] = [{name: arrays[name] for name in taken} for arrays in known]
    return samples


def write_int8(path: Path, target: Path, samples: Sequence[Arrays]) -> None:
    """Quantise a float32 graph: weights by channel, activations by their averaged extremes.

    Activations are unsigned: with signed ones ONNX Runtime took twice the time. Weights have seven
    of the eight bits: x86 processors without VNNI add pairs of products in 16 bits, and would clip.

    Raises:
        BundleError: if nothing in the graph can be quantised.
    """
    model = load_graph(path)
    if not _to_quantise(model):
        raise BundleError(f"{path.name}: has no convolution that could run in 8 bits")
    # The library's paths must be UTF-8, which a bundle's need not be.
    with tempfile.TemporaryDirectory() as folder, _silent():
        named, quantised = Path(folder) / "named.onnx", Path(folder) / "quantised.onnx"
        onnx.save(model, str(named))
        quantize_static(
            str(named), str(quantised), _Reader(samples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(EIGHT_BITS),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(_in_full(model)),
            extra_options={"CalibMovingAverage": True},
        )  # fmt: skip
        onnx.checker.check_model(str(quantised), full_check=True)
        target.write_bytes(quantised.read_bytes())


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Inputs of photographs, one after another, as the library asks for them."""

    def __init__(self, samples: Sequence[Arrays]) -> None:
        self._inputs = iter(samples)

    def get_next(self) -> Arrays | None:
        return next(self._inputs, None)


def _to_quantise(model: ModelProto) -> list[NodeProto]:
    """Name all nodes, by which they are chosen; return the convolutions that can run in 8 bits."""
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
    left_out = _in_full(model)
    return [node for node in _convolutions(model) if node.name not in left_out]


def _convolutions(model: ModelProto) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Conv"]


def _in_full(model: ModelProto) -> set[str]:
    """Return the names of what stays in 32 bits: the first layers, and norms' shifts."""
    constants = {item.name for item in model.graph.initializer}
    constants |= {n.output[0] for n in model.graph.node if n.op_type == "Constant"}
    shifts = [n for n in model.graph.node if n.op_type == "Add" and constants & set(n.input)]
    return {node.name for node in [*_first_layers(model), *shifts]}


def _first_layers(model: ModelProto) -> list[NodeProto]:
    """Return the image's first convolutions with the activations that take their outputs."""
    seen = {"image"}  # and all that is made of it
    for node in model.graph.node:
        if seen.intersection(node.input):
            seen.update(node.output)
    of_image = [node for node in _convolutions(model) if node.input[0] in seen]
    convolutions = of_image[:FULL_FIRST_CONVOLUTIONS]
    outputs = {output for node in convolutions for output in node.output}
    activations = [
        n for n in model.graph.node if n.op_type in ("Clip", "Relu") and n.input[0] in outputs
    ]
    return convolutions + activations


def _describe(bundle: Bundle, work: Path, photographs: int) -> None:
    """Write bundle.yaml anew: with the graphs, and what they were calibrated on."""
    description = read_description(bundle)
    files = [f"{graph}{INT8_SUFFIX}" for graph in (ENCODER, PREDICTOR)]
    description["int8_graphs"] = describe_graphs(work, files)
    provenance = description.get("provenance")
    if isinstance(provenance, dict):  # else it is free text, and stays
        provenance[INT8] = {"calibrated_on": f"{photographs} photographs"}
    save_description(work, description)


def _compare(
    bundle: Bundle, graph: str, samples: Sequence[Arrays], threads: int
) -> QuantizationReport:
    """Run a graph on every sample in both, in turns, so that other load affects both."""
    full, int8 = (_engine(bundle, precision, threads) for precision in (FP32, INT8))
    full.run_graph(graph, samples[0])  # the first run takes longer
    int8.run_graph(graph, samples[0])
    cosines, ratios = [], []
    for inputs in samples:
        wanted, full_time = _timed(full, graph, inputs)
        found, int8_time = _timed(int8, graph, inputs)
        matches = verification.compare(f"{graph} in {INT8}", found, wanted, LEAST_COSINE)
        cosines += [match.cosine for match in matches]
        ratios.append(int8_time / full_time)
    graphs = (bundle.graphs[graph], bundle.int8_graphs[graph])
    sizes = (each.path.stat().st_size for each in graphs)
    return QuantizationReport(graph, min(cosines), float(np.median(ratios)), *sizes)


def _engine(bundle: Bundle, precision: str, threads: int = 0) -> OnnxRuntimeEngine:
    options = EngineOptions(threads=threads, precision=precision)
    return OnnxRuntimeEngine(bundle, options, gpu_provider="")  # no GPU


def _timed(engine: OnnxRuntimeEngine, graph: str, inputs: Arrays) -> tuple[Arrays, float]:
    start = perf_counter()
    outputs = engine.run_graph(graph, inputs)
    return outputs, perf_counter() - start


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the library's hints away: it advises steps that such graphs do not gain by."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
