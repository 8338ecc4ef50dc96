"""Exporting trained weights as a bundle: ONNX graphs and bundle.yaml."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aopsam_ros.bundle.loading import (
    DECODER,
    ENCODER,
    PREDICTOR,
    SPLIT,
    AttentionOrigin,
    load_bundle,
)
from aopsam_ros.bundle.signatures import ATTENTION, SEMANTIC_MAP
from aopsam_ros.engines import verification
from aopsam_ros.geometry import Resize
from aopsam_ros.models.bundle_files import (
    MIXED_SUFFIX,
    SAM_THRESHOLDS,
    new_bundle,
    write_description,
)
from aopsam_ros.models.decoder_parts import POINTS, PROMPTS, DecoderParts, open_axes
from aopsam_ros.models.efficientnet_lite import IMAGENET_MEAN, IMAGENET_STD
from aopsam_ros.models.mixed_precision import write_mixed
from aopsam_ros.models.mobile_sam.model import MobileSam, PointDecoder, Sam
from aopsam_ros.models.mobile_sam.prompt_encoder import STRIDE
from aopsam_ros.models.mobile_sam.split import split_mobile_sam
from aopsam_ros.models.mobile_sam.tiny_vit import EMBEDDING_CHANNELS
from aopsam_ros.models.nano import SIZE_DIVISIBILITY, NanoSegmenter
from aopsam_ros.models.nano_decoder import FEATURE_CHANNELS
from aopsam_ros.models.nano_split import SinglePromptSet, split_nano
from aopsam_ros.models.onnx_graphs import (
    ExportedGraph,
    GraphPlan,
    as_tuple,
    export_graph,
    run_graph,
)


@dataclass(frozen=True)
class BundleParts:
    """The modules of a bundle, with the bundle's signatures, and facts beyond their shapes.

    Args:
        encoder: image `[1, 3, S, S]` to embedding `[1, C, S', S']`, alone or with a semantic map
            `[1, D, S/32, S/32]` or attention `[1, N, N]`.
        decoder: embedding, coordinates `[N, K, 2]` and labels `[N, K]` to logits `[N, 3, M, M]` and
            predicted IoU `[N, 3]`, or four of each with SAM's single mask first.
        predictor: image and embedding to confidence `[1, 1, P, P]` and extents `[1, 4, P, P]`;
            optional.
        image_size: S, pixels.
        similarity_channels: number of the embedding's first channels that ASF compares.
        mean: subtracted from an image, per channel on the 0-255 scale; ImageNet's, as all have it.
        std: by which the difference is divided.
        size_divisibility: encoder, predictor and the parts of the decoder take images whose sides
            are multiples of it, in place of padded squares; 0: squares only.
        takes_mask_input: whether the decoder also takes masks to start from, logits `[N, 1, M, M]`,
            and `[N]`, 1 where a prompt has one.
        split: makes the decoder's three parts; optional.
        resize: whether images are padded to the square or stretched.
        attention: which the encoder gives, if any.
        thresholds: least predicted IoU and stability of a mask, as the authors' automatic mask
            generators have them; None: this package's.
    """

    encoder: nn.Module
    decoder: nn.Module
    predictor: nn.Module | None
    image_size: int
    similarity_channels: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    size_divisibility: int = 0
    takes_mask_input: bool = False
    split: Callable[[], DecoderParts] | None = None
    resize: Resize = "pad"
    attention: AttentionOrigin | None = None
    thresholds: tuple[float, float] | None = None


def nano_parts(model: NanoSegmenter, predictor: nn.Module | None, image_size: int) -> BundleParts:
    """Return the parts of a `nano` bundle."""
    return BundleParts(
        encoder=model.encoder,
        decoder=SinglePromptSet(model.decoder),
        predictor=predictor,
        image_size=image_size,
        similarity_channels=FEATURE_CHANNELS,
        size_divisibility=SIZE_DIVISIBILITY,
        takes_mask_input=True,
        split=lambda: split_nano(model.decoder),
    )


def sam_parts(
    model: Sam, predictor: nn.Module | None = None, size_divisibility: int = 0
) -> BundleParts:
    """Return the parts of any model with SAM's prompt encoder and mask decoder."""
    return BundleParts(
        encoder=model.image_encoder,
        decoder=PointDecoder(model),
        predictor=predictor,
        image_size=model.image_size,
        similarity_channels=EMBEDDING_CHANNELS,
        size_divisibility=size_divisibility,
        takes_mask_input=True,
        split=lambda: split_mobile_sam(model),
        thresholds=SAM_THRESHOLDS,
    )


def mobile_sam_parts(model: MobileSam, predictor: nn.Module | None = None) -> BundleParts:
    """Return the parts of a MobileSAM bundle, whose encoder takes more than squares."""
    return sam_parts(model, predictor, STRIDE)


@dataclass(frozen=True)
class ExportReport:
    """How exact an exported bundle is, by graph."""

    differences: Mapping[str, float]  # of the float32 graph to torch: `largest_difference`
    # least cosine between an output in mixed precision and in float32; empty without mixed graphs
    cosines: Mapping[str, float]


