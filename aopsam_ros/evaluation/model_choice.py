"""Which model is measured, and what runs it."""

from __future__ import annotations

from dataclasses import dataclass

from aopsam_ros.bundle.loading import Bundle, load_bundle
from aopsam_ros.engines.base import AUTO, Engine, EngineOptions
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.segmentation.segmenter import Segmenter


@dataclass(frozen=True)
class ModelChoice:
    """A bundle's name or folder, and the engine with its settings; see `create_engine`."""

    model: str
    engine: str = AUTO
    precision: str = AUTO
    threads: int = 0

    def load(self) -> tuple[Bundle, Engine]:
        """Load the bundle's graphs.

        Raises:
            BundleError: if the bundle is missing, malformed or altered.
            EngineError: if the engine cannot be used.
        """
        bundle = load_bundle(self.model)
        return bundle, create_engine(bundle, self._options)

    def segmenter(self, prompt_source: str) -> Segmenter:
        """Load the model for one prompt source; errors as `load`, and those of `Segmenter`."""
        return Segmenter.from_bundle(self.model, prompt_source, self._options)

    @property
    def _options(self) -> EngineOptions:
        return EngineOptions(engine=self.engine, precision=self.precision, threads=self.threads)
