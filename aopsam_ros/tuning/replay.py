"""Segmenting photographs again and again with other options, from what was decoded before.

No option changes what the graphs give: options decide which prompts are decoded, and what becomes
of their masks. So each photograph is encoded once and each prompt decoded once, when the first
trial needs it; what becomes of the masks is the segmenter's own code. Small holes and islands stay
(`mask.min_hole_area`, `mask.min_island_…`): masks would have to be upscaled in every trial.
"""

import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.labelled_images import InstanceDataset
from aopsam_ros.engines.base import Decoded
from aopsam_ros.errors import DatasetError
from aopsam_ros.evaluation.images import EvaluationImage, read_image
from aopsam_ros.evaluation.panoptic import mostly_unlabelled
from aopsam_ros.masks.iou import Crop, crop_of, pairwise_iou
from aopsam_ros.masks.rle import decode
from aopsam_ros.masks.selection import MASK_THRESHOLD
from aopsam_ros.masks.suppression import SUPPRESSION
from aopsam_ros.masks.upscaling import Upscaler
from aopsam_ros.options import MaskOptions, SegmenterOptions
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.prompting.features import FeatureMap
from aopsam_ros.prompting.prompts import FrameInput
from aopsam_ros.segmentation.decoding_loop import DecodedPrompts, as_decoder_input, decode_prompts
from aopsam_ros.segmentation.segmenter import FrameEmbedding, Segmenter
from aopsam_ros.segmentation.time_budget import Stopwatch, TimeBudget
from aopsam_ros.tuning.score import Score


@dataclass(frozen=True)
class CachedPrompt:
    """What decoding one prompt gave, as far as a trial needs it."""

    predicted_iou: NDArray[np.float32]  # float32 `[3]`
    # For each of the 3 masks, compressed, one bit for each logit above -offset, 0 and offset, the
    # offset of the stability score: uint8 `[3 thresholds, bytes]`. A grid's would fill the memory.
    levels: tuple[bytes, ...]
    iou: NDArray[np.float64]  # with each instance, at the source's size, float64 `[3, T]`
    area: NDArray[np.int64]  # source pixels, int64 `[3]`
    unlabelled: NDArray[np.bool_]  # whether it lies mostly on unlabelled pixels, bool `[3]`


@dataclass(frozen=True)
class CachedPhotograph:
    """What one photograph's encoding gave, and the prompts decoded on it so far."""

    place: tuple[int, int]  # number of its data set, and index there
    instances: int  # how many instances it has
    frame: FrameInput  # what the prompt source gets; features are there for filtering as well
    prompts: dict[bytes, CachedPrompt] = field(default_factory=dict)  # decoded so far, by `_key`


class _Encoded(NamedTuple):
    """The last photograph: its place, what prompts are decoded on, its instances, and cut out."""

    place: tuple[int, int]
    frame: FrameEmbedding
    ground_truth: Sequence[NDArray[np.bool_]]
    instances: list[Crop]


class Replay:
    """A segmenter, and what it gave for photographs.

    Where a prompt was not decoded before, its photograph is read and encoded again: embeddings are
    too large to be kept, and an engine may hold only one.
    """

    def __init__(self, segmenter: Segmenter, datasets: Sequence[InstanceDataset]) -> None:
        """Begin with nothing cached; trials must keep masks of all levels, and merge none."""
        self._segmenter, self._datasets = segmenter, datasets
        self._last: _Encoded | None = None

    def encode(
        self, photograph: EvaluationImage, number: int, boxes: Boxes | None
    ) -> CachedPhotograph:
        """Encode a photograph of the data set of that number, and keep what options may need."""
        segmenter, source = self._segmenter, self._segmenter.source
        last = self._encode(photograph, (number, photograph.index))
        frame = last.frame
        confidence_map = extent_map = features = None
        if source.needs_confidence_map:
            confidence_map, extent_map = segmenter.engine.predict(frame.image.tensor, frame.handle)
        if source.needs_features:
            features = segmenter.source_features(frame)
        elif source.adaptive:
            features = segmenter.features(frame)
        seen = FrameInput(
            frame.geometry, segmenter.options, confidence_map, extent_map, features, boxes
        )
        return CachedPhotograph(last.place, len(last.instances), seen)

    def run(self, cached: CachedPhotograph, options: SegmenterOptions) -> Score:
        """Segment a photograph, and compare with its instances.

        The time budget is ignored: a look-up takes no time that would mean anything. So are
        `boxes.refine` and `mask.refine`: what a mask becomes is not cached.
        """
        untimed = replace(options, asf=replace(options.asf, time_budget_ms=0))
        frame = replace(cached.frame, options=untimed)
        decoded = decode_prompts(
            self._segmenter.source.propose(frame),
            functools.partial(self._decode, cached),
            lambda: cast("FeatureMap", frame.features),
            frame.geometry,
            replace(self._segmenter.limits_of(options), box_passes=0, own_box_passes=0),
            untimed,
            Stopwatch(),
            TimeBudget(),
        )
        return Score.of(*_kept_masks(cached, decoded, options.mask), decoded.num_decoded)

    def forget(self) -> None:
        """Have the next photograph encoded anew: the segmenter encoded others since."""
        self._last = None

    def _decode(
        self, cached: CachedPhotograph, coords: NDArray[np.float64], labels: NDArray[np.float32]
    ) -> Decoded:
        """Return the masks of prompts; decode those that no trial needed before."""
        bundle, keys = self._segmenter.bundle, list(map(_key, coords, labels))
        missing = [row for row, key in enumerate(keys) if key not in cached.prompts]
        if missing:
            last = self._open(cached)
            upscale = Upscaler(cached.frame.geometry, bundle.low_res_mask_size)
            found = self._segmenter.decode(last.frame, coords[missing], labels[missing])
            fixed = bundle.stability_offset, upscale, last.ground_truth, last.instances
            for row, logits, predicted_iou in zip(missing, *found, strict=True):
                cached.prompts[keys[row]] = cache_prompt(logits, predicted_iou, *fixed)
        prompts = [cached.prompts[key] for key in keys]
        return CachedMasks(prompts, bundle.low_res_mask_size, bundle.stability_offset)

    def _open(self, cached: CachedPhotograph) -> _Encoded:
        if self._last is not None and self._last.place == cached.place:
            return self._last
        number, index = cached.place
        photograph = read_image(self._datasets[number], index)
        if photograph is None:
            raise DatasetError(f"{self._datasets[number].path}: changed while it was used")
        return self._encode(photograph, cached.place)

    def _encode(self, photograph: EvaluationImage, place: tuple[int, int]) -> _Encoded:
        frame = self._segmenter.encode(photograph.rgb)
        instances = [crop_of(mask) for mask in photograph.ground_truth]
        self._last = _Encoded(place, frame, photograph.ground_truth, instances)
        return self._last


