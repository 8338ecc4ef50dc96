"""A decoder in three modules: what is done once a frame, once a prompt, and for masks to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from aopsam_ros.bundle.loading import FRAME_PART, MASK_PART, PROMPT_PART
from aopsam_ros.errors import BundleError
from aopsam_ros.models.onnx_graphs import LARGEST_DIFFERENCE, GraphPlan

PROMPTS, POINTS = "prompts", "points"  # the names of a decoder's dynamic sizes
Tensors = Mapping[str, Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class SplitDecoder:
    """Three modules that give what the whole decoder gives; tensors go by name between them.

    Args:
        frame: embedding to the tensors named `shared`.
        prompts: tensors named `prompts_need`, coordinates `[N, K, 2]` and labels `[N, K]` to
            predicted IoU `[N, 3]` and codes, `[N, 3, ...]` if `is_per_mask`, else `[N, ...]`.
        masks: tensors named `masks_need`, and codes: of masks, `[n, ...]`, to their logits
            `[n, M, M]`, or of prompts, to those of their three masks, `[n, 3, M, M]`.
        shared: names of the frame's outputs.
        prompts_need: which of them the prompts need.
        masks_need: which of them the masks need.
        codes: names of the codes, each with further dynamic axes.
        is_per_mask: whether a code is a mask's or a prompt's.
    """

    frame: nn.Module
    prompts: nn.Module
    masks: nn.Module
    shared: tuple[str, ...]
    prompts_need: tuple[str, ...]
    masks_need: tuple[str, ...]
    codes: Mapping[str, Mapping[int, str]]
    is_per_mask: bool

    def share(self, embedding: Tensor) -> dict[str, Tensor]:
        """Make what all prompts share."""
        return dict(zip(self.shared, self.frame(embedding), strict=True))

    def decode(self, inputs: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        """Return predicted IoU and codes of prompts."""
        iou, *codes = self.prompts(*inputs.values())
        return iou, dict(zip(self.codes, codes, strict=True))

    def plans(self, embeddings: Sequence[Tensor], prompts: Sequence[Tensors]) -> list[GraphPlan]:
        """Plan the three graphs.

        Args:
            embeddings: that the samples are made of; axes in which they differ are dynamic.
            prompts: coordinates and labels by name, as many samples for each.
        """
        with torch.no_grad():
            frames = [self.share(embedding) for embedding in embeddings]
            asked = [
                {**_those(frame, self.prompts_need), **sample}
                for frame in frames
                for sample in prompts
            ]
            drawn = [
                {**_those(frame, self.masks_need), **self._to_draw(self.decode(sample)[1])}
                for frame, sample in zip(_each(frames, len(prompts)), asked, strict=True)
            ]
            logits = [self.masks(*sample.values()) for sample in drawn[:: len(prompts)]]
        sides = {name: open_axes(name, [frame[name] for frame in frames]) for name in self.shared}
        points = {name: {0: PROMPTS, 1: POINTS} for name in prompts[0]}
        each = {name: {0: PROMPTS, **axes} for name, axes in self.codes.items()}
        given = {"embedding": open_axes("embedding", embeddings), **sides}
        found = {**points, **each, "predicted_iou": {0: PROMPTS}}
        masks = {"low_res_logits": {**open_axes("low_res_logits", logits), 0: PROMPTS}}
        return [
            GraphPlan(FRAME_PART, self.frame, self.shared, _named("embedding", embeddings), given),
            GraphPlan(
                PROMPT_PART,
                self.prompts,
                ("predicted_iou", *self.codes),
                asked,
                {**_those(sides, self.prompts_need), **found},
            ),
            GraphPlan(
                MASK_PART,
                self.masks,
                ("low_res_logits",),
                drawn,
                {**_those(sides, self.masks_need), **each, **masks},
            ),
        ]

    def compare(self, whole: nn.Module, embedding: Tensor, prompts: Sequence[Tensors]) -> None:
        """Compare with the whole decoder.

        Raises:
            BundleError: The largest absolute difference of an output is above 1e-3.
        """
        with torch.no_grad():
            shared = self.share(embedding)
            for sample in prompts:
                wanted = whole(embedding, *sample.values())
                iou, codes = self.decode({**_those(shared, self.prompts_need), **sample})
                needed = _those(shared, self.masks_need).values()
                logits = self.masks(*needed, *self._to_draw(codes).values())
                _compare((logits.reshape(wanted[0].shape), iou), wanted)

    def _to_draw(self, codes: Tensors) -> dict[str, Tensor]:
        """Return the codes of all masks, as they are drawn."""
        if not self.is_per_mask:
            return dict(codes)
        return {name: code.flatten(0, 1) for name, code in codes.items()}


def open_axes(name: str, tensors: Sequence[Tensor]) -> dict[int, str]:
    """Name the axes in which tensors of the same name differ."""
    first, *others = [tensor.shape for tensor in tensors]
    return {
        axis: f"{name}_{axis}"
        for axis, size in enumerate(first)
        if any(shape[axis] != size for shape in others)
    }


def _those(values: Mapping[str, T], names: Sequence[str]) -> dict[str, T]:
    return {name: values[name] for name in names}


def _named(name: str, tensors: Sequence[Tensor]) -> list[dict[str, Tensor]]:
    return [{name: tensor} for tensor in tensors]


def _each(items: Sequence[T], times: int) -> list[T]:
    return [item for item in items for _ in range(times)]


def _compare(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    pairs = zip(found, wanted, strict=True)
    worst = max(float((a - b).abs().amax().nan_to_num(torch.inf)) for a, b in pairs)
    if worst > LARGEST_DIFFERENCE:
        raise BundleError(
            f"the decoder in three parts differs from the whole by {worst:.2g}, more than 0.001"
        )
