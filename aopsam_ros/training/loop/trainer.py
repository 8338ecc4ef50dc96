"""The loop of every training: steps, rates, checkpoints and the log; it can stop and resume.

Of several processes, all take the same steps, and the first one writes.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from aopsam_ros.engines.processor import describe_processor
from aopsam_ros.errors import AopsamError, DatasetError, InputError, first_line
from aopsam_ros.models.checkpoints import load_checkpoint, save_atomically
from aopsam_ros.training.loop import curve, processes
from aopsam_ros.training.loop.loader import EndlessBatches, endless_batches
from aopsam_ros.training.options import RunOptions, TrainingOptions

LOGGED_STEPS = 50
FIRST_STEPS = 10  # all logged: in these the loss falls fastest


@dataclass(frozen=True)
class TrainingData:
    """The data of a run."""

    batches: Callable[[int], EndlessBatches]  # to train on at present, from a seed
    description: list[str]  # a line for each data set, for the checkpoint
    # figures of the held-out images, given the forward pass; {} without such images
    measure: Callable[[Callable[[Any], Any]], dict[str, float]]


class Trainer(ABC):
    """Trains a module; its checkpoint and log are in the folder `out`."""

    title: ClassVar[str]  # of the progress bar
    unit: ClassVar[str]  # of the progress bar
    checkpoint: ClassVar[str]  # the file's name
    save_seconds: ClassVar[float]  # between checkpoints
    validate_seconds: ClassVar[float]
    max_norm: ClassVar[float] = math.inf  # of a step's gradient; longer ones are shortened
    data: TrainingData
    optimizer: torch.optim.Optimizer

    def __init__(self, options: RunOptions, model: nn.Module, out: Path, total: int) -> None:
        """Begin a run of `total` units; the subclass makes the optimiser."""
        self.options, self.out, self.total = options, out, total
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self._forward: Callable[[Any], Any] = self.forward
        self.step, self.seconds = 0, 0.0
        self.running: dict[str, float] = {}  # means of the last steps' figures

    @property
    @abstractmethod
    def progress(self) -> float:
        """Share of the run that is done, 0-1."""

    @abstractmethod
    def set_rates(self) -> None:
        """Set the next step's learning rates."""

    @abstractmethod
    def forward(self, batch: Any) -> Any:  # noqa: ANN401
        """Return what is measured of a batch, among it the `loss` to learn from."""

    def figures_of(self, found: Any) -> dict[str, float]:  # noqa: ANN401
        """Return what is logged of a step, from its forward pass."""
        return {"loss": processes.average(found.loss).item()}

    def phase(self) -> object:
        """Return what the batches depend on: where it changes, others are loaded."""
        return None

    def run(self) -> Mapping[str, float]:
        """Train to the end; writes the checkpoint and the log into `out`.

        Returns:
            The last figures, of the steps and of the held-out images.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        meter = tqdm(
            total=self.total, unit=self.unit, desc=self.title, disable=not processes.is_first()
        )
        self._forward = processes.parallel(self.model, self.forward)
        torch.set_flush_denormal(True)  # processors take many times longer for the tiniest numbers
        try:
            with meter as bar:
                while self.progress < 1.0:
                    self._run_phase(bar)
        finally:
            torch.set_flush_denormal(False)
        self.save()
        return self.validate()

    def _run_phase(self, bar: tqdm) -> None:
        phase = self.phase()
        batches = endless_batches(
            self.data.batches(self.options.seed + self.step), self.options.loaders
        )
        batch = next(batches)  # starting the loader is no training time
        started, saved, validated = time.monotonic(), self.seconds, self.seconds
        while self.progress < 1.0 and phase == self.phase():
            figures = self.train_step(batch)
            batch = next(batches)
            now = time.monotonic()
            # Averaged, so that all processes end, save and validate at the same step.
            elapsed = processes.average(torch.tensor(now - started, device=self.device))
            self.seconds, started = self.seconds + elapsed.item(), now
            mean = self.running
            self.running = {k: 0.98 * mean.get(k, v) + 0.02 * v for k, v in figures.items()}
            bar.n = round(self.progress * self.total)
            bar.set_postfix({k: f"{v:.4f}" for k, v in self.running.items()}, step=self.step)
            if self.step <= FIRST_STEPS or self.step % LOGGED_STEPS == 0:
                self.log({})
            if self.seconds - saved > self.save_seconds:
                self.save()
                started, saved = time.monotonic(), self.seconds
            if self.seconds - validated > self.validate_seconds:
                self.validate()
                started, validated = time.monotonic(), self.seconds

    def train_step(self, batch: object) -> dict[str, float]:
        """Take a step; return its figures.

        Raises:
            DatasetError: if the loss is not finite.
        """
        self.set_rates()
        found = self._forward(batch)
        if not torch.isfinite(found.loss):
            raise DatasetError(
                f"the loss is {found.loss.item()} at step {self.step}; lower the rates"
            )
        self.optimizer.zero_grad(set_to_none=True)
        found.loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)
        self.optimizer.step()
        self.step += 1
        return {**self.figures_of(found), "norm": norm.item()}

    def validate(self) -> Mapping[str, float]:
        """Measure, log, and return the last figures. Every process must take part."""
        self.model.eval()
        figures = self.data.measure(self.forward)
        self.model.train()
        self.log(figures)
        return {**self.running, **figures}

    def log(self, figures: Mapping[str, float]) -> None:
        """Add a line to the log: where the run is, the last steps' figures, and these."""
        if processes.is_first():
            where = {"step": self.step, "seconds": round(self.seconds, 1)}
            rounded = {k: round(v, 6) for k, v in {**self.running, **figures}.items()}
            curve.append(self.out, {**where, **rounded})

    def save(self) -> None:
        """Write the checkpoint."""
        if processes.is_first():
            save_atomically(self.out / self.checkpoint, self.state())

    def state(self) -> dict[str, Any]:
        """Return the checkpoint: what a run goes on from, and provenance."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "options": asdict(self.options),
            "data": self.data.description,
            "machine": describe_machine(self.device),
        }

    def resume(self) -> bool:
        """Continue from the checkpoint in `out`, if there is one, and say so.

        Raises:
            AopsamError: if the file is damaged or belongs to another model or run.
        """
        file = self.out / self.checkpoint
        if not file.is_file():
            return False
        try:
            self.restore(file, load_checkpoint(file, self.device))
        except AopsamError:
            raise
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            reason = first_line(error)
            raise InputError(f"{file}: not a checkpoint of this model ({reason})") from error
        print(f"resumed at step {self.step}, {self.seconds / 60:.1f} minutes")
        return True

    def restore(self, file: Path, state: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Take the place of a checkpoint's run."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = int(state["step"]), float(state["seconds"])


class TimedTrainer(Trainer):
    """Trains for a given time on an encoder's embeddings, with Adam and a curve to look at.

    `encoder_key` is a hash of that encoder.
    """

    unit = "s"
    save_seconds = validate_seconds = 120.0
    options: TrainingOptions

    def __init__(
        self, options: TrainingOptions, model: nn.Module, encoder_key: str, out: Path
    ) -> None:
        super().__init__(options, model, out, round(60 * options.minutes))
        self.encoder_key = encoder_key
        self.optimizer = torch.optim.Adam(self.model.parameters(), options.learning_rate)

    def train(self, data: TrainingData) -> Mapping[str, float]:
        """See `run`; measures once before."""
        self.data = data
        self.out.mkdir(parents=True, exist_ok=True)
        if not self.step:
            self.validate()
        return self.run()

    @property
    def progress(self) -> float:
        """Share of the time, or of the steps, that is spent, 0-1."""
        options = self.options
        steps = self.step / options.steps if options.steps else 0.0
        return min(1.0, max(steps, self.seconds / (60.0 * options.minutes)))

    def set_rates(self) -> None:
        """Let the rate fall to zero, as a cosine."""
        rate = self.options.learning_rate * 0.5 * (1 + math.cos(math.pi * self.progress))
        for group in self.optimizer.param_groups:
            group["lr"] = max(rate, 1e-5)

    def validate(self) -> Mapping[str, float]:
        """See `Trainer`; plots the curve as well."""
        figures = super().validate()
        if processes.is_first():
            curve.write(self.out)
        return figures

    def state(self) -> dict[str, Any]:
        """See `Trainer`."""
        loss = self.running.get("loss")
        return {**super().state(), "loss": loss, "encoder": self.encoder_key}

    def restore(self, file: Path, state: Mapping[str, Any]) -> None:
        """See `Trainer`."""
        if state.get("encoder", self.encoder_key) != self.encoder_key:
            raise InputError(f"{file}: trained for another model; choose another --out")
        super().restore(file, state)
        if state.get("loss") is not None:
            self.running = {"loss": state["loss"]}


def start_from(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fill a model with given weights; shapes may differ where their sizes agree.

    Raises:
        InputError: if a weight is missing, or of another size.
    """
    state = model.state_dict()
    try:
        model.load_state_dict({n: weights[n].reshape(state[n].shape) for n in state})
    except (KeyError, RuntimeError, AttributeError) as error:
        raise InputError(f"the weights to start from are another model's ({error})") from error


def summarise_run(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what bundle.yaml says of a training run, from a checkpoint's facts."""
    options = facts["options"]
    summary: dict[str, Any] = {
        "minutes": round(facts["seconds"] / 60, 1),
        "steps": facts["step"],
        "images": facts["step"] * options["batch_size"],
        "seed": options["seed"],
    }
    return summary | {key: facts[key] for key in ("backbone", "machine", "data") if facts.get(key)}


def describe_machine(device: torch.device) -> str:
    """Return the name of the processor that trains, and torch's version."""
    version = f"torch {torch.__version__.partition('+')[0]}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, {version}"
    return f"{describe_processor()}, {version}"
