"""The training loop of `nano`: segmenter and Prompt Predictor together, on CPU cores or a GPU."""

import copy
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from tqdm import tqdm

from aopsam_ros.errors import DatasetError, InputError, OptionError
from aopsam_ros.models.checkpoints import load_checkpoint, save_atomically
from aopsam_ros.models.efficientnet_lite import IMAGENET_MEAN, IMAGENET_STD, load_imagenet
from aopsam_ros.models.nano import NanoSegmenter
from aopsam_ros.models.nano_decoder import MASKS, EncodedFrame, MaskInput
from aopsam_ros.models.prompt_predictor import EXTENT_UNIT
from aopsam_ros.training.augmentation import AS_AT_INFERENCE
from aopsam_ros.training.batches import (
    Batch,
    BatchOptions,
    PromptCounts,
    SegmenterBatches,
    WeightedDataset,
    describe_data,
    normalise,
)
from aopsam_ros.training.loop import processes
from aopsam_ros.training.loop.loader import endless_batches, flushed_denormals
from aopsam_ros.training.loop.provenance import describe_machine
from aopsam_ros.training.losses import (
    confidence_loss,
    extent_iou,
    extent_loss,
    segmenter_loss,
)
from aopsam_ros.training.prompt_sampling import corrective_click
from aopsam_ros.training.semantic_losses import TEACHER_VIEWS, SemanticLosses, semantic_loss

COARSEST_STRIDE = 32  # of the backbone's last features
CHECKPOINT_SECONDS = 240.0
VALIDATION_SECONDS = 900.0
VALIDATION_BATCHES = 12
CACHED_BYTES = 3 << 30  # of decoded images, of all loaders of a process
SINGLE, MULTIPLE = slice(0, 1), slice(1, MASKS)  # the decoder's outputs
WARM_UP_STEPS = 200


@dataclass(frozen=True)
class SegmenterTrainingOptions:
    """Everything that decides a run."""

    # how many views to train on, over all resumed parts; the learning rate follows them
    views: int = 200_000
    backbone: str = "lite0"  # `lite0` or `lite2`
    image_size: int = 512  # the encoder's input size at inference, pixels
    canvas: int = 384  # longest side of the training crops; smaller is faster
    full_share: float = 0.2  # last share of the views that are crops of `image_size` instead
    decay_share: float = 0.3  # last share of the views in which the rates fall to zero
    batch_size: int = 8  # images a step
    learning_rate: float = 1e-3  # peak, of the parts that start from nothing
    backbone_rate: float = 2.5e-4  # peak, of the pretrained backbone
    frozen_blocks: int = 3  # how many of the backbone's first blocks stay as pretrained
    # how often a view asks for regions of one colour that are unlabelled, 0-1
    surfaces: float = 0.25
    seed: int = 0  # of weights, views and prompts
    loaders: int = 1  # processes that prepare batches, for each that trains

    def __post_init__(self) -> None:
        sizes = (self.image_size, self.canvas)
        if any(size < COARSEST_STRIDE or size % COARSEST_STRIDE for size in sizes):
            raise OptionError(f"image size and canvas must be multiples of {COARSEST_STRIDE}")
        if self.batch_size < 1 or self.views < 1:
            raise OptionError("the batch size and the views must be at least 1")
        if not (self.learning_rate > 0 and self.backbone_rate >= 0):
            raise OptionError("the learning rate must be above 0, the backbone's not below")
        if not (
            0 <= self.full_share <= 1 and 0 <= self.decay_share <= 1 and 0 <= self.surfaces <= 1
        ):
            raise OptionError("shares must be between 0 and 1")


def view_shapes(longest: int) -> tuple[tuple[int, int], ...]:
    """Heights and widths of training views: square, and as cameras have them, both ways."""
    shorter = round(0.75 * longest / COARSEST_STRIDE) * COARSEST_STRIDE
    return ((longest, longest), (shorter, longest), (longest, shorter))


