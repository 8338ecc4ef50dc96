"""Running a bundle with TensorRT: the embedding stays on the GPU, only small results leave it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import DECODER, ENCODER, Bundle
from aopsam_ros.bundle.signatures import IOU, LOGITS, Shapes, Signature
from aopsam_ros.engines.base import (
    DEFAULTS,
    Decoded,
    EngineOptions,
    OnProgress,
    half_precision,
    silent,
)
from aopsam_ros.engines.engine import EncodedImage, Engine, check_output
from aopsam_ros.engines.engine_cache import EngineCache
from aopsam_ros.engines.tensorrt.api import Precision, TensorRt
from aopsam_ros.engines.tensorrt.cuda import Device, Memory
from aopsam_ros.engines.tensorrt.graph import LARGEST_BATCH, MOST_POINTS, GraphRunner
from aopsam_ros.engines.tensorrt.plans import Plans
from aopsam_ros.errors import CudaError, InferenceError


class TensorRtEngine(Engine):
    """Plans around one stream and buffers that are allocated once.

    An embedding's handle is valid until the next `encode`. Not safe for use by several threads at
    once, but any thread may call.
    """

    name = "tensorrt"
    device = "cuda"
    largest_batch = LARGEST_BATCH
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
        super().__init__(bundle)
        self._runs = 0
        self._latest: dict[str, int] = {}  # the run that wrote what is in each buffer
        self.precisions: dict[str, Precision] = {}
        # First: where there is no GPU, this fails at once.
        self._gpu = Device() if gpu is None else gpu
        self._memory = Memory(self._gpu)
        try:
            self._trt, cache = trt or TensorRt(), cache or EngineCache()
            self._plans = Plans(bundle, self._trt, self._gpu, cache, options.precision, on_progress)
            self._load(self._needed(in_parts=False))
        except BaseException:
            self.close()
            raise
        full = [graph for graph, p in self.precisions.items() if p is Precision.FULL]
        self.precision = half_precision(self.precisions, full)

    def decode(
        self,
        handle: EncodedImage,
        coords: NDArray[np.float32],
        labels: NDArray[np.float32],
        mask_input: NDArray[np.float32] | None = None,
    ) -> Decoded:
        """See `Engine`; K is at most `MOST_POINTS`, and only predicted IoU leaves the GPU."""
        count, points = np.shape(labels)
        if not (1 <= count <= LARGEST_BATCH and 1 <= points <= MOST_POINTS):
            raise InferenceError(
                f"engines take 1 to {LARGEST_BATCH} prompts of 1 to {MOST_POINTS} points, not "
                f"{count} of {points}"
            )
        return super().decode(handle, coords, labels, mask_input)

    def close(self) -> None:
        """See `Engine`."""
        with contextlib.suppress(CudaError):  # it fails once the GPU has
            self._gpu.make_current()
        for graph in self._graphs.values():
            graph.close()
        super().close()
        self._latest.clear()
        self._memory.close()
        self._gpu.close()

    def read_masks(self, logits: OnGpu, masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Copy masks of the decoder's last run, numbered prompt by prompt.

        Raises:
            InferenceError: if another call has overwritten them, or a copy fails.
        """
        self._check_current(logits)
        found = np.empty((len(masks), *logits.shape[2:]), np.float32)
        with _failures_named(f"{DECODER} failed"):
            self._gpu.make_current()
            for row, mask in zip(found, masks.tolist(), strict=True):
                self._memory.copy_out(LOGITS, row, mask * row.size)
            self._memory.synchronize()
        return check_output(LOGITS, found, found.shape)

    def _load(self, names: Iterable[str]) -> None:
        self._gpu.make_current()  # for this thread
        for name in names:
            plan, self.precisions[name] = self._plans.find(name)
            runner = GraphRunner(self._trt, self._bundle, name, plan, self._memory)
            self._graphs[name], self._signatures[name] = runner, runner.signature

    def _signature(self, graph: str) -> Signature:
        with _failures_named(f"{graph} cannot be loaded"):
            return super()._signature(graph)

    def _run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        arrays = {}
        for name, value in inputs.items():
            if isinstance(value, OnGpu):
                self._check_current(value)  # graphs share it: it is where this one reads it
            else:
                arrays[name] = np.ascontiguousarray(value, np.float32)
        loaded = self._loaded(graph)
        self._runs += 1  # before it runs: one that fails overwrites, too
        self._latest |= dict.fromkeys([*arrays, *loaded.signature.outputs], self._runs)
        with _failures_named(f"{graph} failed"):
            self._gpu.make_current()
            written = loaded.run(arrays)
            if graph == ENCODER:  # so that its time is measured
                self._memory.synchronize()
        return {name: OnGpu(name, shape, self._runs) for name, shape in written.items()}

    def _to_host(self, value: OnGpu) -> NDArray[np.float32]:
        self._check_current(value)
        with _failures_named(f"{value.name} cannot be read"):
            self._gpu.make_current()
            return self._memory.read(value.name, value.shape)

    def _decoded(self, found: Mapping[str, Any], sizes: Shapes) -> DecodedOnGpu:
        return DecodedOnGpu(self, found[LOGITS], self._checked(found, {IOU: sizes[IOU]})[IOU])

    def _check_current(self, value: OnGpu) -> None:
        if self._latest.get(value.name) != value.run:
            raise InferenceError(
                f"{value.name} has been overwritten by a later call, or the engine is closed"
            )


class OnGpu(NamedTuple):
    """What a graph took or gave, on the GPU until another run overwrites it."""

    name: str
    shape: tuple[int, ...]
    run: int  # its number, of all runs


@dataclass(frozen=True)
class DecodedOnGpu:
    """Masks of a run of the decoder; logits stay on the GPU until the next run overwrites them."""

    engine: TensorRtEngine
    all_logits: OnGpu
    predicted_iou: NDArray[np.float32]

    def logits(self, prompts: NDArray[np.int64], masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Decoded`."""
        return self.engine.read_masks(self.all_logits, prompts * self.all_logits.shape[1] + masks)


@contextlib.contextmanager
def _failures_named(what: str) -> Iterator[None]:
    try:
        yield
    except CudaError as error:
        raise InferenceError(f"{what}: {error}") from error
