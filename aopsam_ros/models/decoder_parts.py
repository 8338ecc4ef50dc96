"""A decoder in three modules: for each frame, each prompt, and the masks to render."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from aopsam_ros.bundle.loading import FRAME_PART, MASK_PART, PROMPT_PART
from aopsam_ros.errors import BundleError
from aopsam_ros.models.onnx_graphs import LARGEST_DIFFERENCE, GraphPlan, largest_difference

PROMPTS, POINTS = "prompts", "points"  # the names of a decoder's dynamic sizes
Tensors = Mapping[str, Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class DecoderParts:
    """Three modules that together compute what the whole decoder does.

    Args:
        frame: module from the embedding to `frame_tensors`.
        prompts: module from `prompt_tensors`, coordinates `[N, K, 2]` and labels `[N, K]` to
            predicted IoU `[N, 3]` and mask weights: `[N, 3, ...]` if `is_per_mask`, or `[N, ...]`.
        masks: module from `mask_tensors` and mask weights to logits: weights `[n, ...]` to
            `[n, M, M]` if `is_per_mask`, else to `[n, 3, M, M]`.
        frame_tensors: names of the frame's outputs, which all its prompts share.
        prompt_tensors: those of them that the prompts' module takes.
        mask_tensors: those of them that the masks' module takes.
        mask_weights: names of what masks are rendered from, with their dynamic axes but the first.
        is_per_mask: whether mask weights belong to one mask or to a prompt's three.
    """

    frame: nn.Module
    prompts: nn.Module
    masks: nn.Module
    frame_tensors: tuple[str, ...]
    prompt_tensors: tuple[str, ...]
    mask_tensors: tuple[str, ...]
    mask_weights: Mapping[str, Mapping[int, str]]
    is_per_mask: bool

    def encode_frame(self, embedding: Tensor) -> dict[str, Tensor]:
        """Return `frame_tensors` by name."""
        return dict(zip(self.frame_tensors, self.frame(embedding), strict=True))

    def decode_prompts(self, frame: Tensors, prompts: Tensors) -> tuple[Tensor, dict[str, Tensor]]:
        """Return predicted IoU `[N, 3]` and the weights of all masks by name."""
        iou, *weights = self.prompts(*self._prompt_inputs(frame, prompts).values())
        if self.is_per_mask:
            weights = [weight.flatten(0, 1) for weight in weights]
        return iou, dict(zip(self.mask_weights, weights, strict=True))

    def render_masks(self, frame: Tensors, weights: Tensors) -> Tensor:
        """Return the logits of all masks, `[3 N, M, M]` if `is_per_mask`, else `[N, 3, M, M]`."""
        return self.masks(*self._mask_inputs(frame, weights).values())

    def _prompt_inputs(self, frame: Tensors, prompts: Tensors) -> dict[str, Tensor]:
        return {**_select(frame, self.prompt_tensors), **prompts}

    def _mask_inputs(self, frame: Tensors, weights: Tensors) -> dict[str, Tensor]:
        return {**_select(frame, self.mask_tensors), **weights}

    def plans(
        self, whole: nn.Module, embeddings: Sequence[Tensor], prompts: Sequence[Tensors]
    ) -> list[GraphPlan]:
        """Plan the three graphs, once they are compared with the whole decoder.

        Args:
            whole: the decoder of a square's embedding.
            embeddings: samples, a square's first; axes in which they differ become dynamic.
            prompts: samples of coordinates and labels by name, used with each embedding.

        Raises:
            BundleError: if the `largest_difference` of an output is above 1e-3.
        """
        with torch.no_grad():
            frames = [self.encode_frame(embedding) for embedding in embeddings]
            pairs = [(frame, sample) for frame in frames for sample in prompts]
            decoded = [self.decode_prompts(*pair) for pair in pairs]
            weights = [mask_weights for _, mask_weights in decoded]
            logits = [
                self.render_masks(pair[0], mask_weights)
                for pair, mask_weights in zip(pairs, weights, strict=True)
            ]
            for sample, found, (iou, _) in zip(prompts, logits, decoded, strict=False):
                expected = whole(embeddings[0], *sample.values())
                _compare((found.reshape(expected[0].shape), iou), expected)
        sides = {name: open_axes(name, [f[name] for f in frames]) for name in self.frame_tensors}
        points = {name: {0: PROMPTS, 1: POINTS} for name in prompts[0]}
        each = {name: {0: PROMPTS, **axes} for name, axes in self.mask_weights.items()}
        per_prompt = {"predicted_iou": {0: PROMPTS}}
        masks = {"low_res_logits": {**open_axes("low_res_logits", logits), 0: PROMPTS}}
        return [
            GraphPlan(
                FRAME_PART,
                self.frame,
                self.frame_tensors,
                [{"embedding": embedding} for embedding in embeddings],
                {"embedding": open_axes("embedding", embeddings), **sides},
            ),
            GraphPlan(
                PROMPT_PART,
                self.prompts,
                ("predicted_iou", *self.mask_weights),
                [self._prompt_inputs(*pair) for pair in pairs],
                {**_select(sides, self.prompt_tensors), **points, **each, **per_prompt},
            ),
            GraphPlan(
                MASK_PART,
                self.masks,
                ("low_res_logits",),
                [self._mask_inputs(pair[0], w) for pair, w in zip(pairs, weights, strict=True)],
                {**_select(sides, self.mask_tensors), **each, **masks},
            ),
        ]


def open_axes(name: str, tensors: Sequence[Tensor]) -> dict[int, str]:
    """Name the axes in which tensors of the same name differ."""
    first, *others = [tensor.shape for tensor in tensors]
    return {
        axis: f"{name}_{axis}"
        for axis, size in enumerate(first)
        if any(shape[axis] != size for shape in others)
    }


def _select(values: Mapping[str, T], names: Sequence[str]) -> dict[str, T]:
    return {name: values[name] for name in names}


def _compare(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    worst = largest_difference([a.numpy() for a in actual], [b.numpy() for b in expected])
    if not worst <= LARGEST_DIFFERENCE:
        raise BundleError(
            f"the decoder in three parts differs from the whole by {worst:.2g}, more than 0.001"
        )
