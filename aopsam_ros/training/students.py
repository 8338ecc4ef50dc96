"""Small encoders that learn a teacher's embeddings, and bundles in which they take its place."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aopsam_ros.bundle.loading import ENCODER, Bundle, load_bundle
from aopsam_ros.errors import InputError
from aopsam_ros.models import nano
from aopsam_ros.models.bundle_files import (
    describe_graphs,
    new_bundle,
    read_description,
    save_description,
)
from aopsam_ros.models.decoder_parts import open_axes
from aopsam_ros.models.export import sample_images
from aopsam_ros.models.frozen import EMBEDDING_STRIDE
from aopsam_ros.models.loading import load_mobile_sam, load_weights
from aopsam_ros.models.mobile_sam.prompt_encoder import STRIDE
from aopsam_ros.models.mobile_sam.tiny_vit import EMBEDDING_CHANNELS, TinyVit
from aopsam_ros.models.nano import NanoEncoder
from aopsam_ros.models.onnx_graphs import GraphPlan, export_graph
from aopsam_ros.training.loop.trainer import start_from

# Multiples that the sides of images must have, by the student's name.
STUDENTS: dict[str, int] = {"nano": nano.SIZE_DIVISIBILITY, "mobile_sam": STRIDE}


class Student(nn.Module):
    """An encoder, with a projection to the teacher's channels where it has others."""

    def __init__(self, encoder: nn.Module, channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        differs = channels != teacher_channels
        self.projection = nn.Conv2d(channels, teacher_channels, 1) if differs else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Map normalised images `[B, 3, S, S]` to embeddings `[B, C, S/16, S/16]`."""
        encoded = self.encoder(image)
        embedding: Tensor = encoded[0] if isinstance(encoded, tuple) else encoded
        projected: Tensor = self.projection(embedding)
        return projected


def make_student(name: str, teacher: Bundle, start: Path | None) -> Student:
    """Make an encoder, of `STUDENTS`, that gives embeddings of the teacher's shape.

    It starts with the weights of nano's segmenter.pt or bundle, of MobileSAM's checkpoint, or with
    random ones.

    Raises:
        InputError: if the teacher's embedding has another stride, the student cannot take its
            images, or the weights are another model's.
    """
    size, channels = teacher.image_size, teacher.embedding_shape[1]
    if size != EMBEDDING_STRIDE * teacher.embedding_shape[-1] or size % STUDENTS[name]:
        raise InputError(
            f"{teacher.name}: {name} cannot give its embeddings: images of {size} pixels, and"
            f" {teacher.embedding_shape[-1]} cells a side"
        )
    if name == "nano":
        return Student(_nano(start), nano.EMBEDDING_CHANNELS, channels)
    encoder = TinyVit() if start is None else load_mobile_sam(start, size).image_encoder
    return Student(encoder, EMBEDDING_CHANNELS, channels)


def _nano(start: Path | None) -> NanoEncoder:
    encoder = NanoEncoder()
    encoder.semantic = nn.Identity()  # type: ignore[assignment]  # no teacher teaches it
    if start is not None:
        weights = load_weights(start)
        start_from(encoder, {key.removeprefix("encoder."): weights[key] for key in weights})
    return encoder


def write_student(
    student: Student, name: str, teacher: Bundle, folder: Path, provenance: Mapping[str, Any]
) -> None:
    """Write the teacher's bundle with the student as its encoder.

    Graphs in mixed precision and in 8 bits, and attention, are the teacher's encoder's: left out.

    The folder is made, or the bundle in it replaced, once everything is checked. `name` is that of
    `STUDENTS`, `provenance` says how the student was trained; it is moved to the CPU.

    Raises:
        BundleError: if a graph differs from torch or is missing, or the folder holds other things.
    """
    step = math.lcm(teacher.size_divisibility, STUDENTS[name]) if teacher.size_divisibility else 0
    kept = {key: graph for key, graph in teacher.graphs.items() if key != ENCODER}
    others = replace(teacher, graphs=kept, mixed_graphs={}, int8_graphs={})
    with new_bundle(folder, others) as work:
        export_graph(_plan(student.cpu().eval(), teacher.image_size, step), work)
        description = read_description(teacher)
        for key in ("mixed_graphs", "int8_graphs", "attention"):
            description.pop(key, None)
        description["graphs"] |= describe_graphs(work, [f"{ENCODER}.onnx"])
        description |= {
            "name": f"{teacher.name}-{name}",
            "version": "0.1.0",
            **({"size_divisibility": step} if step else {}),
            "provenance": {
                "encoder": {"student": name, **provenance},
                "teacher": {
                    "name": teacher.name,
                    "version": teacher.version,
                    "provenance": teacher.provenance,
                },
            },
        }
        save_description(work, description)
        load_bundle(work)


def _plan(student: Student, size: int, step: int) -> GraphPlan:
    images = sample_images(size, step)
    with torch.no_grad():
        embeddings = [student(image) for image in images]
    axes = {"image": open_axes("image", images), "embedding": open_axes("embedding", embeddings)}
    samples = [{"image": image} for image in images]
    return GraphPlan(ENCODER, student, ("embedding",), samples, axes)
