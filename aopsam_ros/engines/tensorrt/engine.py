"""Running a bundle with TensorRT: the embedding stays on the GPU, only small results leave it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import DECODER, ENCODER, LABELLER, PREDICTOR, Bundle
from aopsam_ros.bundle.signatures import (
    ATTENTION,
    EXTENT_MAP,
    IOU,
    LABEL_EMBEDDING,
    LOGITS,
    MASK_INPUT,
    SEMANTIC_MAP,
    Shape,
    mask_inputs,
)
from aopsam_ros.engines.base import (
    DEFAULTS,
    EngineOptions,
    OnProgress,
    Prediction,
    half_precision,
    silent,
)
from aopsam_ros.engines.engine_cache import EngineCache
from aopsam_ros.engines.graph_engine import check_output
from aopsam_ros.engines.tensorrt.api import Precision, TensorRt
from aopsam_ros.engines.tensorrt.cuda import Device
from aopsam_ros.engines.tensorrt.graph import LARGEST_BATCH, MOST_POINTS, GraphRunner, Memory
from aopsam_ros.engines.tensorrt.plans import Plans
from aopsam_ros.errors import CudaError, InferenceError
from aopsam_ros.geometry import Sides


class TensorRtEngine:
    """Plans around one stream and buffers that are allocated once.

    An embedding's handle is the frame's number, valid until the next `encode`. Not safe for use by
    several threads at once, but any thread may call.
    """

    name = "tensorrt"
    device = "cuda"
    largest_batch: int | None = LARGEST_BATCH
    efficient_batch = 1
    concurrent = False
    keeps_embeddings = False  # the next image takes the place of the last

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
        """Load the bundle's plans; what is not in the cache is built, which takes minutes.

        Args:
            bundle: from `load_bundle`.
            options: precision "fp16" and "auto" take 16 bits for each graph whose results stay
                right.
            on_progress: called once a second while a plan is built.
            cache: of plans; the user's if None.
            trt: TensorRT; imported if None.
            gpu: the GPU; the first one if None.

        Raises:
            EngineError: if there is no TensorRT or GPU, or a plan cannot be built.
            BundleError: if a graph is missing, altered, or of another signature.
        """
        self.has_predictor = PREDICTOR in bundle.graphs
        self._bundle, self._frame, self._calls = bundle, 0, 0
        self._graphs: dict[str, GraphRunner] = {}
        self.precisions: dict[str, Precision] = {}
        # First: where there is no GPU, this fails at once.
        self._gpu = Device() if gpu is None else gpu
        self._memory = Memory(self._gpu)
        try:
            self._trt, cache = trt or TensorRt(), cache or EngineCache()
            self._plans = Plans(bundle, self._trt, self._gpu, cache, options.precision, on_progress)
            for graph in bundle.graphs:
                if graph != LABELLER:
                    self._load(graph)
        except BaseException:
            self.close()
            raise
        full = [graph for graph, p in self.precisions.items() if p is Precision.FULL]
        self.precision = half_precision(self.precisions, full)

    @property
    def num_masks(self) -> int:
        """See `Engine`."""
        return self._outputs(DECODER)[IOU][1] or 0

    @property
    def accepts_mask_input(self) -> bool:
        """See `Engine`."""
        return MASK_INPUT in self._graphs[DECODER].signature.inputs

    def encode(
        self,
        image: NDArray[np.float32],
        valid: Sides | None = None,  # noqa: ARG002  (it needs the whole square)
    ) -> int:
        """Return the frame's number, which stands for its embedding; see `Engine`."""
        self._frame += 1
        self._run(ENCODER, {"image": image})
        with _failures_named(f"{ENCODER} failed"):  # and so that its time is measured
            self._memory.stream.synchronize()
        return self._frame

    def embedding(self, handle: int) -> NDArray[np.float32]:
        """See `Engine`; `handle` is that of the last image."""
        self._check(handle)
        return self._read("embedding", self._outputs(ENCODER)["embedding"])

    def semantic_map(self, handle: int) -> NDArray[np.float32] | None:
        """See `Engine`; `handle` is that of the last image."""
        return self._read_optional(SEMANTIC_MAP, handle)

    def attention(self, handle: int) -> NDArray[np.float32] | None:
        """See `Engine`; `handle` is that of the last image."""
        return self._read_optional(ATTENTION, handle)

    def predict(self, image: NDArray[np.float32], handle: int) -> Prediction:  # noqa: ARG002
        """See `Engine`; the image is still where `encode` put it."""
        self._check(handle)
        self._run(PREDICTOR, {})
        maps = {n: self._read(n, shape)[0] for n, shape in self._outputs(PREDICTOR).items()}
        return Prediction(maps["confidence_map"][0], maps.get(EXTENT_MAP))

    def decode(
        self,
        handle: int,
        coords: NDArray[np.float32],
        labels: NDArray[np.float32],
        mask_input: NDArray[np.float32] | None = None,
    ) -> DecodedOnGpu:
        """See `Engine`; K is at most `MOST_POINTS`, and only predicted IoU leaves the GPU."""
        self._check(handle)
        count, points = np.shape(labels)
        if not (1 <= count <= LARGEST_BATCH and 1 <= points <= MOST_POINTS):
            raise InferenceError(
                f"engines take 1 to {LARGEST_BATCH} prompts of 1 to {MOST_POINTS} points, not "
                f"{count} of {points}"
            )
        masks = mask_inputs(self._graphs[DECODER].signature, mask_input, count)
        self._calls += 1
        self._run(DECODER, {"point_coords": coords, "point_labels": labels, **masks})
        return DecodedOnGpu(self, self._calls, self._read(IOU, (count, self.num_masks)))

    def embed_masks(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine`."""
        if LABELLER not in self._graphs:
            with _failures_named(f"{LABELLER} cannot be loaded"):
                self._gpu.make_current()  # for this thread
                self._load(LABELLER)
        signature = self._graphs[LABELLER].signature
        self._run(LABELLER, dict.fromkeys(signature.inputs, inputs))
        return self._read(LABEL_EMBEDDING, (len(inputs), *signature.outputs[LABEL_EMBEDDING][1:]))

    def close(self) -> None:
        """See `Engine`."""
        with contextlib.suppress(CudaError):  # it fails once the GPU has
            self._gpu.make_current()
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()
        self._memory.close()
        self._gpu.close()

    def read_logits(self, call: int, masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Copy masks of the decoder's last run, numbered prompt by prompt; see `DecodedOnGpu`.

        Raises:
            InferenceError: if another call has overwritten them, or a copy fails.
        """
        if call != self._calls:
            raise InferenceError("the masks have been overwritten by a later call of the decoder")
        side = self._outputs(DECODER)[LOGITS][-1] or 0
        logits = np.empty((len(masks), side, side), np.float32)
        with _failures_named(f"{DECODER} failed"):
            self._gpu.make_current()
            buffer = self._memory.buffers[LOGITS]
            for row, mask in zip(logits, masks.tolist(), strict=True):
                self._memory.stream.copy_out(buffer, row, mask * side * side)
            self._memory.stream.synchronize()
        return check_output(LOGITS, logits, logits.shape)

    def _load(self, graph: str) -> None:
        plan, self.precisions[graph] = self._plans.find(graph)
        self._graphs[graph] = GraphRunner(self._trt, self._bundle, graph, plan, self._memory)

    def _run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> None:
        arrays = {n: np.ascontiguousarray(a, np.float32) for n, a in inputs.items()}
        with _failures_named(f"{graph} failed"):
            self._gpu.make_current()
            self._graphs[graph].run(arrays)

    def _read(self, name: str, shape: Shape) -> NDArray[np.float32]:
        with _failures_named(f"{name} cannot be read"):
            return check_output(name, self._memory.read(name, shape), shape)

    def _read_optional(self, name: str, handle: int) -> NDArray[np.float32] | None:
        self._check(handle)
        shape = self._outputs(ENCODER).get(name)
        return None if shape is None else self._read(name, shape)

    def _outputs(self, graph: str) -> Mapping[str, Shape]:
        return self._graphs[graph].signature.outputs

    def _check(self, handle: int) -> None:
        if handle != self._frame:
            raise InferenceError("the image's embedding has been replaced by a later image's")


@dataclass(frozen=True)
class DecodedOnGpu:
    """Masks of a run of the decoder; logits stay on the GPU until the next run overwrites them."""

    engine: TensorRtEngine
    call: int
    predicted_iou: NDArray[np.float32]

    def logits(self, prompts: NDArray[np.int64], masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Decoded`."""
        return self.engine.read_logits(self.call, prompts * self.engine.num_masks + masks)


@contextlib.contextmanager
def _failures_named(what: str) -> Iterator[None]:
    try:
        yield
    except CudaError as error:
        raise InferenceError(f"{what}: {error}") from error
