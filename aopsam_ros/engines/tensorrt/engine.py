"""Running a bundle with TensorRT: the embedding stays on the GPU, only small results leave it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import DECODER, ENCODER, PREDICTOR, Bundle
from aopsam_ros.bundle.signatures import MASKS, check_output, signatures
from aopsam_ros.engines.base import DEFAULTS, EngineOptions, OnProgress, silent
from aopsam_ros.engines.engine_cache import EngineCache
from aopsam_ros.engines.fitting import Sides
from aopsam_ros.engines.tensorrt.api import Precision, TensorRt
from aopsam_ros.engines.tensorrt.cuda import Device
from aopsam_ros.engines.tensorrt.graph import LARGEST_BATCH, MOST_POINTS, GraphRunner, Memory
from aopsam_ros.engines.tensorrt.plans import Plans
from aopsam_ros.errors import CudaError, InferenceError


class TensorRtEngine:
    """Three engines around one stream and buffers that are allocated once.

    An embedding's handle is valid until the next `encode`. Not safe for use by several threads at
    once, but any thread may call.
    """

    name = "tensorrt"
    device = "cuda"
    largest_batch: int | None = LARGEST_BATCH
    concurrent = False

    def __init__(
        self,
        bundle: Bundle,
        options: EngineOptions = DEFAULTS,
        on_progress: OnProgress = silent,
        *,
        cache: EngineCache | None = None,
        trt: TensorRt | None = None,
        gpu: Device | None = None,
    ) -> None:
        """Load the bundle's engines; what is not in the cache is built, which takes minutes.

        Args:
            bundle: from `load_bundle`.
            options: precision "fp16" and "auto" take 16 bits for each graph whose results stay
                right.
            on_progress: told once a second while an engine is built.
            cache: of engines; the user's if None.
            trt: TensorRT; imported if None.
            gpu: the GPU; the first one if None.

        Raises:
            EngineError: if there is no TensorRT or GPU, or an engine cannot be built.
            BundleError: if a graph is missing, altered, or of another signature.
        """
        self._signatures = signatures(bundle)
        self._low_size = bundle.low_res_mask_size
        self._frame = self._calls = 0
        self._engines: dict[str, GraphRunner] = {}
        self.precisions: dict[str, Precision] = {}
        # First: where there is no GPU, this fails at once.
        self._gpu = Device() if gpu is None else gpu
        self._memory = Memory(self._gpu)
        try:
            trt = trt or TensorRt()
            cache = cache or EngineCache()
            plans = Plans(bundle, trt, self._gpu, cache, options.precision, on_progress)
            self._load(bundle, trt, plans)
        except BaseException:
            self.close()
            raise

    def _load(self, bundle: Bundle, trt: TensorRt, plans: Plans) -> None:
        for graph, signature in self._signatures.items():
            if graph in bundle.graphs:
                plan, self.precisions[graph] = plans.find(graph)
                self._engines[graph] = GraphRunner(trt, graph, plan, signature, self._memory)

    @property
    def precision(self) -> str:
        """Return "fp16", "fp32", or "fp16 but" the graphs in 32 bits."""
        full = [graph for graph, p in self.precisions.items() if p is Precision.FULL]
        if not full:
            return "fp16"
        return "fp32" if len(full) == len(self.precisions) else f"fp16 but {', '.join(full)}"

    @property
    def has_predictor(self) -> bool:
        """Return whether the bundle came with a prompt predictor."""
        return PREDICTOR in self._engines

    def encode(
        self,
        image: NDArray[np.float32],
        valid: Sides | None = None,  # noqa: ARG002  (it needs the whole square)
    ) -> int:
        """Encode an image `[1, 3, S, S]`.

        Returns:
            The frame's number, which stands for its embedding.

        Raises:
            InferenceError: if the graph fails.
        """
        self._frame += 1
        self._run(ENCODER, {"image": image})
        self._wait(ENCODER)  # a failure is the encoder's, and so is the time
        return self._frame

    def embedding(self, handle: int) -> NDArray[np.float32]:
        """Return an embedding on the host, float32 `[1, C, S', S']`, checked.

        Raises:
            InferenceError: if it is not that of the last image, or not finite.
        """
        self._check(handle)
        shape = self._signatures[ENCODER].outputs["embedding"]
        return check_output("embedding", self._read("embedding", shape), shape)

    def predict(self, image: NDArray[np.float32], handle: int) -> NDArray[np.float32]:  # noqa: ARG002
        """Return the prompt confidence map of the last image, float32 `[P, P]`.

        The image is still where `encode` put it.

        Raises:
            InferenceError: if the graph fails or its output is not what it must be.
        """
        self._check(handle)
        self._run(PREDICTOR, {})
        shape = self._signatures[PREDICTOR].outputs["confidence_map"]
        found = check_output("confidence_map", self._read("confidence_map", shape), shape)
        return np.asarray(found[0, 0])

    def decode(
        self, handle: int, coords: NDArray[np.float32], labels: NDArray[np.float32]
    ) -> DecodedOnGpu:
        """Decode N prompts of K points; only predicted IoU is copied to the host.

        Args:
            handle: from the last `encode`.
            coords: `[N, K, 2]` in pixels of the padded square; N at most `largest_batch`.
            labels: `[N, K]`.

        Raises:
            InferenceError: if the graph fails, its output is not what it must be, or there are too
                many prompts or points.
        """
        self._check(handle)
        count, points = np.shape(labels)
        if not (1 <= count <= LARGEST_BATCH and 1 <= points <= MOST_POINTS):
            raise InferenceError(
                f"engines take 1 to {LARGEST_BATCH} prompts of 1 to {MOST_POINTS} points, not "
                f"{count} of {points}"
            )
        self._calls += 1
        self._run(DECODER, {"point_coords": coords, "point_labels": labels})
        shape = (count, MASKS)
        iou = check_output("predicted_iou", self._read("predicted_iou", shape), shape)
        return DecodedOnGpu(self, self._calls, iou)

    def close(self) -> None:
        """Free the engines and the GPU's memory; the object cannot be used afterwards."""
        with contextlib.suppress(CudaError):  # it fails once the GPU has
            self._gpu.make_current()
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()
        self._memory.close()
        self._gpu.close()

    def read_logits(self, call: int, masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Copy masks of the last decoder call, numbered prompt by prompt; see `DecodedOnGpu`."""
        if call != self._calls:
            raise InferenceError("the masks have been overwritten by a later call of the decoder")
        side = self._low_size
        logits = np.empty((len(masks), side, side), np.float32)
        try:
            self._gpu.make_current()
            buffer = self._memory.buffers["low_res_logits"]
            for row, mask in zip(logits, masks.tolist(), strict=True):
                self._memory.stream.copy_out(buffer, row, mask * side * side)
            self._memory.stream.synchronize()
        except CudaError as error:
            raise InferenceError(f"{DECODER} failed: {error}") from error
        return check_output("low_res_logits", logits, (None, side, side))

    def _run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> None:
        arrays = {n: np.ascontiguousarray(a, np.float32) for n, a in inputs.items()}
        try:
            self._gpu.make_current()
            self._engines[graph].run(arrays)
        except CudaError as error:
            raise InferenceError(f"{graph} failed: {error}") from error

    def _wait(self, graph: str) -> None:
        try:
            self._memory.stream.synchronize()
        except CudaError as error:
            raise InferenceError(f"{graph} failed: {error}") from error

    def _read(self, name: str, shape: Any) -> NDArray[np.float32]:  # noqa: ANN401
        try:
            return self._memory.read(name, shape)
        except CudaError as error:
            raise InferenceError(f"{name} cannot be read: {error}") from error

    def _check(self, handle: int) -> None:
        if handle != self._frame:
            raise InferenceError("the image's embedding has been replaced by a later image's")


class DecodedOnGpu:
    """Masks of the last decoder call; their logits stay on the GPU until somebody wants them."""

    def __init__(
        self, runtime: TensorRtEngine, call: int, predicted_iou: NDArray[np.float32]
    ) -> None:
        """Remember which call it was."""
        self.predicted_iou = predicted_iou
        self._runtime, self._call = runtime, call

    def logits(self, prompts: NDArray[np.int64], masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits `[n, M, M]`; see `Decoded`.

        Raises:
            InferenceError: if another call has overwritten them, or a copy fails.
        """
        return self._runtime.read_logits(self._call, prompts * MASKS + masks)
