"""The training loop of the Prompt Predictor: frozen encoder, target maps, MSE, Adam."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from aopsam_ros.errors import InputError
from aopsam_ros.models.checkpoints import load_checkpoint, save_atomically
from aopsam_ros.models.prompt_predictor import MAP_STRIDE, PromptPredictor
from aopsam_ros.training.augmentation import AS_AT_INFERENCE, AugmentationOptions, random_view
from aopsam_ros.training.batches import SegmenterBatches, WeightedDataset, normalise
from aopsam_ros.training.predictor_targets import prompt_points, spread_points
from aopsam_ros.training.provenance import describe_data, describe_machine
from aopsam_ros.training.segmenter_training import IMAGENET_MEAN, IMAGENET_STD, endless_loader

# Positive pixels are a few per mille of a map; a plain mean would make "nothing anywhere" a good
# answer.
TARGET_EMPHASIS = 8.0
UNLABELLED_WEIGHT = 0.35
CHECKPOINT_SECONDS = 120.0
VALIDATION_BATCHES = 8


@dataclass(frozen=True)
class PredictorTrainingOptions:
    """Everything that decides a run.

    Attributes:
        minutes: Training time, over all resumed parts.
        image_size: The encoder's input size, pixels.
        batch_size: Images a step.
        learning_rate: Peak of Adam's.
        smallest: Instances with fewer pixels of the view give no point.
        seed: Of weights and views.
    """

    minutes: float = 15.0
    image_size: int = 512
    batch_size: int = 8
    learning_rate: float = 2e-3
    smallest: int = 96
    seed: int = 0


class PredictorBatches(SegmenterBatches):
    """Endless random views with their target and weight maps."""

    smallest = 96

    def _sample(self, rng: np.random.Generator) -> tuple[NDArray, ...]:
        source = self.data[rng.choice(len(self.data), p=self.share)]
        labelled = source.dataset.read(source.indices[rng.integers(len(source.indices))])
        view = random_view(labelled, self.canvas, self.image_size, self.augmentation, rng)
        height, width = view.rgb.shape[:2]
        image = np.zeros((self.canvas, self.canvas, 3), np.uint8)
        image[:height, :width] = view.rgb
        labels = np.zeros((self.canvas, self.canvas), bool)
        labels[:height, :width] = view.layers.any(0)
        side = self.canvas // MAP_STRIDE
        centre = np.array([0.5, 0.5, 0.0], np.float32)  # of a pixel; a depth has none
        points = (prompt_points(view.layers, self.smallest) + centre) / MAP_STRIDE - centre
        target = spread_points(points.astype(np.float32), (side, side))
        known = labels.reshape(side, MAP_STRIDE, side, MAP_STRIDE).any((1, 3))
        return image, np.array([height, width]), target, np.asarray(known)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:  # type: ignore[override]
        info = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, info.id if info else 0])
        while True:
            samples = [self._sample(rng) for _ in range(self.batch_size)]
            yield tuple(torch.from_numpy(np.stack(c)) for c in zip(*samples, strict=True))


def predictor_loss(confidence: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Weighted MSE between confidence maps and targets.

    Args:
        confidence: `[B, 1, P, P]` in 0-1.
        target: `[B, P, P]` in 0-1.
        known: Where the data says what is there, `bool [B, P, P]`; elsewhere an object may be
            unlabelled, and a peak costs less.
    """
    weight = torch.where(known, 1.0, UNLABELLED_WEIGHT) + TARGET_EMPHASIS * target
    return (weight * (confidence.squeeze(1) - target).square()).sum() / weight.sum()