def export_bundle(
    parts: BundleParts, folder: Path, facts: Mapping[str, Any], mixed: bool = False
) -> ExportReport:
    """Write a bundle, every graph of it compared with torch.

    Args:
        parts: what to export.
        folder: made, or the bundle in it replaced, once everything is checked; untouched before.
        facts: further keys of bundle.yaml: name, version, licence, provenance, defaults.
        mixed: also write graphs in mixed precision, listed as `mixed_graphs`.

    Raises:
        BundleError: if a graph differs, a fact cannot be, or the folder holds something else than a
            bundle.
        VerificationError: if a graph in mixed precision is too far from the one in float32.
    """
    with new_bundle(folder) as work:
        plans = _plans(parts)
        exported = {plan.name: export_graph(plan, work) for plan in plans}
        # Engines that take a precision from the graph run the whole decoder.
        in_mixed = [plan for plan in plans if mixed and plan.name not in SPLIT]
        cosines = {plan.name: _write_mixed(plan, work) for plan in in_mixed}
        _write_description(work, parts, exported, facts)
        load_bundle(work)  # refuses facts that no bundle can have
    return ExportReport({name: graph.difference for name, graph in exported.items()}, cosines)


def _plans(parts: BundleParts) -> list[GraphPlan]:
    """Plan the graphs, with samples that look like images and prompts."""
    images = sample_images(parts.image_size, parts.size_divisibility)
    parts.encoder.eval()  # which not every module of other authors returns
    with torch.no_grad():
        encoded = [as_tuple(parts.encoder(image)) for image in images]
    embeddings = [tensors[0] for tensors in encoded]
    samples = [{"image": image} for image in images]
    axes = {"image": open_axes("image", images), "embedding": open_axes("embedding", embeddings)}
    outputs = ("embedding", ATTENTION if parts.attention else SEMANTIC_MAP)[: len(encoded[0])]
    further = {outputs[-1]: open_axes(outputs[-1], [tensors[-1] for tensors in encoded])}
    plans = [GraphPlan(ENCODER, parts.encoder, outputs, samples, {**further, **axes})]
    if parts.predictor is not None:
        pairs = zip(images, embeddings, strict=True)
        samples = [{"image": image, "embedding": embedding} for image, embedding in pairs]
        outputs = ("confidence_map", "extent_map")
        maps = {name: {axis: f"{name}_{axis}" for axis in axes["image"]} for name in outputs}
        plans.append(GraphPlan(PREDICTOR, parts.predictor, outputs, samples, {**axes, **maps}))
    batches = verification.sample_prompts(parts.image_size, np.random.default_rng(0))
    # The first is traced, where a size of 1 may be taken for a fixed one.
    batches.sort(key=lambda batch: batch["point_labels"].size, reverse=True)
    prompts = [{name: torch.from_numpy(a) for name, a in batch.items()} for batch in batches]
    decoder = parts.decoder.eval()
    plans.append(_plan_decoder(decoder, embeddings[0], prompts, parts.takes_mask_input))
    if parts.split is not None:
        plans += parts.split().plans(decoder, embeddings, prompts)
    return plans


def _plan_decoder(
    decoder: nn.Module, embedding: Tensor, prompts: Sequence[dict[str, Tensor]], with_masks: bool
) -> GraphPlan:
    """Plan the whole decoder, which is for padded squares only."""
    samples = [{"embedding": embedding, **sample} for sample in prompts]
    per_point, per_prompt = {0: PROMPTS, 1: POINTS}, {0: PROMPTS}
    dynamic = {
        "point_coords": per_point,
        "point_labels": per_point,
        "low_res_logits": per_prompt,
        "predicted_iou": per_prompt,
    }
    if with_masks:
        samples = [{**sample, **_sample_masks(decoder, sample)} for sample in samples]
        dynamic |= {"mask_input": per_prompt, "has_mask_input": per_prompt}
    return GraphPlan(DECODER, decoder, ("low_res_logits", "predicted_iou"), samples, dynamic)


def _sample_masks(decoder: nn.Module, sample: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the first masks of some prompts as mask inputs, every other one left out."""
    with torch.no_grad():
        logits, _ = decoder(*sample.values())
    return {"mask_input": logits[:, :1], "has_mask_input": (torch.arange(len(logits)) % 2).float()}


def sample_images(size: int, step: int) -> list[Tensor]:
    """Return a square image, and a smaller one where the graphs take one, by `step` pixels."""
    image = torch.from_numpy(verification.smooth_image(size, np.random.default_rng(0)))
    if not step:
        return [image]
    return [image, image[:, :, : -(-size // (2 * step)) * step, : size - step].contiguous()]


def _write_mixed(plan: GraphPlan, work: Path) -> float:
    """Write a graph in mixed precision; return the least cosine of an output with float32's."""
    full, mixed = work / f"{plan.name}.onnx", work / f"{plan.name}{MIXED_SUFFIX}"
    write_mixed(full, mixed)
    found, wanted = (
        [dict(zip(plan.outputs, arrays, strict=True)) for arrays in run_graph(path, plan.samples)]
        for path in (mixed, full)
    )
    return min(verification.verify(mixed.name, found, wanted).values())


def _write_description(
    work: Path, parts: BundleParts, exported: Mapping[str, ExportedGraph], facts: Mapping[str, Any]
) -> None:
    description = {
        **{key: facts[key] for key in ("name", "version", "licence")},
        "image_size": parts.image_size,
        **({"size_divisibility": parts.size_divisibility} if parts.size_divisibility else {}),
        **({"resize": parts.resize} if parts.resize != "pad" else {}),
        **({"attention": asdict(parts.attention)} if parts.attention else {}),
        "mean": list(parts.mean),
        "std": list(parts.std),
        "embedding_shape": list(exported[ENCODER].shapes["embedding"]),
        "similarity_channels": parts.similarity_channels,
        "low_res_mask_size": exported[DECODER].shapes["low_res_logits"][-1],
    }
    if PREDICTOR in exported:
        description["confidence_map_size"] = exported[PREDICTOR].shapes["confidence_map"][-1]
    write_description(work, description, facts["defaults"], facts["provenance"])
