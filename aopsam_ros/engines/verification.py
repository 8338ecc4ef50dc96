"""Does an engine compute what it should? Sample inputs, and the comparison of two answers to them.

Knows no engine: arrays in, figures out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import DECODER, ENCODER, PREDICTOR, Bundle
from aopsam_ros.engines.base import Engine, all_logits
from aopsam_ros.errors import VerificationError

LEAST_COSINE = 0.99
Arrays = Mapping[str, NDArray[np.float32]]

_COARSE = 16  # side of the random picture that is enlarged to a smooth one
_NOISE = 0.2
_VALID = 0.75  # how much of the square a 4:3 photograph fills; the rest is zero
# One batch of prompts each: points, boxes (2, 3), background (0) and padding (-1), mixed as users
# may mix them.
_LABELS: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((1,),),
    ((1, -1), (1, 0), (2, 3), (0, 1)),
    ((1, -1, -1, -1), (2, 3, -1, -1), (1, 0, 1, -1), (2, 3, 1, 0), (0, 1, 1, 1)),
)


class Match(NamedTuple):
    """How near one output is to its reference.

    `cosine` is that of the angle between the two, as vectors; `difference` the largest absolute
    one. Where `finite` is false (NaN or infinity in either), both are NaN.
    """

    output: str
    cosine: float
    difference: float
    finite: bool


def sample_inputs(
    bundle: Bundle, seed: int = 0, embedding: NDArray[np.float32] | None = None
) -> dict[str, list[dict[str, NDArray[np.float32]]]]:
    """Make inputs that look like an image's, the same ones for the same seed.

    Args:
        bundle: whose sizes they have.
        seed: of the random numbers.
        embedding: given to the predictor and the decoder as well, where it is not None.

    Returns:
        Graph to its samples, input name to float32 array: one image for the encoder and the
        predictor (only where the bundle has one), for the decoder several batches of prompts that
        differ in their number and in their points.
    """
    rng = np.random.default_rng(seed)
    image = {"image": _picture(bundle.image_size, rng)}
    prompts = [_prompts(labels, bundle.image_size, rng) for labels in _LABELS]
    seen = {} if embedding is None else {"embedding": embedding}
    samples = {ENCODER: [image], DECODER: [{**seen, **batch} for batch in prompts]}
    if PREDICTOR in bundle.graphs:
        samples[PREDICTOR] = [{**image, **seen}]
    return samples


def answers(
    engine: Engine, samples: Mapping[str, Sequence[Arrays]]
) -> dict[str, NDArray[np.float32]]:
    """Ask an engine for all outputs to `sample_inputs`, each graph fed with its own embedding.

    Raises:
        InferenceError: if a graph fails.
    """
    image = samples[ENCODER][0]["image"]
    handle = engine.encode(image)
    found = {"embedding": engine.embedding(handle)}
    if engine.has_predictor:
        found["confidence_map"] = engine.predict(image, handle)
    for batch in samples[DECODER]:
        coords, labels = batch["point_coords"], batch["point_labels"]
        decoded = engine.decode(handle, coords, labels)
        what = f"of {labels.shape[0]} x {labels.shape[1]} points"
        found[f"low_res_logits {what}"] = all_logits(decoded)
        found[f"predicted_iou {what}"] = decoded.predicted_iou
    return found


def compare(found: Arrays, wanted: Arrays) -> list[Match]:
    """Compare outputs by name, in the reference's order.

    Raises:
        VerificationError: if an output is missing or has another shape.
    """
    return [_match(name, found.get(name), array) for name, array in wanted.items()]


def check(
    what: str, found: Arrays, wanted: Arrays, least_cosine: float = LEAST_COSINE
) -> list[Match]:
    """Compare outputs with the reference's and refuse them where they differ too much.

    Args:
        what: is checked, for the message.
        found: output name to array.
        wanted: the same of the reference.
        least_cosine: that an output may have with its reference.

    Raises:
        VerificationError: if an output is not finite, has another shape or too small a cosine.
    """
    matches = compare(found, wanted)
    for match in matches:
        if not match.finite:
            raise VerificationError(f"{what}: {match.output} holds values that are not finite")
        if match.cosine < least_cosine:
            raise VerificationError(
                f"{what}: {match.output} differs from the reference by up to "
                f"{match.difference:.3g}, their cosine is {match.cosine:.4f}, "
                f"less than {least_cosine:g}"
            )
    return matches


def _picture(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a normalised image `[1, 3, S, S]`, smooth with some noise, with the padding of 4:3."""
    coarse = rng.standard_normal((_COARSE, _COARSE, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    picture = smooth + np.float32(_NOISE) * rng.standard_normal(smooth.shape).astype(np.float32)
    picture[int(size * _VALID) :] = 0.0
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None])


def _prompts(
    rows: Sequence[Sequence[int]], size: int, rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    """Place points anywhere in the picture; a box's corners are its upper left and lower right."""
    labels = np.array(rows, np.float32)
    coords = rng.uniform(0.0, size, (*labels.shape, 2)) * (1.0, _VALID)
    boxes = labels[:, 0] == 2.0
    coords[boxes, :2] = np.sort(coords[boxes, :2], axis=1)
    return {"point_coords": coords.astype(np.float32), "point_labels": labels}


def _match(name: str, found: NDArray[np.float32] | None, wanted: NDArray[np.float32]) -> Match:
    if found is None or found.shape != wanted.shape:
        shape = "missing" if found is None else f"of shape {list(found.shape)}"
        raise VerificationError(f"{name} is {shape}, the reference's is {list(wanted.shape)}")
    # In 64 bits: the squares of large values overflow in 32.
    a, b = found.ravel().astype(np.float64), wanted.ravel().astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Match(name, float("nan"), float("nan"), finite=False)
    difference = float(np.abs(a - b).max(initial=0.0))
    return Match(name, _cosine(a, b), difference, finite=True)


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the cosine of two vectors; 1 where both are zero, 0 where one is."""
    lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if not all(lengths):
        return float(lengths == (0.0, 0.0))
    # Each divided on its own: the product of two large lengths overflows.
    return float(np.clip((a / lengths[0]) @ (b / lengths[1]), -1.0, 1.0))
