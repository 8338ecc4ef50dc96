"""Training the Prompt Predictor: frozen encoder, target maps, MSE, Adam."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from aopsam_ros.models.frozen import FrozenModel
from aopsam_ros.models.prompt_predictor import EXTENT_UNIT, PromptPredictor
from aopsam_ros.training.batches import normalise
from aopsam_ros.training.loop.loader import to_device
from aopsam_ros.training.loop.trainer import TimedTrainer, TrainingData
from aopsam_ros.training.losses import confidence_loss, extent_iou, extent_loss
from aopsam_ros.training.options import PredictorTrainingOptions
from aopsam_ros.training.predictor_batches import PredictorBatch
from aopsam_ros.training.predictor_validation import Predicted

EXTENT_WEIGHT = 0.1  # beside the confidence map's loss


class PredictorTrainer(TimedTrainer):
    """Trains on a frozen model's embeddings."""

    title, checkpoint = "train-predictor", "predictor.pt"
    model: PromptPredictor

    def __init__(self, options: PredictorTrainingOptions, frozen: FrozenModel, out: Path) -> None:
        torch.manual_seed(options.seed)
        model = PromptPredictor(frozen.embedding_channels)
        super().__init__(options, model, frozen.encoder_key(), out)
        self.encoder = frozen.parts.encoder.eval().requires_grad_(False)
        self.mean = torch.tensor(frozen.parts.mean, device=self.device)
        self.std = torch.tensor(frozen.parts.std, device=self.device)

    def train(self, data: TrainingData) -> Mapping[str, float]:
        """See `TimedTrainer`."""
        self.encoder.to(self.device)  # an export may have moved it
        return super().train(data)

    def forward(self, batch: PredictorBatch) -> Predicted:
        """Return the maps of a batch, and their loss."""
        batch, model = to_device(batch, self.device), self.model
        targets, extents, weights = batch.targets, batch.extents, batch.extent_weights
        image = normalise(batch.images, batch.sizes, self.mean, self.std).contiguous()
        trunk, log_extents = model.coarse(self._embedding(image, batch.embeddings))
        confidence = torch.sigmoid(model.logits(image, trunk))
        loss = confidence_loss(confidence, targets, batch.known)
        loss = loss + EXTENT_WEIGHT * extent_loss(log_extents, extents, weights, EXTENT_UNIT)
        with torch.no_grad():
            overlap = extent_iou(EXTENT_UNIT * log_extents.exp(), extents)
            mean_overlap = (overlap * weights).sum() / weights.sum().clamp(min=1e-6)
        return Predicted(confidence, loss, mean_overlap)

    @torch.no_grad()
    def _embedding(self, image: Tensor, cached: Tensor | None) -> Tensor:
        if cached is not None:
            return cached.float()
        encoded = self.encoder(image.contiguous(memory_format=torch.channels_last))
        return encoded[0] if isinstance(encoded, tuple) else encoded
