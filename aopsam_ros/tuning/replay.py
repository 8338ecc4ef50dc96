"""Runs the pipeline on recorded photographs: the same code, with answers that are looked up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import Bundle
from aopsam_ros.data.datasets import InstanceDataset
from aopsam_ros.engines.base import Decoded
from aopsam_ros.errors import DatasetError
from aopsam_ros.evaluation.images import EvaluationImage, read_image
from aopsam_ros.evaluation.metrics import Crop, closest, crop_of, one_to_one
from aopsam_ros.geometry import PreprocessedImage
from aopsam_ros.masks.merging import combine
from aopsam_ros.masks.upscaling import Upscaler
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.prompting.features import FeatureMap
from aopsam_ros.prompting.prompts import PromptSource
from aopsam_ros.segmentation.decoding_loop import Rounds
from aopsam_ros.segmentation.frame_segmentation import decode_frame
from aopsam_ros.segmentation.promptable import FrameEmbedding, PromptableModel
from aopsam_ros.segmentation.stopwatch import Stopwatch
from aopsam_ros.segmentation.time_budget import Pace
from aopsam_ros.tuning.recording import (
    RecordedMasks,
    Recording,
    prompt_key,
    record_prompt,
)

_DECODED_AT_ONCE = 16
_NO_IMAGE = np.zeros((0,), np.float32)


@dataclass(frozen=True)
class Replayed:
    """What one photograph comes to with some options; the fields as in `ImageFigures`."""

    one_to_one: float
    closest: float
    masks: int
    decoder_calls: int


@dataclass(frozen=True)
class _Opened:
    """What decoding a photograph's prompts takes; its embedding and its instances."""

    frame: FrameEmbedding
    ground_truth: list[Crop]

    @classmethod
    def of(cls, frame: FrameEmbedding, photograph: EvaluationImage) -> _Opened:
        return cls(frame, [crop_of(mask) for mask in photograph.ground_truth])


class Replay:
    """A model, a prompt source, and recordings of photographs; decodes what none asked before.

    A photograph whose recording lacks a prompt is read and encoded again: embeddings are too large
    to be kept, and an engine may hold one only.
    """

    def __init__(
        self, model: PromptableModel, source: PromptSource, datasets: Sequence[InstanceDataset]
    ) -> None:
        """Put the parts together; the source must not merge masks."""
        self._model, self._source, self._datasets = model, source, datasets
        self._open: tuple[Recording, _Opened] | None = None

    def record(self, photograph: EvaluationImage, number: int, boxes: Boxes | None) -> Recording:
        """Encode a photograph, of the data set of that number, and keep what options may use."""
        frame = self._model.encode(photograph.rgb, Stopwatch())
        source, model = self._source, self._model
        recording = Recording(
            place=(number, photograph.index),
            geometry=frame.geometry,
            instances=len(photograph.ground_truth),
            confidence_map=model.confidence_map(frame) if source.needs_confidence_map else None,
            features=model.features(frame) if source.adaptive or source.needs_features else None,
            boxes=boxes,
        )
        self._open = recording, _Opened.of(frame, photograph)
        return recording

    def run(self, recording: Recording, options: SegmenterOptions) -> Replayed:
        """Segment a recorded photograph, and compare with its true masks.

        The time budget plays no part: looking up takes no time that would mean anything.
        """
        untimed = replace(options, asf=replace(options.asf, time_budget_ms=0))
        # The recording stands where an engine's own handle would.
        frame = FrameEmbedding(PreprocessedImage(_NO_IMAGE, recording.geometry), recording)
        rounds, _ = decode_frame(
            _Answers(self), self._source, frame, untimed, recording.boxes, Stopwatch()
        )
        iou = _kept_iou(recording, rounds, options)
        return Replayed(one_to_one(iou), closest(iou), len(iou), rounds.decoder_calls)

    @property
    def model(self) -> PromptableModel:
        """The model that answers what is not recorded."""
        return self._model

    def complete(
        self, recording: Recording, coords: NDArray[np.float64], labels: NDArray[np.float32]
    ) -> None:
        """Decode prompts `[N, K, 2]`, `[N, K]` that the recording lacks."""
        opened = self._opened(recording)
        bundle = self._model.bundle
        upscale = Upscaler(recording.geometry, bundle.low_res_mask_size)
        step = min(_DECODED_AT_ONCE, self._model.largest_batch or _DECODED_AT_ONCE)
        for start in range(0, len(coords), step):
            some, kinds = coords[start : start + step], labels[start : start + step]
            logits, predicted_iou = self._model.decode_all(opened.frame, some, kinds)
            for row, key in enumerate(map(prompt_key, some, kinds)):
                recording.prompts[key] = record_prompt(
                    logits[row],
                    predicted_iou[row],
                    bundle.stability_offset,
                    upscale,
                    opened.ground_truth,
                )

    def _opened(self, recording: Recording) -> _Opened:
        """Return a photograph's embedding and its true masks; only the last one is kept."""
        if self._open is None or self._open[0] is not recording:
            number, index = recording.place
            photograph = read_image(self._datasets[number], index)
            if photograph is None:
                raise DatasetError(f"{self._datasets[number].path}: changed while it was used")
            frame = self._model.encode(photograph.rgb, Stopwatch())
            self._open = recording, _Opened.of(frame, photograph)
        return self._open[1]


class _Answers:
    """A `FrameModel` whose answers are those of the recordings."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self.pace = Pace()

    @property
    def bundle(self) -> Bundle:
        return self._replay.model.bundle

    @property
    def largest_batch(self) -> int | None:
        return self._replay.model.largest_batch

    def confidence_map(self, frame: FrameEmbedding) -> NDArray[np.float32]:
        found: NDArray[np.float32] = frame.handle.confidence_map
        return found

    def features(self, frame: FrameEmbedding) -> FeatureMap:
        found: FeatureMap = frame.handle.features
        return found

    def decode(self, frame: FrameEmbedding, coords: NDArray[Any], labels: NDArray[Any]) -> Decoded:
        recording: Recording = frame.handle
        keys = list(map(prompt_key, coords, labels))
        missing = [row for row, key in enumerate(keys) if key not in recording.prompts]
        if missing:
            self._replay.complete(recording, coords[missing], labels[missing])
        prompts = [recording.prompts[key] for key in keys]
        return RecordedMasks(prompts, self.bundle.low_res_mask_size, self.bundle.stability_offset)


def _kept_iou(
    recording: Recording, rounds: Rounds, options: SegmenterOptions
) -> NDArray[np.float64]:
    """Resolve overlaps and return the IoU of what is left with the truth, `[masks, truth]`."""
    valid = rounds.geometry.valid_cells(rounds.low_size)
    masks = combine(rounds.masks(), valid, options.mask).masks
    least, rows = max(1, options.mask.min_area), []
    for prompt, candidate in zip(masks.prompt.tolist(), masks.candidate.tolist(), strict=True):
        points = rounds.prompts
        recorded = recording.prompts[prompt_key(points.coords[prompt], points.labels[prompt])]
        if recorded.area[candidate] >= least:
            rows.append(recorded.iou[candidate])
    return np.stack(rows) if rows else np.zeros((0, recording.instances))