class PredictorTrainer:
    """Trains on a frozen encoder; can stop and resume at any step."""

    def __init__(
        self,
        options: PredictorTrainingOptions,
        encoder: nn.Module,
        embedding_channels: int,
        data: list[WeightedDataset],
        out: Path,
        held_out: list[WeightedDataset] | None = None,
    ) -> None:
        torch.manual_seed(options.seed)
        self.options, self.data, self.out = options, data, out
        self.held_out = held_out or []
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.encoder = encoder.to(self.device).eval().requires_grad_(False)
        self.model = PromptPredictor(embedding_channels).to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), options.learning_rate)
        self.step, self.seconds = 0, 0.0
        self.mean = torch.tensor(IMAGENET_MEAN, device=self.device)
        self.std = torch.tensor(IMAGENET_STD, device=self.device)

    def run(self) -> None:
        """Train until the time is spent; writes `predictor.pt` and `training.jsonl` into `out`."""
        self.out.mkdir(parents=True, exist_ok=True)
        budget = 60.0 * self.options.minutes
        batches = iter(self._loader())
        batch = next(batches)  # starting the loader is no training time
        saved = started = time.monotonic()
        running = None
        with tqdm(total=round(budget), unit="s", desc="train-predictor") as bar:
            while self.seconds < budget:
                loss = self._train_step(batch, self.seconds / budget)
                batch = next(batches)
                running = loss if running is None else 0.98 * running + 0.02 * loss
                now = time.monotonic()
                self.seconds, started = self.seconds + now - started, now
                bar.n = min(round(self.seconds), round(budget))
                bar.set_postfix(loss=f"{running:.4f}", step=self.step)
                if self.step % 50 == 0:
                    self._log({"loss": running})
                if now - saved > CHECKPOINT_SECONDS:
                    saved = now
                    self.save()
                    self._log(self.validate())
        self.save()
        self._log(self.validate())

    def _loader(self) -> torch.utils.data.DataLoader:
        batches = self._batches(self.data, self.options.seed + self.step, AugmentationOptions())
        return endless_loader(batches)

    def _batches(
        self, data: list[WeightedDataset], seed: int, augmentation: AugmentationOptions
    ) -> PredictorBatches:
        options = self.options
        batches = PredictorBatches(
            data, options.image_size, options.image_size, options.batch_size,
            0, 0, seed, augmentation,
        )  # fmt: skip
        batches.smallest = options.smallest
        return batches

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """`held_out_loss` on held-out photographs, always the same; {} without any."""
        if not self.held_out:
            return {}
        batches = self._batches(self.held_out, 0, AS_AT_INFERENCE)
        losses = [self._loss(b).item() for b in itertools.islice(batches, VALIDATION_BATCHES)]
        return {"held_out_loss": sum(losses) / len(losses)}

    def _train_step(self, batch: tuple[Tensor, ...], progress: float) -> float:
        rate = self.options.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        for group in self.optimizer.param_groups:
            group["lr"] = max(rate, 1e-5)
        loss = self._loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        return loss.item()

    def _loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        images, sizes, target, known = (part.to(self.device) for part in batch)
        image = normalise(images, sizes, self.mean, self.std).contiguous()
        with torch.no_grad():
            embedding = self.encoder(image.contiguous(memory_format=torch.channels_last))
        return predictor_loss(self.model(image, embedding), target, known)

    def _log(self, figures: Mapping[str, float]) -> None:
        line = {"step": self.step, "seconds": round(self.seconds, 1)}
        with (self.out / "training.jsonl").open("a") as file:
            file.write(json.dumps({**line, **figures}) + "\n")

    def save(self) -> None:
        """Write `predictor.pt`: weights, optimiser and how far the run is."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "options": asdict(self.options),
            "data": describe_data(self.data),
            "machine": describe_machine(self.device),
        }
        save_atomically(self.out / "predictor.pt", state)

    def resume(self) -> bool:
        """Continue from `predictor.pt` in `out`, if there is one.

        Raises:
            InputError: The file is damaged or belongs to another model.
        """
        file = self.out / "predictor.pt"
        if not file.is_file():
            return False
        state = load_checkpoint(file, self.device)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(f"{file}: not a checkpoint of this predictor ({error})") from error
        self.step, self.seconds = state["step"], state["seconds"]
        return True
