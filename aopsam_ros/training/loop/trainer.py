"""The training loop of one module: steps, rates, checkpoints and the curve; it can stop and resume.

Of several processes, all take the same steps, and the first one writes.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from aopsam_ros.errors import InputError, OptionError
from aopsam_ros.models.checkpoints import load_checkpoint, save_atomically
from aopsam_ros.training.loop import curve, processes
from aopsam_ros.training.loop.loader import EndlessBatches, endless_batches, flushed_denormals
from aopsam_ros.training.loop.provenance import describe_machine

CHECKPOINT_SECONDS = 120.0
LOGGED_STEPS = 50
FIRST_STEPS = 10  # all logged: in these the loss falls fastest


class HasLoss(Protocol):
    """What a forward pass returns."""

    @property
    def loss(self) -> Tensor:
        """Of the batch, a scalar."""


Batch = TypeVar("Batch")
Result = TypeVar("Result", bound=HasLoss)


@dataclass(frozen=True)
class TrainingData(Generic[Batch, Result]):
    """The data of a run."""

    batches: Callable[[int], EndlessBatches[Batch]]  # from a seed
    description: list[str]  # a line for each data set, for the checkpoint
    # figures of the held-out images, given the forward pass; {} without such images
    measure: Callable[[Callable[[Batch], Result]], dict[str, float]]


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a run."""

    minutes: float = 15.0  # training time, over all resumed parts
    steps: int = 0  # at most, over all resumed parts; 0 leaves the time to decide
    batch_size: int = 8  # images a step, of all processes together
    learning_rate: float = 2e-3  # peak of Adam's
    seed: int = 0  # of weights and views
    loaders: int = 1  # processes that prepare batches, for each that trains

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OptionError("the batch size must be at least 1")
        if self.steps < 0:
            raise OptionError("the steps must be 0 or more")
        if not self.minutes > 0:
            raise OptionError("--minutes must be above 0")


class Trainer(ABC, Generic[Batch, Result]):
    """Trains a module; its checkpoint and curve are in the folder `out`.

    Args:
        options: of the run.
        model: what is trained.
        encoder_key: hash of the encoder whose embeddings it is trained with.
        out: folder of the run.
    """

    title: ClassVar[str]  # of the progress bar
    checkpoint: ClassVar[str]  # the file's name

    def __init__(
        self, options: TrainingOptions, model: nn.Module, encoder_key: str, out: Path
    ) -> None:
        self.options, self.encoder_key, self.out = options, encoder_key, out
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.optimizer = torch.optim.Adam(model.parameters(), options.learning_rate)
        self.step, self.seconds = 0, 0.0
        self.description: list[str] = []  # of the data
        self.loss: float | None = None  # running mean

    @abstractmethod
    def forward(self, batch: Batch) -> Result:
        """Return what is measured of a batch, and its loss."""

    def run(self, data: TrainingData[Batch, Result]) -> Mapping[str, float]:
        """Train until the time is spent; writes the checkpoint and the curve into `out`.

        Returns:
            The last figures: `loss` and those of the held-out images.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        self.description = data.description
        if not self.step:
            self._validate(data)
        meter = tqdm(
            total=round(60 * self.options.minutes), unit="s", desc=self.title,
            disable=not processes.is_first(),
        )  # fmt: skip
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

    def _train(self, data: TrainingData[Batch, Result], bar: tqdm) -> None:
        batches = endless_batches(data.batches(self.options.seed + self.step), self.options.loaders)
        forward = processes.parallel(self.model.train(), self.forward)
        batch = next(batches)  # starting the loader is no training time
        started, saved = time.monotonic(), self.seconds
        while self.progress < 1.0:
            self._train_step(forward(batch).loss)
            batch = next(batches)
            now = time.monotonic()
            # Averaged, so that all processes end and save at the same step.
            elapsed = processes.average(torch.tensor(now - started, device=self.device))
            self.seconds, started = self.seconds + elapsed.item(), now
            bar.n = min(round(self.seconds), round(60 * self.options.minutes))
            bar.set_postfix(loss=f"{self.loss:.4f}", step=self.step)
            if self.step <= FIRST_STEPS or self.step % LOGGED_STEPS == 0:
                self._log({})
            if self.seconds - saved > CHECKPOINT_SECONDS:
                self.save()
                self._validate(data)
                started, saved = time.monotonic(), self.seconds

    def _train_step(self, loss: Tensor) -> None:
        rate = self.options.learning_rate * 0.5 * (1 + math.cos(math.pi * self.progress))
        for group in self.optimizer.param_groups:
            group["lr"] = max(rate, 1e-5)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        value = processes.average(loss).item()
        self.loss = value if self.loss is None else 0.98 * self.loss + 0.02 * value

    def _validate(self, data: TrainingData[Batch, Result]) -> Mapping[str, float]:
        """Validate, log and plot; return the figures. Every process must take part."""
        training = self.model.training
        self.model.eval()
        figures = data.measure(self.forward)
        self.model.train(training)
        self._log(figures)
        if processes.is_first():
            curve.write(self.out)
        return figures if self.loss is None else {"loss": self.loss, **figures}

    def _log(self, figures: Mapping[str, float]) -> None:
        if processes.is_first():
            loss = {} if self.loss is None else {"loss": self.loss}
            where = {"step": self.step, "seconds": round(self.seconds, 1)}
            curve.append(self.out, {**where, **loss, **figures})

    def save(self) -> None:
        """Write the checkpoint."""
        if processes.is_first():
            save_atomically(self.out / self.checkpoint, self.state())

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
        """Continue from the checkpoint in `out`, if there is one.

        Raises:
            InputError: if the file is damaged or belongs to another model.
        """
        file = self.out / self.checkpoint
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
            raise InputError(f"{file}: not a checkpoint of this model ({reason})") from error
        self.step, self.seconds = state["step"], state["seconds"]
        self.loss = state.get("loss")
        return True
