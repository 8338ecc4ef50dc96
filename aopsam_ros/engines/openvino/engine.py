"""Running a bundle with OpenVINO on a CPU.

Where the processor gains by bf16 (AMX), so does the engine, once that has been found to give nearly
the same results; coordinates of prompts stay in 32 bits.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import DECODER, ENCODER, FRAME_PART, PREDICTOR, Bundle
from aopsam_ros.bundle.signatures import Shapes
from aopsam_ros.engines.base import DEFAULTS, FP16, FP32, EngineOptions
from aopsam_ros.engines.engine import Engine
from aopsam_ros.engines.openvino.api import BF16, OpenVino, reason
from aopsam_ros.engines.openvino.graph import (
    CompiledGraph,
    SizedGraph,
    describe_ports,
    read_model,
    reshape,
)
from aopsam_ros.engines.verification import answers, compare, sample_inputs
from aopsam_ros.errors import EngineError, InferenceError, VerificationError
from aopsam_ros.geometry import ContentArea

_TAKE_IMAGES = (ENCODER, PREDICTOR, FRAME_PART)

_LOGGER = logging.getLogger(__name__)


class OpenVinoEngine(Engine):
    """Graphs that share an embedding, which stays where the encoder wrote it.

    Graphs are compiled for the sizes of images that come, which takes half a second the first time.
    Not safe for use by several threads at once.
    """

    name = "openvino"
    device = "cpu"
    concurrent = False
    _drops_unused = True

    def __init__(
        self, bundle: Bundle, options: EngineOptions = DEFAULTS, *, openvino: OpenVino | None = None
    ) -> None:
        """Load and check the bundle's graphs.

        Args:
            bundle: from `load_bundle`.
            options: precision "fp16" takes 16 bits (bf16) where the processor has them, "auto"
                where they are faster; both only where results stay right.
            openvino: the package and its core; imported if None.

        Raises:
            EngineError: if OpenVINO is missing, too old, cannot be used or cannot load a graph.
            BundleError: if a graph is missing, altered, or of another signature.
        """
        super().__init__(bundle)
        self._openvino = OpenVino(options.threads) if openvino is None else openvino
        self.precision = FP32
        self._load(self._needed(in_parts=True))
        if self._openvino.precision(options.precision) == BF16:
            self._try_bf16()
        elif options.precision == FP16:
            _LOGGER.warning("openvino computes in %s, this processor has no %s", FP32, BF16)

    def _load(self, names: Iterable[str]) -> None:
        # In 32 bits, also later: what was not there when 16 were verified.
        models = {name: self._read(name) for name in names}
        inputs = {name: describe_ports(model.inputs) for name, model in models.items()}
        outputs = {name: describe_ports(model.outputs) for name, model in models.items()}
        self._check(inputs, outputs)
        self._graphs |= {name: self._compiled(name, model, FP32) for name, model in models.items()}

    def _read(self, name: str) -> Any:  # noqa: ANN401
        file = self._files[name]
        return read_model(self._openvino, file.read(), str(file.path))

    def _compiled(self, name: str, model: Any, precision: str) -> CompiledGraph | SizedGraph:  # noqa: ANN401
        """Compile a model for the square; other sizes follow where it takes an image.

        Raises:
            EngineError: if OpenVINO cannot.
            VerificationError: if it does not compute in "bf16" on this processor.
        """
        side, embedding = self._bundle.image_size, self._bundle.embedding_shape
        sizes: Shapes = {"image": (1, 3, side, side), "embedding": embedding}
        try:
            if name in _TAKE_IMAGES:
                return SizedGraph(self._openvino, model, precision, sizes)
            if name == DECODER:
                reshape(self._openvino, model, {"embedding": embedding})
            return CompiledGraph(self._openvino, model, precision)
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot compile the model: {reason(error)}") from error

    def _try_bf16(self) -> None:
        """Switch to 16 bits, and back to 32 if the results differ."""
        full, samples, with_masks = self._graphs, sample_inputs(self._bundle), self._split is None
        try:
            wanted = answers(self, samples, with_masks)
            self._graphs = {n: self._compiled(n, self._read(n), BF16) for n in full}
            self.precision = BF16
            compare(f"{self._bundle.name} in {BF16}", answers(self, samples, with_masks), wanted)
        except (EngineError, InferenceError, VerificationError) as error:
            self._graphs, self.precision = full, FP32
            _LOGGER.warning("openvino computes in fp32, because bf16 was found wrong: %s", error)

    def _prepare(self, area: ContentArea) -> None:
        """Compile whatever takes an image for its sizes: one frame pays for all."""
        embedding = *self._bundle.embedding_shape[:2], *area.in_map(self._bundle.embedding_shape[2])
        sizes = {"image": (1, 3, area.rows, area.columns), "embedding": embedding}
        for name, graph in self._graphs.items():
            if isinstance(graph, SizedGraph):
                with _failures_named(name):
                    graph.prepare(sizes)

    def _run(self, graph: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        loaded = self._loaded(graph)
        with _failures_named(graph):
            return loaded.run(inputs)

    def _to_host(self, value: NDArray[np.float32]) -> NDArray[np.float32]:
        return value


@contextmanager
def _failures_named(graph: str) -> Iterator[None]:
    """Turn whatever OpenVINO raises into one line that names the graph."""
    try:
        yield
    except Exception as error:
        raise InferenceError(f"{graph} failed in OpenVINO: {reason(error)}") from error
