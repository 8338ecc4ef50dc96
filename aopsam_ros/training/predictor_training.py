"""The training loop of the Prompt Predictor: frozen encoder, target maps, MSE, Adam."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from aopsam_ros.errors import InputError, OptionError
from aopsam_ros.models.checkpoints import load_checkpoint, save_atomically
from aopsam_ros.models.frozen import FrozenModel
from aopsam_ros.models.prompt_predictor import EXTENT_UNIT, PromptPredictor
from aopsam_ros.training import curve
from aopsam_ros.training.batches import normalise
from aopsam_ros.training.loader import endless_batches, flushed_denormals
from aopsam_ros.training.losses import confidence_loss, extent_iou, extent_loss
from aopsam_ros.training.predictor_batches import PredictorBatch, PredictorBatches
from aopsam_ros.training.predictor_validation import HeldOut, Predicted
from aopsam_ros.training.provenance import describe_machine

EXTENT_WEIGHT = 0.1  # beside the confidence map's loss
CHECKPOINT_SECONDS = 120.0
LOGGED_STEPS = 50
CHECKPOINT = "predictor.pt"


@dataclass(frozen=True)
class PredictorData:
    """The data of a run."""

    batches: Callable[[int], PredictorBatches]  # from a seed
    description: list[str]  # a line for each data set, for the checkpoint
    held_out: HeldOut  # images to validate on


@dataclass(frozen=True)
class PredictorTrainingOptions:
    """Options of a run."""

    minutes: float = 15.0  # training time, over all resumed parts
    steps: int = 0  # at most, over all resumed parts; 0 leaves the time to decide
    image_size: int = 512  # the encoder's input size, pixels
    batch_size: int = 8  # images a step
    learning_rate: float = 2e-3  # peak of Adam's
    smallest: int = 96  # instances with fewer pixels of the view give no point
    seed: int = 0  # of weights and views

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OptionError("the batch size must be at least 1")
        if self.steps < 0:
            raise OptionError("the steps must be 0 or more")
        if not self.minutes > 0:
            raise OptionError("--minutes must be above 0")


class PredictorTrainer:
    """Trains on a frozen model's embeddings; can stop and resume at any step.

    The checkpoint and the curve are in the folder `out`.
    """

    def __init__(self, options: PredictorTrainingOptions, frozen: FrozenModel, out: Path) -> None:
        torch.manual_seed(options.seed)
        self.options, self.out = options, out
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.encoder = frozen.parts.encoder.eval().requires_grad_(False)
        self.encoder_key = frozen.encoder_key()
        self.model = PromptPredictor(frozen.embedding_channels).to(self.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), options.learning_rate)
        self.step, self.seconds = 0, 0.0
        self.description: list[str] = []  # of the data
        self.loss: float | None = None  # running mean
        self.mean = torch.tensor(frozen.parts.mean, device=self.device)
        self.std = torch.tensor(frozen.parts.std, device=self.device)

    def run(self, data: PredictorData) -> Mapping[str, float]:
        """Train until the time is spent; writes the checkpoint and the curve into `out`.

        Returns:
            The last figures: `loss` and those of the held-out images.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        self.description = data.description
        self.encoder.to(self.device)
        if not self.step:
            self._validate(data)
        meter = tqdm(total=round(60 * self.options.minutes), unit="s", desc="train-predictor")
        with flushed_denormals(), meter as bar:
            if self.progress < 1.0:
                self._train(data, bar)
        self.save()
        return self._validate(data)

    @property
    def progress(self) -> float:
        """Share of the time, or of the steps, that is spent, 0-1."""
        options = self.options
        steps = self.step / options.steps if options.steps else 0.0
        return min(1.0, max(steps, self.seconds / (60.0 * options.minutes)))

    def _train(self, data: PredictorData, bar: tqdm) -> None:
        batches = endless_batches(data.batches(self.options.seed + self.step))
        batch = next(batches)  # starting the loader is no training time
        saved = started = time.monotonic()
        while self.progress < 1.0:
            self._train_step(batch)
            batch = next(batches)
            now = time.monotonic()
            self.seconds, started = self.seconds + now - started, now
            bar.n = min(round(self.seconds), round(60 * self.options.minutes))
            bar.set_postfix(loss=f"{self.loss:.4f}", step=self.step)
            if self.step % LOGGED_STEPS == 0:
                self._log({})
            if now - saved > CHECKPOINT_SECONDS:
                self.save()
                self._validate(data)
                saved = started = time.monotonic()

    def _train_step(self, batch: PredictorBatch) -> None:
        rate = self.options.learning_rate * 0.5 * (1 + math.cos(math.pi * self.progress))
        for group in self.optimizer.param_groups:
            group["lr"] = max(rate, 1e-5)
        loss = self._forward(batch).loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        value = loss.item()
        self.loss = value if self.loss is None else 0.98 * self.loss + 0.02 * value

    def _forward(self, batch: PredictorBatch) -> Predicted:
        """Return the maps of a batch, and their loss."""
        device, model = self.device, self.model
        sizes, targets, known, extents, weights = (
            part.to(device)
            for part in (
                batch.sizes, batch.targets, batch.known, batch.extents, batch.extent_weights
            )
        )  # fmt: skip
        image = normalise(batch.images.to(device), sizes, self.mean, self.std).contiguous()
        trunk, log_extents = model.coarse(self._embedding(image, batch.embeddings))
        confidence = torch.sigmoid(model.logits(image, trunk))
        loss = confidence_loss(confidence, targets, known)
        loss = loss + EXTENT_WEIGHT * extent_loss(log_extents, extents, weights, EXTENT_UNIT)
        with torch.no_grad():
            overlap = extent_iou(EXTENT_UNIT * log_extents.exp(), extents)
            mean_overlap = (overlap * weights).sum() / weights.sum().clamp(min=1e-6)
        return Predicted(confidence, loss, mean_overlap)

    @torch.no_grad()
    def _embedding(self, image: Tensor, cached: Tensor | None) -> Tensor:
        if cached is not None:
            return cached.to(self.device).float()
        encoded = self.encoder(image.contiguous(memory_format=torch.channels_last))
        return encoded[0] if isinstance(encoded, tuple) else encoded

    def _validate(self, data: PredictorData) -> Mapping[str, float]:
        """Validate, log and plot; return the figures."""
        figures = data.held_out.measure(self._forward)
        self._log(figures)
        curve.write(self.out)
        return figures if self.loss is None else {"loss": self.loss, **figures}

    def _log(self, figures: Mapping[str, float]) -> None:
        loss = {} if self.loss is None else {"loss": self.loss}
        where = {"step": self.step, "seconds": round(self.seconds, 1)}
        curve.append(self.out, {**where, **loss, **figures})

    def save(self) -> None:
        """Write `predictor.pt`."""
        save_atomically(self.out / CHECKPOINT, self.state())

    def state(self) -> dict[str, Any]:
        """Return the checkpoint: weights, optimiser, step, time, options and provenance."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
            "options": asdict(self.options),
            "encoder": self.encoder_key,
            "data": self.description,
            "machine": describe_machine(self.device),
        }

    def resume(self) -> bool:
        """Continue from `predictor.pt` in `out`, if there is one.

        Raises:
            InputError: The file is damaged or belongs to another model.
        """
        file = self.out / CHECKPOINT
        if not file.is_file():
            return False
        state = load_checkpoint(file, self.device)
        if state.get("encoder", self.encoder_key) != self.encoder_key:
            raise InputError(f"{file}: trained for another model; choose another --out")
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{file}: not a checkpoint of this predictor ({reason})") from error
        self.step, self.seconds = state["step"], state["seconds"]
        self.loss = state.get("loss")
        return True
