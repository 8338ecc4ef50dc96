"""The training of `nano`: segmenter and Prompt Predictor together, on CPU cores or a GPU."""

import copy
import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from aopsam_ros.errors import DatasetError, InputError, OptionError
from aopsam_ros.models.checkpoints import save_atomically
from aopsam_ros.models.efficientnet_lite import IMAGENET_MEAN, IMAGENET_STD, load_imagenet
from aopsam_ros.models.nano import NanoSegmenter
from aopsam_ros.models.nano_decoder import MASKS, EncodedFrame, MaskInput
from aopsam_ros.models.prompt_predictor import EXTENT_UNIT
from aopsam_ros.training.batches import (
    POINTS,
    Batch,
    BatchOptions,
    SegmenterBatches,
    WeightedDataset,
    describe_data,
    normalise,
)
from aopsam_ros.training.loop import processes
from aopsam_ros.training.loop.loader import to_device
from aopsam_ros.training.loop.precision import gains_by_bf16, keep_depthwise_in_fp32
from aopsam_ros.training.loop.trainer import Trainer, TrainingData, start_from
from aopsam_ros.training.losses import confidence_loss, extent_iou, extent_loss, segmenter_loss
from aopsam_ros.training.options import COARSEST_STRIDE, SegmenterTrainingOptions
from aopsam_ros.training.prompt_sampling import corrective_click
from aopsam_ros.training.semantic_losses import TEACHER_VIEWS, SemanticLosses, semantic_loss

FROZEN_BLOCKS = 3  # the backbone's first ones, which stay as pretrained
VALIDATION_BATCHES = 12
CACHED_BYTES = 3 << 30  # of decoded images, of all loaders of a process
SINGLE, MULTIPLE = slice(0, 1), slice(1, MASKS)  # the decoder's outputs
WARM_UP_STEPS = 200

_LOGGER = logging.getLogger(__name__)


def view_shapes(longest: int) -> tuple[tuple[int, int], ...]:
    """Heights and widths of training views: square, and as cameras have them, both ways."""
    shorter = round(0.75 * longest / COARSEST_STRIDE) * COARSEST_STRIDE
    return ((longest, longest), (shorter, longest), (longest, shorter))


class SegmenterLosses(NamedTuple):
    """The loss of a batch, its weighted parts by name, and mean IoUs for the log."""

    loss: Tensor
    parts: dict[str, Tensor]
    ious: dict[str, float]


