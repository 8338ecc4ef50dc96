"""The training loop of `nano`: a SAM-shaped segmenter on two CPU cores or a GPU."""

from __future__ import annotations

import copy
import itertools
import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from aopsam_ros.errors import DatasetError, InputError, OptionError
from aopsam_ros.models.checkpoints import load_checkpoint, save_atomically
from aopsam_ros.models.loading import load_encoder
from aopsam_ros.models.mobilenet_v2 import load_imagenet
from aopsam_ros.models.nano import NanoSegmenter
from aopsam_ros.training.augmentation import AS_AT_INFERENCE
from aopsam_ros.training.batches import Batch, SegmenterBatches, WeightedDataset, normalise
from aopsam_ros.training.loader import endless_batches
from aopsam_ros.training.losses import low_resolution_iou, segmenter_loss
from aopsam_ros.training.provenance import describe_data, describe_machine

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
COARSEST_STRIDE = 32  # of the backbone's last features
CHECKPOINT_SECONDS = 180.0
VALIDATION_SECONDS = 600.0
VALIDATION_BATCHES = 8


@dataclass(frozen=True)
class SegmenterTrainingOptions:
    """Everything that decides a run.

    Attributes:
        minutes: Training time, over all resumed parts; the learning rate follows it.
        image_size: The encoder's input size at inference, pixels.
        canvas: Size of the training crops; smaller is faster.
        full_share: Last share of the time that trains at `image_size` instead.
        batch_size: Images a step.
        points: Point prompts an image.
        boxes: Box prompts an image.
        learning_rate: Peak, of the parts that start from nothing.
        backbone_rate: Peak, of the pretrained backbone.
        frozen_blocks: How many of the backbone's 18 blocks stay as pretrained.
        seed: Of weights, views and prompts.
    """

    minutes: float = 60.0
    image_size: int = 512
    canvas: int = 384
    full_share: float = 0.35
    batch_size: int = 8
    points: int = 12
    boxes: int = 3
    learning_rate: float = 1.2e-3
    backbone_rate: float = 2.5e-4
    frozen_blocks: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = (self.image_size, self.canvas)
        if any(size < COARSEST_STRIDE or size % COARSEST_STRIDE for size in sizes):
            raise OptionError(f"image size and canvas must be multiples of {COARSEST_STRIDE}")
        if min(self.batch_size, self.points) < 1 or self.boxes < 0:
            raise OptionError("batch size and points must be at least 1, boxes at least 0")
        if not 0 <= self.full_share <= 1:
            raise OptionError("the full share must be between 0 and 1")


