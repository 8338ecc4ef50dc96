"""From trained weights to a bundle: three ONNX graphs and bundle.yaml."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from aopsam_ros.errors import BundleError
from aopsam_ros.models.nano import EMBEDDING_CHANNELS, FEATURE_CHANNELS, STRIDE, NanoMaskDecoder

OPSET = 17
LARGEST_DIFFERENCE = 1e-3


class SinglePromptSet(nn.Module):
    """The decoder with the bundle's signature: one image, `N` prompts of `K` points."""

    def __init__(self, decoder: NanoMaskDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, embedding: Tensor, coords: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Map `[1, C, h, w]`, `[N, K, 2]`, `[N, K]` to logits `[N, 3, M, M]`, IoU `[N, 3]`."""
        logits, iou = self.decoder(embedding, coords.unsqueeze(0), labels.unsqueeze(0))
        return logits.squeeze(0), iou.squeeze(0)


def export_nano(
    encoder: nn.Module,
    decoder: NanoMaskDecoder,
    predictor: nn.Module,
    folder: Path,
    facts: Mapping[str, Any],
    image_size: int = 512,
) -> dict[str, float]:
    """Write a bundle and compare every graph with torch on random input.

    Args:
        encoder: Image `[1, 3, S, S]` to embedding.
        decoder: See `NanoMaskDecoder`.
        predictor: See `PromptPredictor`.
        folder: Replaced as a whole once everything is checked; untouched on failure.
        facts: Further keys of bundle.yaml: name, version, licence, provenance, defaults.
        image_size: S, pixels.

    Returns:
        Largest absolute difference to torch by graph.

    Raises:
        BundleError: A graph differs from torch by more than 1e-3.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        work = Path(temporary)
        differences = _export_graphs(encoder, decoder, predictor, work, image_size)
        _write_description(work, facts, image_size)
        folder.mkdir(exist_ok=True)
        for file in work.iterdir():
            shutil.move(file, folder / file.name)
    return differences


def _export_graphs(
    encoder: nn.Module, decoder: NanoMaskDecoder, predictor: nn.Module, work: Path, size: int
) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, size, size, generator=generator)
    with torch.no_grad():
        embedding = encoder.eval()(image)
    coords = torch.rand(3, 2, 2, generator=generator) * size
    labels = torch.tensor([[1.0, -1.0], [1.0, 0.0], [2.0, 3.0]])
    graphs: list[tuple[str, nn.Module, dict[str, Tensor], list[str], tuple[str, ...]]] = [
        ("encoder", encoder, {"image": image}, ["embedding"], ()),
        (
            "prompt_predictor",
            predictor,
            {"image": image, "embedding": embedding},
            ["confidence_map"],
            (),
        ),
        (
            "mask_decoder",
            SinglePromptSet(decoder),
            {"embedding": embedding, "point_coords": coords, "point_labels": labels},
            ["low_res_logits", "predicted_iou"],
            ("point_coords", "point_labels"),
        ),
    ]
    return {
        name: _export(module, inputs, outputs, dynamic, work / f"{name}.onnx")
        for name, module, inputs, outputs, dynamic in graphs
    }


def _export(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: list[str],
    dynamic: tuple[str, ...],
    path: Path,
) -> float:
    """Export one graph with the TorchScript exporter (the newer one gave slower graphs)."""
    import onnx

    axes: dict[str, dict[int, str]] = {name: {0: "prompts", 1: "points"} for name in dynamic}
    if dynamic:
        axes.update({name: {0: "prompts"} for name in outputs})
    torch.onnx.export(
        module.eval(),
        tuple(inputs.values()),
        str(path),
        input_names=list(inputs),
        output_names=outputs,
        dynamic_axes=axes,
        opset_version=OPSET,
        dynamo=False,
    )
    onnx.checker.check_model(onnx.load(str(path)))
    return _difference(module, inputs, path)


def _difference(module: nn.Module, inputs: dict[str, Tensor], path: Path) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    got = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    with torch.no_grad():
        wanted = module(*inputs.values())
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    worst = max(float(np.abs(g - w.numpy()).max()) for g, w in zip(got, wanted, strict=True))
    if not worst <= LARGEST_DIFFERENCE:
        raise BundleError(f"{path.name}: differs from torch by {worst:.2g}")
    return worst


def _write_description(work: Path, facts: Mapping[str, Any], size: int) -> None:
    from aopsam_ros.training.segmenter_training import IMAGENET_MEAN, IMAGENET_STD

    graphs = {
        file.stem: {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in sorted(work.glob("*.onnx"))
    }
    description = {
        **{key: facts[key] for key in ("name", "version", "licence")},
        "image_size": size,
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "embedding_shape": [1, EMBEDDING_CHANNELS, size // STRIDE, size // STRIDE],
        "similarity_channels": FEATURE_CHANNELS,
        "low_res_mask_size": size // 4,
        "confidence_map_size": size // 4,
        "graphs": graphs,
        "defaults": facts["defaults"],
        "provenance": facts["provenance"],
    }
    (work / "bundle.yaml").write_text(yaml.safe_dump(description, sort_keys=False, width=100))