class SegmenterTrainer(Trainer):
    """Trains until all views are seen, and averages the weights.

    Args:
        options: of the run.
        data: to train on.
        out: folder of checkpoints and `training.jsonl`.
        pretrained: ImageNet weights of the backbone; None: from nothing, and the semantic map
            learns nothing.
        held_out: data to validate on.
        start: weights to start from, by name; None: from the pretrained backbone only.
    """

    title, unit, checkpoint = "train-segmenter", "view", "checkpoint.pt"
    save_seconds, validate_seconds = 240.0, 900.0
    max_norm = 3.0
    options: SegmenterTrainingOptions
    model: NanoSegmenter

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
        model = NanoSegmenter(options.backbone)
        if pretrained is not None:
            load_imagenet(model.encoder.backbone, pretrained)
        teacher = copy.deepcopy(model.encoder.backbone).eval().requires_grad_(False)
        if start is not None:
            start_from(model, start)
        model.encoder.backbone.freeze(FROZEN_BLOCKS)
        super().__init__(options, model.to(memory_format=torch.channels_last), out, options.views)
        self.training, self.held_out = data, held_out or []
        self.data = TrainingData(self._batches, describe_data(data), lambda _: self.measure())
        backbone = list(self.model.encoder.backbone.parameters())
        known = set(backbone)
        fresh = [p for p in self.model.parameters() if p not in known]
        learning = [p for p in backbone if p.requires_grad]
        groups = [
            {"params": fresh, "peak": options.learning_rate},
            {"params": learning, "peak": options.backbone_rate},
        ]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.02)
        if not options.backbone_rate:  # stays in the optimiser: a run may go on with a rate
            self.model.encoder.backbone.requires_grad_(requires_grad=False)
        self.pretrained = pretrained.name if pretrained else None
        self.semantic: SemanticLosses | None = None
        if pretrained is not None:
            views = TEACHER_VIEWS // processes.count()
            self.semantic = SemanticLosses(teacher.to(self.device), views)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.images = 0
        is_faster = gains_by_bf16(self.device)
        self.in_bf16 = {"auto": is_faster, "bf16": True}.get(options.precision, False)
        if self.in_bf16 and self.device.type == "cpu":
            keep_depthwise_in_fp32(self.model.encoder)
        self.mean = torch.tensor(IMAGENET_MEAN, device=self.device)
        self.std = torch.tensor(IMAGENET_STD, device=self.device)

    @property
    def progress(self) -> float:
        """Share of the views that are seen, 0-1."""
        return min(1.0, self.images / self.options.views)

    def phase(self) -> int:
        """Return the longest side of the crops."""
        full = self.progress >= 1.0 - self.options.full_share
        return self.options.image_size if full else self.options.canvas

    def _batches(self, seed: int) -> SegmenterBatches:
        options = BatchOptions(
            self.options.image_size, view_shapes(self.phase()), self.options.batch_size,
            surfaces=self.options.surfaces,
        )  # fmt: skip
        return SegmenterBatches(
            self.training, options, seed, CACHED_BYTES // max(1, self.options.loaders)
        )

    def train_step(self, batch: Batch) -> dict[str, float]:  # type: ignore[override]
        """See `Trainer`; updates the average."""
        figures = super().train_step(batch)
        self.images += self.options.batch_size
        self._update_average()
        return figures

    def figures_of(self, found: SegmenterLosses) -> dict[str, float]:
        """Return the mean IoUs, and the losses by name."""
        averaged = {name: processes.average(part).item() for name, part in found.parts.items()}
        return {**found.ious, **averaged}

    def forward(self, batch: Batch) -> SegmenterLosses:
        """See `Trainer`."""
        batch, model = to_device(batch, self.device), self.model
        image = self._image(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.in_bf16):
            encoded = model.encoder(image)
        embedding, semantic = (features.float() for features in encoded)
        frame = model.decoder.encode_frame(embedding)
        targets = batch.targets.float() / 255.0
        losses, ious = self._prompt_losses(frame, batch, targets)
        trunk, log_extents = model.predictor.coarse(embedding)
        confidence = torch.sigmoid(model.predictor.logits(image, trunk))
        wanted = batch.confidence.float() / 255.0
        losses["confidence"] = 4.0 * confidence_loss(confidence, wanted, batch.known)
        extents, weights = batch.extents, batch.extent_weights
        losses["extents"] = 0.5 * extent_loss(log_extents, extents, weights, EXTENT_UNIT)
        if self.semantic is not None:
            losses |= self.semantic(image, semantic, targets, batch.classes)
        return SegmenterLosses(sum(losses.values()), losses, ious)

    def _image(self, batch: Batch) -> Tensor:
        image = normalise(batch.images, batch.sizes, self.mean, self.std)
        return image.contiguous(memory_format=torch.channels_last)

    def _prompt_losses(
        self, frame: EncodedFrame, batch: Batch, targets: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        decoder, seed = self.model.decoder, [self.options.seed, self.step]
        # One for each sample: what is drawn is the same in however many processes.
        places = processes.share(range(self.options.batch_size))
        rngs = [np.random.default_rng([*seed, place]) for place in places]
        coords, labels = batch.coords, batch.labels
        ambiguous = decoder.decode_masks(
            frame, coords[:, :POINTS, :1], labels[:, :POINTS, :1], outputs=MULTIPLE
        )
        unambiguous = decoder.decode_masks(
            frame, coords[:, POINTS:], labels[:, POINTS:], outputs=SINGLE
        )
        loss_points, iou_points = _loss(ambiguous, targets[:, :POINTS])
        loss_boxes, iou_boxes = _loss(unambiguous, targets[:, POINTS:])
        losses = {"points": loss_points, "boxes": loss_boxes}
        figures = {
            "iou": iou_points.max(1).values.mean().item(), "iou_box": iou_boxes.mean().item()
        }  # fmt: skip
        # Half of the prompts of each kind are refined twice.
        chosen = torch.arange(0, coords.shape[1], 2)
        logits = torch.cat([_best(*ambiguous), unambiguous[0][:, :, 0]], 1).detach()[:, chosen]
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
    def measure(self) -> dict[str, float]:
        """Mean figures of the averaged weights on held-out photographs, always the same prompts.

        Returns:
            IoU of the `best` of three masks and of the one `chosen` by predicted IoU, for the
            innermost point; of a tight `box`; after one and two corrective clicks; of extents at
            innermost points; the semantic map's cosine with the teacher. At the decoder's
            resolution, so higher than `aopsam evaluate` says; {} without held-out data, or where
            nothing of it can be prompted.
        """
        if not self.held_out:
            return {}
        size = self.options.image_size
        options = BatchOptions(size, ((size, size),), self.options.batch_size, validates=True)
        batches = iter(SegmenterBatches(self.held_out, options, seed=0))
        try:
            rows = [self._measure_batch(b) for b in itertools.islice(batches, VALIDATION_BATCHES)]
        except (DatasetError, InputError) as error:
            _LOGGER.warning("the held-out images measure nothing: %s", error)
            return {}
        return {f"held_out_{k}": float(np.mean([row[k] for row in rows])) for k in rows[0]}

    def _measure_batch(self, batch: Batch) -> dict[str, float]:
        batch, model = to_device(batch, self.device), self.average
        image = self._image(batch)
        embedding, semantic = model.encoder(image)
        frame = model.decoder.encode_frame(embedding)
        coords, labels = batch.coords, batch.labels
        targets = batch.targets.float() / 255.0
        single, goal = (coords[:, :POINTS], labels[:, :POINTS]), targets[:, :POINTS]
        logits, predicted = model.decoder.decode_masks(frame, *single, outputs=MULTIPLE)
        _, iou = _loss((logits, predicted), goal)
        choice = predicted.flatten(0, 1).argmax(1, keepdim=True)
        figures = {"best": iou.max(1).values.mean(), "chosen": iou.gather(1, choice).mean()}
        boxes = model.decoder.decode_masks(
            frame, coords[:, POINTS:], labels[:, POINTS:], outputs=SINGLE
        )
        figures["box"] = _loss(boxes, targets[:, POINTS:])[1].mean()
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
        weight = batch.extent_weights
        overlap = extent_iou(EXTENT_UNIT * torch.exp(extents), batch.extents)
        figures["extents"] = (overlap * weight).sum() / weight.sum().clamp(min=1e-6)
        if self.semantic is not None:
            figures["semantic"] = 1 - semantic_loss(semantic, self.semantic.wanted(image))
        return {name: float(value) for name, value in figures.items()}

    def set_rates(self) -> None:
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

    def log(self, figures: Mapping[str, float]) -> None:
        """See `Trainer`."""
        super().log({"images": self.images, "canvas": self.phase(), **figures})

    def save(self) -> None:
        """Write the checkpoint, and the averaged weights as `segmenter.pt`."""
        super().save()
        if processes.is_first():
            left_out = ("optimizer", "average", "semantic")
            facts = {name: fact for name, fact in self.state().items() if name not in left_out}
            averaged = {**facts, "model": self.average.state_dict()}
            save_atomically(self.out / "segmenter.pt", averaged)

    def state(self) -> dict[str, Any]:
        """See `Trainer`."""
        return {
            **super().state(),
            "average": self.average.state_dict(),
            "semantic": self.semantic.classes.state() if self.semantic else None,
            "images": self.images,
            "backbone": self.pretrained,
        }

    def restore(self, file: Path, state: Mapping[str, Any]) -> None:
        """See `Trainer`; raises `OptionError` if the run's pretrained weights are not given now."""
        if state.get("backbone") and self.semantic is None:
            raise OptionError(f"{file}: this run has --pretrained, which teaches its semantic map")
        peaks = [group["peak"] for group in self.optimizer.param_groups]
        super().restore(file, state)
        for group, peak in zip(self.optimizer.param_groups, peaks, strict=True):
            group["peak"] = peak  # of this part of the run, not of the one before
        self.average.load_state_dict(state["average"])
        if self.semantic and state.get("semantic"):
            self.semantic.classes.restore(state["semantic"])
        self.images = int(state["images"])


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
