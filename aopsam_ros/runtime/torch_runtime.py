"""Running a bundle with torch, on a CUDA device without TensorRT or on a CPU.

The bundle's ONNX graphs are followed operator by operator: no second set of weights is needed. On
CUDA, everything but norms, sums and what depends on prompts alone runs in 16 bits, once that has
been found to give nearly the same answers. On CUDA it has not been run yet: the tests run the same
programs on the CPU, in both precisions, and CUDA graphs with a stand-in.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aopsam_ros.errors import AopsamError, EngineError, InferenceError, VerificationError
from aopsam_ros.runtime.bundle import DECODER, ENCODER, PREDICTOR, Bundle
from aopsam_ros.runtime.fitting import Sides
from aopsam_ros.runtime.signatures import Shape, check_output, signatures
from aopsam_ros.runtime.torch_engine.device import CUDA, Device, open_device
from aopsam_ros.runtime.torch_engine.graph import TorchGraph, load_graph
from aopsam_ros.runtime.torch_engine.nodes import first_line
from aopsam_ros.runtime.torch_engine.program import Program
from aopsam_ros.runtime.torch_engine.recording import Weights, record
from aopsam_ros.runtime.verification import answers, check, sample_inputs

AUTO, FP32, FP16 = "auto", "fp32", "fp16"
MOST_PROGRAMS = 32  # of a graph; one is made for every number of prompts and points

_LOGGER = logging.getLogger(__name__)


class TorchRuntime:
    """Three graphs that share an embedding, which stays on the device.

    Not safe for use by several threads at once.
    """

    name = "torch"
    largest_batch: int | None = None
    concurrent = False

    def __init__(
        self,
        bundle: Bundle,
        threads: int = 0,
        precision: str = AUTO,
        device: str | None = None,
    ) -> None:
        """Load and check the bundle's graphs, and try them once.

        Args:
            bundle: from `load_bundle`.
            threads: of one operator on a CPU; 0 leaves the choice to torch.
            precision: "fp32"; "fp16", which falls back to fp32 where its answers differ too much;
                "auto" for fp16 on CUDA and fp32 on a CPU.
            device: as torch calls it; None for CUDA where there is a device, else the CPU.

        Raises:
            EngineError: if the device, the precision or the onnx package cannot be had.
            BundleError: if a graph is missing, altered, not ONNX, of another signature, or has
                operators that this engine does not know.
        """
        if precision not in (AUTO, FP32, FP16):
            raise EngineError(f"unknown precision '{precision}'; known: {AUTO}, {FP32}, {FP16}")
        self._device = open_device(device, threads)
        self._signatures = signatures(bundle)
        graphs = {
            name: load_graph(graph.read(), str(graph.path), self._signatures[name])
            for name, graph in bundle.graphs.items()
        }
        self._executors = {n: _Executor(graph, self._device) for n, graph in graphs.items()}
        self._precision = FP32
        if precision == FP16 or (precision == AUTO and self.device == CUDA):
            self._try_half(bundle, graphs)
        else:
            self._try(bundle)

    @property
    def device(self) -> str:
        """Return "cpu" or "cuda"."""
        return self._device.kind

    @property
    def precision(self) -> str:
        """Return "fp32" or "fp16"."""
        return self._precision

    @property
    def has_predictor(self) -> bool:
        """Return whether the bundle came with a prompt predictor."""
        return PREDICTOR in self._executors

    def encode(
        self,
        image: NDArray[np.float32],
        valid: Sides | None = None,  # noqa: ARG002  (it needs the whole square)
    ) -> Any:  # noqa: ANN401  (the engine's own type)
        """Encode an image `[1, 3, S, S]`; the embedding returned is opaque and on the device.

        Raises:
            InferenceError: if the graph fails.
        """
        return self._run(ENCODER, {"image": image})[0]

    def embedding(self, handle: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return an embedding on the host, float32 `[1, C, S', S']`, checked.

        Raises:
            InferenceError: if it has another shape or values that are not finite.
        """
        (array,) = self._to_host(ENCODER, [handle], is_kept=True)
        return check_output("embedding", array, self._signatures[ENCODER].outputs["embedding"])

    def predict(self, image: NDArray[np.float32], handle: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """Return the prompt confidence map, float32 `[P, P]`.

        Raises:
            InferenceError: if the graph fails or its output is not what it must be.
        """
        (confidence,) = self._answer(PREDICTOR, {"image": image, "embedding": handle})
        return np.asarray(confidence[0, 0])

    def decode(
        self,
        handle: Any,  # noqa: ANN401
        coords: NDArray[np.float32],
        labels: NDArray[np.float32],
    ) -> DecodedInTorch:
        """Decode N prompts of K points; only predicted IoU is copied to the host.

        Args:
            handle: from `encode`.
            coords: `[N, K, 2]` in pixels of the padded square.
            labels: `[N, K]`.

        Raises:
            InferenceError: if the graph fails or its output is not what it must be.
        """
        inputs = {"embedding": handle, "point_coords": coords, "point_labels": labels}
        logits, iou = self._run(DECODER, inputs)
        if not len(logits) == len(iou) == len(coords):
            raise InferenceError(f"{DECODER} gave {len(logits)} results for {len(coords)} prompts")
        (predicted,) = self._to_host(DECODER, [iou])
        wanted = self._signatures[DECODER].outputs["predicted_iou"]
        return DecodedInTorch(self, logits, check_output("predicted_iou", predicted, wanted))

    def read_logits(
        self, logits: Tensor, prompts: NDArray[np.int64], masks: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Bring some masks' logits to the host; see `DecodedInTorch`."""
        with self._device.active():
            places = (torch.from_numpy(np.asarray(i)).to(logits.device) for i in (prompts, masks))
            chosen = logits[tuple(places)]
        (found,) = self._to_host(DECODER, [chosen])
        side = self._signatures[DECODER].outputs["low_res_logits"][-1]
        return check_output("low_res_logits", found, (None, side, side))

    def close(self) -> None:
        """Free the graphs; the object cannot be used afterwards."""
        self._executors.clear()
        self._device.release()

    def _run(self, graph: str, inputs: dict[str, Any]) -> list[Tensor]:
        """Run a graph; arrays are brought to the device, embeddings are there."""
        executor = self._executors.get(graph)
        if executor is None:
            raise InferenceError(f"{graph} failed in torch: it is not loaded, or closed")
        wanted = self._signatures[graph].inputs
        try:
            with self._device.active():
                tensors = [self._input(graph, n, inputs[n], shape) for n, shape in wanted.items()]
                return executor.run(tensors)
        except AopsamError:
            raise
        except Exception as error:
            raise _failure(graph, first_line(error)) from error

    def _input(self, graph: str, name: str, value: Any, wanted: Shape) -> Tensor:  # noqa: ANN401
        sizes = list(np.shape(value)) if not isinstance(value, Tensor) else list(value.shape)
        if len(sizes) != len(wanted) or any(
            size not in (None, found) for size, found in zip(wanted, sizes, strict=True)
        ):
            raise _failure(graph, f"{name} has shape {sizes}, expected {list(wanted)}")
        return value if isinstance(value, Tensor) else self._device.upload(value)

    def _answer(self, graph: str, inputs: dict[str, Any]) -> list[NDArray[np.float32]]:
        """Run a graph and bring its outputs to the host, checked."""
        arrays = self._to_host(graph, self._run(graph, inputs))
        wanted = self._signatures[graph].outputs
        return [
            check_output(name, array, shape)
            for array, (name, shape) in zip(arrays, wanted.items(), strict=True)
        ]

    def _to_host(
        self, graph: str, values: list[Tensor], is_kept: bool = False
    ) -> list[NDArray[np.float32]]:
        """Copy a graph's outputs; what is kept on the device does not become the caller's."""
        try:
            with self._device.active():
                owned = [value.clone() for value in values] if is_kept else values
                return self._device.download(owned)
        except Exception as error:  # a CUDA device tells now what went wrong before
            raise _failure(graph, first_line(error)) from error

    def _try(self, bundle: Bundle) -> None:
        """Run every graph once: what cannot be run is said now, and the first frame is fast."""
        samples = sample_inputs(bundle)
        samples[DECODER] = samples[DECODER][:1]
        try:
            answers(self, samples)
        except InferenceError as error:
            _LOGGER.warning("a trial of the model in torch failed: %s", error)

    def _try_half(self, bundle: Bundle, graphs: dict[str, TorchGraph]) -> None:
        """Switch to 16 bits, and back to 32 if the answers differ."""
        samples = sample_inputs(bundle)
        full = self._executors
        try:
            wanted = answers(self, samples)
            self._executors = {
                name: _Executor(graph, self._device, half=True) for name, graph in graphs.items()
            }
            check(f"{bundle.name} in {FP16}", answers(self, samples), wanted)
            self._precision = FP16
        except (InferenceError, VerificationError) as error:
            self._executors = full
            _LOGGER.warning("torch computes in fp32, because fp16 was found wrong: %s", error)
        del full
        self._device.release()


class DecodedInTorch:
    """Masks of a decoder call, whose logits stay on the device until somebody wants them."""

    def __init__(
        self, runtime: TorchRuntime, logits: Tensor, predicted_iou: NDArray[np.float32]
    ) -> None:
        """Remember the logits, `[N, 3, M, M]` on the device."""
        self.predicted_iou = predicted_iou
        self._runtime, self._logits = runtime, logits

    def logits(self, prompts: NDArray[np.int64], masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits `[n, M, M]`; see `Decoded`.

        Raises:
            InferenceError: if they are not what they must be, or the device fails.
        """
        return self._runtime.read_logits(self._logits, prompts, masks)


class _Executor:
    """One graph on a device, in one precision, with a program for every shape of its inputs."""

    def __init__(self, graph: TorchGraph, device: Device, half: bool = False) -> None:
        self._graph = graph
        self._device = device
        self._half = half
        self._weights = Weights(graph.body.constants, device.place)
        self._programs: OrderedDict[tuple[Any, ...], Program] = OrderedDict()

    def run(self, inputs: list[Tensor]) -> list[Tensor]:
        shapes = tuple(tuple(value.shape) for value in inputs)
        program = self._programs.get(shapes)
        if program is None:
            named = dict(zip(self._graph.inputs, inputs, strict=True))
            program, outputs = record(self._graph, self._weights, named, self._half)
            self._programs[shapes] = program
            if len(self._programs) > MOST_PROGRAMS:
                self._programs.popitem(last=False)
            return outputs
        self._programs.move_to_end(shapes)
        return self._device.run((id(self._graph), shapes), program.run, inputs)


def _failure(graph: str, reason: str) -> InferenceError:
    return InferenceError(f"{graph} failed in torch: {reason}")