class SegmenterTrainer:
    """Trains, averages the weights, and can stop and resume at any step."""

    def __init__(
        self,
        options: SegmenterTrainingOptions,
        data: list[WeightedDataset],
        out: Path,
        backbone: Path | None,
        held_out: list[WeightedDataset] | None = None,
        encoder: Path | None = None,
    ) -> None:
        torch.manual_seed(options.seed)
        self.options, self.data, self.out = options, data, out
        self.held_out = held_out or []
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = NanoSegmenter().to(self.device, memory_format=torch.channels_last)
        self.backbone = backbone.name if backbone else None
        if backbone is not None:
            load_imagenet(self.model.encoder.backbone, backbone)
        self.encoder = encoder.name if encoder else None
        if encoder is not None:
            load_encoder(self.model.encoder, encoder)
        self.model.encoder.backbone.freeze(options.frozen_blocks)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self._parameter_groups(), weight_decay=0.02)
        self.step, self.seconds, self.images = 0, 0.0, 0
        self.mean = torch.tensor(IMAGENET_MEAN, device=self.device)
        self.std = torch.tensor(IMAGENET_STD, device=self.device)

    def _parameter_groups(self) -> list[dict]:
        backbone = [p for p in self.model.encoder.backbone.parameters() if p.requires_grad]
        known = {id(p) for p in self.model.encoder.backbone.parameters()}
        fresh = [p for p in self.model.parameters() if id(p) not in known]
        return [
            {"params": fresh, "peak": self.options.learning_rate},
            {"params": backbone, "peak": self.options.backbone_rate},
        ]

    @property
    def progress(self) -> float:
        """Share of the training time that is spent, 0-1."""
        return min(1.0, self.seconds / (60.0 * self.options.minutes))

    def run(self) -> None:
        """Train until the time is spent; writes checkpoints and `training.jsonl` into `out`."""
        self.out.mkdir(parents=True, exist_ok=True)
        with tqdm(total=round(60 * self.options.minutes), unit="s", desc="train-segmenter") as bar:
            bar.update(round(self.seconds))
            while self.progress < 1.0:
                self._run_phase(bar)
        self.save()
        self._log(self.validate())

    def _canvas(self) -> int:
        full = self.progress >= 1.0 - self.options.full_share
        return self.options.image_size if full else self.options.canvas

    def _run_phase(self, bar: tqdm) -> None:
        """Train at one crop size until the schedule asks for the next."""
        canvas = self._canvas()
        loader = self._loader(canvas)
        batch = next(loader)  # starting the loader is no training time
        saved = validated = started = time.monotonic()
        running: dict[str, float] = {}
        while self.progress < 1.0 and canvas == self._canvas():
            figures = self._train_step(batch)
            batch = next(loader)
            now = time.monotonic()
            self.seconds, started = self.seconds + now - started, now
            running = {k: 0.98 * running.get(k, v) + 0.02 * v for k, v in figures.items()}
            bar.n = round(self.seconds)
            bar.set_postfix({k: f"{v:.3f}" for k, v in running.items()}, step=self.step)
            if self.step % 50 == 0:
                self._log({"canvas": canvas, **running})
            if now - saved > CHECKPOINT_SECONDS:
                saved = now
                self.save()
            if now - validated > VALIDATION_SECONDS:
                validated = now
                self._log(self.validate())

    def _loader(self, canvas: int) -> Iterator[Batch]:
        options = self.options
        batches = SegmenterBatches(
            self.data, options.image_size, canvas, options.batch_size,
            options.points, options.boxes, seed=options.seed + self.step,
        )  # fmt: skip
        return endless_batches(batches)

    def _train_step(self, batch: Batch) -> dict[str, float]:
        self._set_rates()
        logits, iou, targets = self._forward(self.model, batch)
        loss, best = segmenter_loss(logits, iou, targets)
        if not torch.isfinite(loss):
            raise DatasetError(f"the loss is {loss.item()} at step {self.step}; lower the rates")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.images += len(batch.images)
        self._update_average()
        return {"loss": loss.item(), "iou": best.item()}

    def _forward(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits `[P, 3, H, W]`, predicted IoU `[P, 3]`, targets `[P, H, W]` of all prompts."""
        device = self.device
        images = normalise(batch.images.to(device), batch.sizes.to(device), self.mean, self.std)
        images = images.contiguous(memory_format=torch.channels_last)
        logits, iou = model(images, batch.points.to(device), batch.boxes.to(device))
        targets = batch.targets.to(device).flatten(0, 1).float() / 255.0
        return logits.flatten(0, 1), iou.flatten(0, 1), targets

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean IoU of the averaged weights on held-out photographs, always the same prompts.

        Returns:
            `held_out_best` of the three masks, `held_out_chosen` by predicted IoU, at the
            decoder's resolution, so higher than `aopsam evaluate` says; {} without held-out data.
        """
        if not self.held_out:
            return {}
        options = self.options
        batches = SegmenterBatches(
            self.held_out, options.image_size, options.image_size, options.batch_size,
            options.points, 0, seed=0, augmentation=AS_AT_INFERENCE,
        )  # fmt: skip
        best, chosen = [], []
        for batch in itertools.islice(batches, VALIDATION_BATCHES):
            logits, predicted, targets = self._forward(self.average, batch)
            iou = low_resolution_iou(logits, targets)
            best.append(iou.max(1).values.mean().item())
            chosen.append(iou.gather(1, predicted.argmax(1, keepdim=True)).mean().item())
        return {
            "held_out_best": sum(best) / len(best),
            "held_out_chosen": sum(chosen) / len(chosen),
        }

    def _set_rates(self) -> None:
        warm = min(1.0, (self.step + 1) / 200)
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * warm * max(0.01, cosine)

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential moving average: steadier than the last step's weights."""
        decay = min(0.998, (self.step + 1) / (self.step + 10))
        for average, current in zip(
            self.average.parameters(), self.model.parameters(), strict=True
        ):
            average.lerp_(current, 1 - decay)
        for kept, current in zip(self.average.buffers(), self.model.buffers(), strict=True):
            kept.copy_(current)

    def _log(self, figures: Mapping[str, float]) -> None:
        line = {"step": self.step, "seconds": round(self.seconds, 1), "images": self.images}
        with (self.out / "training.jsonl").open("a") as file:
            file.write(json.dumps({**line, **figures}) + "\n")

    def save(self) -> None:
        """Write `checkpoint.pt` (to resume) and `segmenter.pt` (averaged weights) atomically."""
        averaged = {"model": self.average.state_dict(), **self._facts()}
        save_atomically(self.out / "segmenter.pt", averaged)
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **self._facts(),
        }
        save_atomically(self.out / "checkpoint.pt", state)

    def _facts(self) -> dict:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "images": self.images,
            "options": asdict(self.options),
            "backbone": self.backbone,
            "encoder": self.encoder,
            "data": describe_data(self.data),
            "machine": describe_machine(self.device),
        }

    def resume(self) -> bool:
        """Continue from `checkpoint.pt` in `out`, if there is one.

        Raises:
            InputError: The file is damaged or belongs to another model.
        """
        file = self.out / "checkpoint.pt"
        if not file.is_file():
            return False
        state = load_checkpoint(file, self.device)
        try:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(f"{file}: not a checkpoint of this model ({error})") from error
        self.step, self.seconds, self.images = state["step"], state["seconds"], state["images"]
        return True
