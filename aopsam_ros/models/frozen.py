"""A trained promptable model: what predictors are trained for, and bundles exported from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from aopsam_ros.models.export import BundleParts, ExportReport, export_bundle

EMBEDDING_STRIDE = 16  # pixels of the image to one of the embedding, in every bundle
Defaults = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class FrozenModel:
    """Encoder and decoder with fixed weights."""

    name: str  # of its bundle
    parts: BundleParts  # a predictor among them was trained along with them
    embedding_channels: int
    provenance: Mapping[str, Any]  # where its weights come from, by part

    @property
    def embedding_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an embedding."""
        side = self.parts.image_size // EMBEDDING_STRIDE
        return self.embedding_channels, side, side

    @property
    def defaults(self) -> Defaults:
        """The model's own default options, by group."""
        if self.parts.thresholds is None:
            return {}
        iou, stability = self.parts.thresholds
        mask = {"predicted_iou_threshold": iou, "stability_threshold": stability}
        return {"mask": mask, "grid": mask}

    def encoder_key(self) -> str:
        """Return a hash of all that an embedding depends on but the image."""
        return self._key([self.parts.encoder])

    def key(self) -> str:
        """Return a hash of all that a mask depends on but the image and the prompt."""
        return self._key([self.parts.encoder, self.parts.decoder])

    def _key(self, modules: list[nn.Module]) -> str:
        facts = self.parts.image_size, self.parts.mean, self.parts.std
        digest = hashlib.sha256(repr(facts).encode())
        for module in modules:
            for name, value in module.state_dict().items():
                digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def export(
        self,
        folder: Path,
        predictor: nn.Module | None = None,
        facts: Mapping[str, Any] | None = None,
        mixed: bool = False,
    ) -> ExportReport:
        """Write a bundle; see `export_bundle`.

        Args:
            folder: the bundle's.
            predictor: a Prompt Predictor trained for this model; None: the model's own, if any.
            facts: what bundle.yaml says instead of the model's own name, version, licence,
                defaults and provenance.
            mixed: also write graphs in mixed precision.

        Raises:
            BundleError: if a graph differs, or the folder holds something else than a bundle.
        """
        own = {
            "name": self.name,
            "version": "0.1.0",
            "licence": "Apache-2.0",
            "defaults": {group: dict(options) for group, options in self.defaults.items()},
            "provenance": dict(self.provenance),
        }
        parts = replace(self.parts, predictor=predictor or self.parts.predictor)
        for module in filter(None, (parts.encoder, parts.decoder, parts.predictor)):
            module.cpu()
        return export_bundle(parts, folder, {**own, **(facts or {})}, mixed)
