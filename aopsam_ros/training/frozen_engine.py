"""A frozen model in an engine, which runs it several times as fast on a CPU as torch."""

from __future__ import annotations

import functools
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import Bundle, load_bundle
from aopsam_ros.engines.base import FP32, EngineOptions
from aopsam_ros.engines.engine import Engine
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.geometry import preprocess
from aopsam_ros.models.frozen import FrozenModel
from aopsam_ros.segmentation.segmenter import Segmenter


class FrozenEngine:
    """A frozen model, exported to a temporary bundle and loaded when it is first needed.

    It computes in 32 bits, so that embeddings are the model's own on every machine. The bundle is
    made in the folder `parent`; of `threads`, on a CPU, 0 leaves the choice to the engine.
    """

    def __init__(self, model: FrozenModel, parent: Path, threads: int) -> None:
        self.model, self._parent, self._threads = model, parent, threads
        self._stack = ExitStack()

    def __enter__(self) -> FrozenEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @functools.cached_property
    def _loaded(self) -> tuple[Bundle, Engine]:
        print("exporting the frozen model, to run it fast", file=sys.stderr)
        self._parent.mkdir(parents=True, exist_ok=True)
        folder = self._stack.enter_context(TemporaryDirectory(prefix="frozen-", dir=self._parent))
        self.model.export(Path(folder) / "bundle")
        bundle = load_bundle(Path(folder) / "bundle")
        engine = create_engine(bundle, EngineOptions(precision=FP32, threads=self._threads))
        self._stack.callback(engine.close)
        return bundle, engine

    def embed(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode an image `[H, W, 3]`; return its embedding `(C, h, w)`."""
        return embed(*self._loaded, rgb)

    def segmenter(self, prompt_source: str) -> Segmenter:
        """Return a segmenter with a prompt source that needs no predictor."""
        return Segmenter(*self._loaded, prompt_source)


def embed(bundle: Bundle, engine: Engine, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Encode an image `[H, W, 3]`; return its embedding `(C, h, w)`."""
    image = preprocess(rgb, bundle.image_size, bundle.mean, bundle.std, bundle.resize)
    return np.asarray(engine.embedding(engine.encode(image.tensor))[0])
