"""An encoder in 8 bits for ONNX Runtime on a CPU, calibrated on photographs."""

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

from aopsam_ros.bundle.loading import ENCODER, Bundle, load_bundle
from aopsam_ros.engines import verification
from aopsam_ros.engines.base import FP32, INT8, EngineOptions
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
# But for the first ones, whose rounding all others inherit: in 32 bits they cost no time that could
# be measured, and `nano`'s embedding has a quarter of the error.
FULL_FIRST_CONVOLUTIONS = 3
# Far below what is useful: `nano`'s embedding still gave 99 % of its mIoU with 0.95.
LEAST_COSINE = 0.9
EncoderImage = NDArray[np.float32]  # `[1, 3, S, S]`, as the encoder takes it


@dataclass(frozen=True)
class QuantizationReport:
    """The encoder in 8 bits beside the one in 32."""

    cosine: float  # least cosine between their embeddings of an image
    time_ratio: float  # median of the time in 8 bits over that in 32
    bytes_before: int  # size of the graph in 32 bits
    bytes_after: int  # size of the graph in 8 bits


def quantize_bundle(
    bundle: Bundle, folder: Path, images: Sequence[EncoderImage], threads: int = 0
) -> QuantizationReport:
    """Write a bundle with an encoder in 8 bits beside its other graphs.

    Args:
        bundle: from `load_bundle`.
        folder: made, or the bundle in it replaced, once everything is checked; untouched before.
        images: photographs to calibrate on and to compare with, at least one.
        threads: of the comparison; 0 leaves the choice to ONNX Runtime.

    Raises:
        BundleError: if a graph is missing or altered, nothing in the encoder can be quantised, or
            the folder holds something else than a bundle.
        VerificationError: if the encoder in 8 bits is too far from the one in 32.
    """
    with new_bundle(folder, replace(bundle, int8_graphs={})) as work:
        source, target = work / bundle.graphs[ENCODER].path.name, work / f"{ENCODER}{INT8_SUFFIX}"
        write_int8(source, target, images)
        _describe(bundle, work, len(images))
        return _compare(load_bundle(work), images, threads)


def write_int8(path: Path, target: Path, images: Sequence[EncoderImage]) -> None:
    """Quantise a float32 encoder: weights by channel, activations by their averaged extremes.

    Activations are unsigned: with signed ones ONNX Runtime took twice the time. Weights have seven
    of the eight bits: x86 processors without VNNI add pairs of products in 16 bits, and would clip.

    Raises:
        BundleError: if nothing in the graph can be quantised.
    """
    model = load_graph(path)
    left_out = _in_full(model)
    if not any(n.op_type == "Conv" and n.name not in left_out for n in model.graph.node):
        raise BundleError(f"{path.name}: has no convolution that could run in 8 bits")
    # The library's paths must be UTF-8, which a bundle's need not be.
    with tempfile.TemporaryDirectory() as folder, _silent():
        named, quantised = Path(folder) / "named.onnx", Path(folder) / "quantised.onnx"
        onnx.save(model, str(named))
        quantize_static(
            str(named), str(quantised), _Reader(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(EIGHT_BITS),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(left_out),
            extra_options={"CalibMovingAverage": True},
        )  # fmt: skip
        onnx.checker.check_model(str(quantised), full_check=True)
        target.write_bytes(quantised.read_bytes())


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Photographs, one after another, as the library asks for them."""

    def __init__(self, images: Sequence[EncoderImage]) -> None:
        self._inputs = iter([{"image": image} for image in images])

    def get_next(self) -> dict[str, EncoderImage] | None:
        return next(self._inputs, None)


def _in_full(model: ModelProto) -> set[str]:
    """Name all nodes, and return what stays in 32 bits: the first layers, and norms' shifts."""
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"  # they are excluded by their names
    constants = {item.name for item in model.graph.initializer}
    constants |= {n.output[0] for n in model.graph.node if n.op_type == "Constant"}
    shifts = [n for n in model.graph.node if n.op_type == "Add" and constants & set(n.input)]
    return {node.name for node in [*_first_layers(model), *shifts]}


def _first_layers(model: ModelProto) -> list[NodeProto]:
    """Return the first convolutions with the activations that take their outputs."""
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"][:FULL_FIRST_CONVOLUTIONS]
    outputs = {output for node in convolutions for output in node.output}
    activations = [
        n for n in model.graph.node if n.op_type in ("Clip", "Relu") and n.input[0] in outputs
    ]
    return convolutions + activations


def _describe(bundle: Bundle, work: Path, photographs: int) -> None:
    """Write bundle.yaml anew: with the graph, and what it was calibrated on."""
    description = read_description(bundle)
    description["int8_graphs"] = describe_graphs(work, [f"{ENCODER}{INT8_SUFFIX}"])
    provenance = description.get("provenance")
    if isinstance(provenance, dict):  # else it is free text, and stays
        provenance[INT8] = {"calibrated_on": f"{photographs} photographs"}
    save_description(work, description)


def _compare(bundle: Bundle, images: Sequence[EncoderImage], threads: int) -> QuantizationReport:
    """Encode every image with both in turns, so that other load on the machine affects both."""
    options = (EngineOptions(threads=threads, precision=precision) for precision in (FP32, INT8))
    full, int8 = (OnnxRuntimeEngine(bundle, each, gpu_provider="") for each in options)  # no GPU
    for engine in (full, int8):
        engine.encode(images[0])  # the first run takes longer
    cosines, ratios = [], []
    for image in images:
        (expected, full_time), (actual, int8_time) = _timed(full, image), _timed(int8, image)
        found, wanted = {"embedding": actual}, {"embedding": expected}
        (match,) = verification.compare(f"{ENCODER} in {INT8}", found, wanted, LEAST_COSINE)
        cosines.append(match.cosine)
        ratios.append(int8_time / full_time)
    graphs = (bundle.graphs[ENCODER], bundle.int8_graphs[ENCODER])
    sizes = (graph.path.stat().st_size for graph in graphs)
    return QuantizationReport(min(cosines), float(np.median(ratios)), *sizes)


def _timed(engine: OnnxRuntimeEngine, image: EncoderImage) -> tuple[EncoderImage, float]:
    start = perf_counter()
    handle = engine.encode(image)
    seconds = perf_counter() - start
    return engine.embedding(handle), seconds


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the library's hints away: it advises steps that such graphs do not gain by."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