class CachedMasks:
    """Cached prompts as `Decoded`: logits on the right side of each threshold."""

    def __init__(self, prompts: Sequence[CachedPrompt], size: int, offset: float) -> None:
        """Stand for N prompts with logits `[N, 3, size, size]`."""
        self._prompts, self._size = prompts, size
        self.predicted_iou = np.stack([prompt.predicted_iou for prompt in prompts])
        # By how many of the three thresholds a logit was above.
        self._values = np.array([-offset - 1, -offset / 2, offset / 2, offset + 1], np.float32)

    def logits(self, prompts: NDArray[np.int64], masks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits `[n, M, M]` that pass the same thresholds as the model's."""
        shape = (len(prompts), self._size, self._size)
        if len(prompts) == 0:
            return np.zeros(shape, np.float32)
        pairs = zip(prompts.tolist(), masks.tolist(), strict=True)
        packed = b"".join(zlib.decompress(self._prompts[p].levels[mask]) for p, mask in pairs)
        levels = np.frombuffer(packed, np.uint8).reshape(len(prompts), 3, -1)
        bits = np.unpackbits(levels, axis=2, count=self._size**2)
        return self._values[bits.sum(axis=1, dtype=np.uint8)].reshape(shape)


def cache_prompt(
    logits: NDArray[np.float32],
    predicted_iou: NDArray[np.float32],
    offset: float,
    upscale: Upscaler,
    ground_truth: Sequence[NDArray[np.bool_]],
    instances: Sequence[Crop],
) -> CachedPrompt:
    """Keep what decoding one prompt gave: logits `[3, M, M]` and predicted IoU `[3]`.

    `offset` is that of the stability score, in logits; `ground_truth` has the photograph's
    instances, bool `[H, W]`, and `instances` the same cut out.
    """
    thresholds = (MASK_THRESHOLD - offset, MASK_THRESHOLD, MASK_THRESHOLD + offset)
    flat = logits.reshape(len(logits), -1)
    packed = [np.packbits(flat > threshold, axis=1) for threshold in thresholds]
    full = [Crop(mask.bbox, decode(mask), mask.area) for mask in upscale(logits)]
    return CachedPrompt(
        predicted_iou=predicted_iou.copy(),
        levels=tuple(zlib.compress(bits, level=1) for bits in np.stack(packed, axis=1)),
        iou=pairwise_iou(full, instances),
        area=np.array([crop.area for crop in full], np.int64),
        unlabelled=mostly_unlabelled(full, ground_truth),
    )


def _key(coords: NDArray[np.float64], labels: NDArray[np.float32]) -> bytes:
    """Return what tells a prompt of points `[K, 2]` and labels `[K]` from all others."""
    return coords.tobytes() + labels.tobytes()


def _kept_masks(
    cached: CachedPhotograph, decoded: DecodedPrompts, options: MaskOptions
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Resolve overlaps; return what the masks that are left are worth.

    Returns:
        Their IoU with the ground truth, `[masks, T]`, and which lie mostly on unlabelled pixels.
    """
    every = decoded.masks
    binary = every.binary(*cached.frame.geometry.valid_cells(every.logits.shape[-1]))
    suppress = SUPPRESSION[options.combine]
    masks = every.take(suppress(binary, every.score, options.overlap_threshold))
    keys = list(map(_key, *as_decoder_input(decoded.prompts, masks.prompt)))
    pairs = zip(keys, masks.candidate.tolist(), strict=True)
    found = [(cached.prompts[key], candidate) for key, candidate in pairs]
    kept = [(prompt, i) for prompt, i in found if prompt.area[i] >= max(1, options.min_area)]
    iou = np.array([prompt.iou[i] for prompt, i in kept]).reshape(-1, cached.instances)
    return iou, np.array([prompt.unlabelled[i] for prompt, i in kept], np.bool_)