class SegmenterTrainer:
    """Trains, averages the weights, and can stop and resume at any step.

    Args:
        options: of the run.
        data: to train on.
        out: folder of checkpoints and `training.jsonl`.
        pretrained: ImageNet weights of the backbone; None: from nothing, and the semantic map
            learns nothing.
        held_out: data to validate on.
        start: weights to start from, by name; None: from the pretrained backbone only.
    """

    def __init__(
        self,
        options: SegmenterTrainingOptions,
        data: list[WeightedDataset],
        out: Path,
        pretrained: Path | None,
        held_out: list[WeightedDataset] | None = None,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        torch.manual_seed(options.seed)
        self.options, self.data, self.out = options, data, out
        self.held_out = held_out or []
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = NanoSegmenter(options.backbone)
        self.pretrained = pretrained.name if pretrained else None
        self.semantic: SemanticLosses | None = None
        if pretrained is not None:
            load_imagenet(model.encoder.backbone, pretrained)
            teacher = copy.deepcopy(model.encoder.backbone).to(self.device).eval()
            views = TEACHER_VIEWS // processes.count()
            self.semantic = SemanticLosses(teacher.requires_grad_(False), views)
        if start is not None:
            start_from(model, start)
        self.model = model.to(self.device, memory_format=torch.channels_last)
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
        """Share of the views that are seen, 0-1."""
        return min(1.0, self.images / self.options.views)

    def run(self) -> None:
        """Train until all views are seen; writes checkpoints and `training.jsonl` into `out`."""
        self.out.mkdir(parents=True, exist_ok=True)
        meter = tqdm(
            total=self.options.views, unit="view", desc="train-segmenter",
            disable=not processes.is_first(),
        )  # fmt: skip
        self._forward = processes.parallel(self.model, self._losses)
        with flushed_denormals(), meter as bar:
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
        started, saved, validated = time.monotonic(), self.seconds, self.seconds
        running: dict[str, float] = {}
        while self.progress < 1.0 and canvas == self._canvas():
            figures = self._train_step(batch)
            batch = next(loader)
            now = time.monotonic()
            # Averaged, so that all processes save and validate at the same step.
            elapsed = processes.average(torch.tensor(now - started, device=self.device))
            self.seconds, started = self.seconds + elapsed.item(), now
            running = {k: 0.98 * running.get(k, v) + 0.02 * v for k, v in figures.items()}
            bar.n = self.images
            bar.set_postfix({k: f"{v:.3f}" for k, v in running.items()}, step=self.step)
            if self.step % 50 == 0:
                self._log({"canvas": canvas, **running})
            if self.seconds - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = self.seconds
            if self.seconds - validated > VALIDATION_SECONDS:
                self._log(self.validate())
                started, validated = time.monotonic(), self.seconds

    def _loader(self, canvas: int) -> Iterator[Batch]:
        options = BatchOptions(
            self.options.image_size, view_shapes(canvas), self.options.batch_size,
            surfaces=self.options.surfaces,
        )  # fmt: skip
        return endless_batches(
            SegmenterBatches(
                self.data,
                options,
                self.options.seed + self.step,
                CACHED_BYTES // max(1, self.options.loaders),
            ),
            self.options.loaders,
        )

    def _train_step(self, batch: Batch) -> dict[str, float]:
        self._set_rates()
        losses, figures = self._forward(batch)
        loss = sum(losses.values())
        if not torch.isfinite(loss):
            raise DatasetError(f"the loss is {loss.item()} at step {self.step}; lower the rates")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 3.0)
        self.optimizer.step()
        self.step += 1
        self.images += self.options.batch_size
        self._update_average()
        averaged = {name: processes.average(value).item() for name, value in losses.items()}
        return {**figures, **averaged, "norm": float(norm)}

    def _losses(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Return the weighted losses of a batch by name, and mean IoUs for the progress line."""
        device, model = self.device, self.model
        image = self._image(batch)
        embedding, semantic = model.encoder(image)
        frame = model.decoder.encode_frame(embedding)
        targets = batch.targets.to(device).float() / 255.0
        losses, figures = self._prompt_losses(frame, batch, targets)
        trunk, log_extents = model.predictor.coarse(embedding)
        confidence = torch.sigmoid(model.predictor.logits(image, trunk))
        wanted = batch.confidence.to(device).float() / 255.0
        losses["confidence"] = 4.0 * confidence_loss(confidence, wanted, batch.known.to(device))
        extents, weights = batch.extents.to(device), batch.extent_weights.to(device)
        losses["extents"] = 0.5 * extent_loss(log_extents, extents, weights, EXTENT_UNIT)
        if self.semantic is not None:
            losses |= self.semantic(image, semantic, targets, batch.classes.to(device))
        return losses, figures

    def _image(self, batch: Batch) -> Tensor:
        device = self.device
        image = normalise(batch.images.to(device), batch.sizes.to(device), self.mean, self.std)
        return image.contiguous(memory_format=torch.channels_last)

    def _prompt_losses(
        self, frame: EncodedFrame, batch: Batch, targets: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        decoder, seed = self.model.decoder, [self.options.seed, self.step]
        # One for each sample: what is drawn is the same in however many processes.
        places = processes.share(range(self.options.batch_size))
        rngs = [np.random.default_rng([*seed, place]) for place in places]
        coords, labels = batch.coords.to(self.device), batch.labels.to(self.device)
        points = PromptCounts().points
        ambiguous = decoder.decode_masks(
            frame, coords[:, :points, :1], labels[:, :points, :1], outputs=MULTIPLE
        )
        certain = decoder.decode_masks(
            frame, coords[:, points:], labels[:, points:], outputs=SINGLE
        )
        loss_points, iou_points = _loss(ambiguous, targets[:, :points])
        loss_boxes, iou_boxes = _loss(certain, targets[:, points:])
        losses = {"points": loss_points, "boxes": loss_boxes}
        figures = {
            "iou": iou_points.max(1).values.mean().item(), "iou_box": iou_boxes.mean().item()
        }  # fmt: skip
        # Half of the prompts of each kind are refined twice.
        chosen = torch.arange(0, coords.shape[1], 2)
        logits = torch.cat([_best(*ambiguous), certain[0][:, :, 0]], 1).detach()[:, chosen]
        coords, labels, goal = coords[:, chosen], labels[:, chosen], targets[:, chosen]
        for name in ("click", "second"):
            coords, labels = add_clicks(coords, labels, logits, goal, rngs)
            start = logits if name == "second" else _disturb(logits, goal, rngs)
            keep = _draw(labels.shape[1], rngs, 0.8).to(logits)
            refined = decoder.decode_masks(
                frame, coords, labels, MaskInput(start, keep), outputs=SINGLE
            )
            losses[name], iou = _loss(refined, goal)
            losses[name] = 0.5 * losses[name]
            figures[f"iou_{name}"] = iou.mean().item()
            logits = refined[0][:, :, 0].detach()
        return losses, figures

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean figures of the averaged weights on held-out photographs, always the same prompts.

        Returns:
            IoU of the `best` of three masks and of the one `chosen` by predicted IoU, for the
            innermost point; of a tight `box`; after one and two corrective clicks; of extents at
            innermost points; the semantic map's cosine with the teacher. At the decoder's
            resolution, so higher than `aopsam evaluate` says; {} without held-out data.
        """
        if not self.held_out:
            return {}
        size = self.options.image_size
        options = BatchOptions(
            size, ((size, size),), self.options.batch_size, PromptCounts(8, 8, 0), 0.0,
            AS_AT_INFERENCE, centred=True,
        )  # fmt: skip
        rows = [
            self._validate_batch(batch)
            for batch in itertools.islice(
                SegmenterBatches(self.held_out, options, seed=0), VALIDATION_BATCHES
            )
        ]
        return {f"held_out_{k}": float(np.mean([row[k] for row in rows])) for k in rows[0]}

    def _validate_batch(self, batch: Batch) -> dict[str, float]:
        model, points = self.average, PromptCounts().points
        image = self._image(batch)
        embedding, semantic = model.encoder(image)
        frame = model.decoder.encode_frame(embedding)
        coords, labels = batch.coords.to(self.device), batch.labels.to(self.device)
        targets = batch.targets.to(self.device).float() / 255.0
        single, goal = (coords[:, :points], labels[:, :points]), targets[:, :points]
        logits, predicted = model.decoder.decode_masks(frame, *single, outputs=MULTIPLE)
        _, iou = _loss((logits, predicted), goal)
        choice = predicted.flatten(0, 1).argmax(1, keepdim=True)
        figures = {"best": iou.max(1).values.mean(), "chosen": iou.gather(1, choice).mean()}
        boxes = model.decoder.decode_masks(
            frame, coords[:, points:], labels[:, points:], outputs=SINGLE
        )
        figures["box"] = _loss(boxes, targets[:, points:])[1].mean()
        mask = _best(logits, predicted)
        for number in (1, 2):
            single = add_clicks(*single, mask, goal, [None] * len(goal))
            present = torch.ones_like(single[1][:, :, 0])
            refined = model.decoder.decode_masks(
                frame, *single, MaskInput(mask, present), outputs=SINGLE
            )
            figures[f"clicks_{number}"] = _loss(refined, goal)[1].mean()
            mask = refined[0][:, :, 0]
        _, extents = model.predictor.coarse(embedding)
        weight = batch.extent_weights.to(self.device)
        overlap = extent_iou(EXTENT_UNIT * torch.exp(extents), batch.extents.to(self.device))
        figures["extents"] = (overlap * weight).sum() / weight.sum()
        if self.semantic is not None:
            figures["semantic"] = 1 - semantic_loss(semantic, self.semantic.wanted(image))
        return {name: float(value) for name, value in figures.items()}

    def _set_rates(self) -> None:
        """Warm up, stay at the peak, and fall to zero at the end: a run can be prolonged."""
        warm = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        left = (1.0 - self.progress) / max(self.options.decay_share, 1e-9)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * warm * max(0.005, min(1.0, left))

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential moving average: steadier than the last step's weights."""
        decay = min(0.999, (self.step + 1) / (self.step + 10))
        pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
        for average, current in pairs:
            average.lerp_(current, 1 - decay)
        for kept, current in zip(self.average.buffers(), self.model.buffers(), strict=True):
            kept.copy_(current)

    def _log(self, figures: Mapping[str, float]) -> None:
        if not processes.is_first():
            return
        line = {"step": self.step, "seconds": round(self.seconds, 1), "images": self.images}
        with (self.out / "training.jsonl").open("a") as file:
            rounded = {name: round(value, 5) for name, value in figures.items()}
            file.write(json.dumps({**line, **rounded}) + "\n")

    def save(self) -> None:
        """Write `checkpoint.pt` (to resume) and `segmenter.pt` (averaged weights) atomically."""
        if not processes.is_first():
            return
        averaged = {"model": self.average.state_dict(), **self._facts()}
        save_atomically(self.out / "segmenter.pt", averaged)
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "semantic": self.semantic.classes.state() if self.semantic else None,
            **self._facts(),
        }
        save_atomically(self.out / "checkpoint.pt", state)

    def _facts(self) -> dict:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "images": self.images,
            "options": asdict(self.options),
            "backbone": self.pretrained,
            "data": describe_data(self.data),
            "machine": describe_machine(self.device),
        }

    def resume(self) -> bool:
        """Continue from `checkpoint.pt` in `out`, if there is one.

        Raises:
            InputError: if the file is damaged or belongs to another model.
            OptionError: if the run had pretrained weights, and none are given now.
        """
        file = self.out / "checkpoint.pt"
        if not file.is_file():
            return False
        state = load_checkpoint(file, self.device)
        if state.get("backbone") and self.semantic is None:
            raise OptionError(f"{file}: this run has --pretrained, which teaches its semantic map")
        peaks = [group["peak"] for group in self.optimizer.param_groups]
        try:
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.semantic and state.get("semantic"):
                self.semantic.classes.restore(state["semantic"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(f"{file}: not a checkpoint of this model ({error})") from error
        for group, peak in zip(self.optimizer.param_groups, peaks, strict=True):
            group["peak"] = peak  # of this part of the run, not of the one before
        self.step, self.seconds, self.images = state["step"], state["seconds"], state["images"]
        return True


def start_from(model: NanoSegmenter, weights: Mapping[str, Tensor]) -> None:
    """Fill a model with given weights; shapes may differ where their sizes agree.

    Raises:
        InputError: if a weight is missing, or of another size.
    """
    state = model.state_dict()
    try:
        model.load_state_dict({n: weights[n].reshape(state[n].shape) for n in state})
    except (KeyError, RuntimeError) as error:
        raise InputError(f"the weights to start from are another model's ({error})") from error


def _loss(decoded: tuple[Tensor, Tensor], targets: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and IoU `[B N, M]` of logits `[B, N, M, h, w]` and predicted IoU `[B, N, M]`."""
    logits, predicted = decoded
    return segmenter_loss(logits.flatten(0, 1), predicted.flatten(0, 1), targets.flatten(0, 1))


def _best(logits: Tensor, predicted: Tensor) -> Tensor:
    """The mask of the highest predicted IoU, `[B, N, h, w]`."""
    index = predicted.argmax(2)[:, :, None, None, None].expand(-1, -1, 1, *logits.shape[-2:])
    return logits.gather(2, index)[:, :, 0]


def add_clicks(
    coords: Tensor,
    labels: Tensor,
    logits: Tensor,
    goal: Tensor,
    rngs: Sequence[np.random.Generator | None],
) -> tuple[Tensor, Tensor]:
    """Add a `corrective_click` to prompts `[B, N, K, 2]`, `[B, N, K]`: `K + 1` points."""
    samples = zip((logits > 0).cpu().numpy(), (goal > 0.5).cpu().numpy(), rngs, strict=True)
    clicks = [
        corrective_click(mask, target, rng)
        for masks, targets, rng in samples
        for mask, target in zip(masks, targets, strict=True)
    ]
    added = torch.tensor(clicks, device=coords.device).reshape(*coords.shape[:2], 1, 3)
    return torch.cat([coords, added[..., :2]], 2), torch.cat([labels, added[..., 2]], 2)


def _disturb(logits: Tensor, goal: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Replace some masks by the target, moved, as the last mask of a thing in a video is."""
    shifted = [
        torch.roll(2 * target - 1, rng.integers(-4, 5, 2).tolist(), (1, 2)) * rng.uniform(2, 8)
        for target, rng in zip(goal, rngs, strict=True)
    ]
    moved = F.avg_pool2d(torch.stack(shifted), 3, 1, 1)
    replaced = _draw(logits.shape[1], rngs, 0.2).to(logits.device)
    return torch.where(replaced[..., None, None], moved, logits)


def _draw(count: int, rngs: Sequence[np.random.Generator], share: float) -> Tensor:
    """Choose about a share of `count` things of each sample, bool `[B, count]`."""
    return torch.from_numpy(np.stack([rng.random(count) for rng in rngs]) < share)
