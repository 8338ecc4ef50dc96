"""Distillation: an encoder learns a teacher's embeddings, as MobileSAM's did (arXiv 2306.14289)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from aopsam_ros.bundle.loading import Bundle
from aopsam_ros.training.distillation_data import EncodedBatch, Teacher, read_batch
from aopsam_ros.training.loop.trainer import Trainer, TrainingData, TrainingOptions
from aopsam_ros.training.prepared_images import EmbeddingCache, PreparedImage
from aopsam_ros.training.students import Student, make_student


class Distilled(NamedTuple):
    """The loss of a batch, and the mean cosine of its cells with the teacher's."""

    loss: Tensor
    cosine: Tensor


DistillationData = TrainingData[EncodedBatch, Distilled]


@dataclass(frozen=True)
class DistillationOptions(TrainingOptions):
    """Options of a run."""

    student: str = "nano"  # of `training.students.STUDENTS`


class DistillationTrainer(Trainer[EncodedBatch, Distilled]):
    """Trains a student on the cached embeddings of a teacher."""

    title, checkpoint = "distill", "student.pt"
    model: Student

    def __init__(
        self, options: DistillationOptions, teacher: Teacher, out: Path, start: Path | None = None
    ) -> None:
        torch.manual_seed(options.seed)
        student = make_student(options.student, teacher.bundle, start)
        super().__init__(options, student, teacher.key(), out)

    def forward(self, batch: EncodedBatch) -> Distilled:
        """Compare the student's embeddings with the teacher's."""
        found = self.model(batch.images.to(self.device))
        wanted = batch.embeddings.to(self.device).float()
        with torch.no_grad():
            cosine = F.cosine_similarity(found, wanted, dim=1).mean()
        return Distilled(F.mse_loss(found, wanted), cosine)


class HeldOutFrames:
    """Held-out images with the teacher's embeddings."""

    def __init__(
        self, images: Sequence[PreparedImage], cache: EmbeddingCache, bundle: Bundle
    ) -> None:
        self.images, self.cache, self.bundle = images, cache, bundle

    @torch.no_grad()
    def measure(self, forward: Callable[[EncodedBatch], Distilled]) -> dict[str, float]:
        """Return `held_out_loss` and `held_out_cosine`; {} without images."""
        if not self.images:
            return {}
        found = [forward(read_batch([image], self.cache, self.bundle)) for image in self.images]
        return {
            "held_out_loss": float(np.mean([one.loss.item() for one in found])),
            "held_out_cosine": float(np.mean([one.cosine.item() for one in found])),
        }
