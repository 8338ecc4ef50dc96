"""Does an engine compute what it should? Sample inputs, and the comparison of two results."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.bundle.loading import DECODER, ENCODER, LABELLER, PREDICTOR, Bundle
from aopsam_ros.bundle.signatures import signatures
from aopsam_ros.engines.base import Arrays, all_logits
from aopsam_ros.engines.engine import Engine
from aopsam_ros.errors import VerificationError

LEAST_COSINE = 0.99

_LOGGER = logging.getLogger(__name__)
_COARSE = 16  # side of the random image that is enlarged to a smooth one
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

    As vectors: the cosine of the angle between them, and the largest absolute difference.
    """

    output: str
    cosine: float
    difference: float


def sample_inputs(bundle: Bundle) -> dict[str, list[dict[str, NDArray[np.float32]]]]:
    """Make inputs of a bundle's sizes that look like an image's, the same ones every time.

    Returns:
        Graph to its samples, input name to float32 array, but for the embedding: one image for the
        encoder and the predictor, for the decoder several batches of prompts that differ in their
        number and in their points, half of them with a mask input, and two masks for the labeller;
        only of graphs that the bundle has.
    """
    rng = np.random.default_rng(0)
    image = {"image": smooth_image(bundle.image_size, rng)}
    prompts = sample_prompts(bundle.image_size, rng)
    for batch in prompts:
        batch |= _masks(len(batch["point_coords"]), bundle.low_res_mask_size, rng)
    samples = {ENCODER: [image], DECODER: prompts}
    if PREDICTOR in bundle.graphs:
        samples[PREDICTOR] = [image]
    if bundle.labeller is not None:
        ((name, shape),) = signatures(bundle)[LABELLER].inputs.items()
        masks = rng.uniform(0.0, 255.0, (2, *(size or 0 for size in shape[1:])))
        samples[LABELLER] = [{name: masks.astype(np.float32)}]
    return samples


def answers(
    engine: Engine, samples: Mapping[str, Sequence[Arrays]], with_masks: bool = True
) -> dict[str, NDArray[np.float32]]:
    """Return an engine's outputs for `sample_inputs`, each graph fed with its own embedding.

    Prompts are also decoded `with_masks` as inputs, where the engine takes them.

    Raises:
        InferenceError: if a graph fails.
    """
    takes_masks = with_masks and engine.accepts_mask_input
    image = samples[ENCODER][0]["image"]
    handle = engine.encode(image)
    found = {"embedding": engine.embedding(handle)}
    if engine.has_predictor:
        found |= engine.predict(image, handle).maps()
    optional = {
        "semantic_map": engine.semantic_map(handle),
        "attention": engine.attention(handle),
    }
    found |= {name: array for name, array in optional.items() if array is not None}
    for batch in samples[DECODER]:
        prompts = batch["point_coords"], batch["point_labels"]
        what = "of {} x {} points".format(*prompts[1].shape)
        for masks in (None, batch["mask_input"]) if takes_masks else (None,):
            decoded = engine.decode(handle, *prompts, masks)
            what = what if masks is None else f"{what} and masks"
            found[f"low_res_logits {what}"] = all_logits(decoded)
            found[f"predicted_iou {what}"] = decoded.predicted_iou
    return found


def verify(what: str, found: Iterable[Arrays], wanted: Iterable[Arrays]) -> dict[str, float]:
    """Compare two forms of a graph on samples; log the least cosine of each output, return all.

    `found` are the outputs of the new form, for each sample, `wanted` those of the graph in 32
    bits, which may have more; `what` is for the message.

    Raises:
        VerificationError: if an output is not finite or too far from the reference's.
    """
    cosines: dict[str, float] = {}
    for new, reference in zip(found, wanted, strict=True):
        for match in compare(what, new, {name: reference[name] for name in new}):
            cosines[match.output] = min(match.cosine, cosines.get(match.output, 1.0))
    shown = ", ".join(f"{name} {cosine:.5f}" for name, cosine in cosines.items())
    _LOGGER.info("%s: verified, cosine with the reference: %s", what, shown)
    return cosines


def compare(
    what: str, found: Arrays, wanted: Arrays, least_cosine: float = LEAST_COSINE
) -> list[Match]:
    """Compare outputs, by name, with the reference's, in its order; `what` is for the message.

    Raises:
        VerificationError: if an output is missing, not finite, of another shape, or its cosine with
            the reference is below `least_cosine`.
    """
    matches = [_match(what, name, found.get(name), array) for name, array in wanted.items()]
    for match in matches:
        if match.cosine < least_cosine:
            raise VerificationError(
                f"{what}: {match.output} differs from the reference by up to "
                f"{match.difference:.3g}, their cosine is {match.cosine:.4f}, "
                f"less than {least_cosine:g}"
            )
    return matches


def smooth_image(size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Make a normalised image `[1, 3, S, S]`, smooth with some noise, with the padding of 4:3."""
    coarse = rng.standard_normal((_COARSE, _COARSE, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    image = smooth + np.float32(_NOISE) * rng.standard_normal(smooth.shape).astype(np.float32)
    image[int(size * _VALID) :] = 0.0
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


def sample_prompts(size: int, rng: np.random.Generator) -> list[dict[str, NDArray[np.float32]]]:
    """Make batches of prompts in an image of `size` pixels, of different number and points.

    They are anywhere in the image; a box's corners are its upper left and lower right.
    """
    batches = []
    for rows in _LABELS:
        labels = np.array(rows, np.float32)
        coords = rng.uniform(0.0, size, (*labels.shape, 2)) * (1.0, _VALID)
        boxes = labels[:, 0] == 2.0
        coords[boxes, :2] = np.sort(coords[boxes, :2], axis=1)
        batches.append({"point_coords": coords.astype(np.float32), "point_labels": labels})
    return batches


def _masks(count: int, side: int, rng: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Make masks to begin with, discs of logits from -8 to 8; every second prompt has one."""
    rows, columns = np.indices((side, side)) / side
    middles = rng.uniform(0.2, 0.8, (2, count, 1, 1, 1))
    distance = np.hypot(rows - middles[0], columns - middles[1])
    logits = np.clip(40.0 * (0.2 - distance), -8.0, 8.0)
    has_mask = (np.arange(count) % 2).astype(np.float32)
    return {"mask_input": logits.astype(np.float32), "has_mask_input": has_mask}


def _match(
    what: str, name: str, found: NDArray[np.float32] | None, wanted: NDArray[np.float32]
) -> Match:
    if found is None or found.shape != wanted.shape:
        shape = "missing" if found is None else f"of shape {list(found.shape)}"
        raise VerificationError(f"{name} is {shape}, the reference's is {list(wanted.shape)}")
    # In 64 bits: the squares of large values overflow in 32.
    a, b = found.ravel().astype(np.float64), wanted.ravel().astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise VerificationError(f"{what}: {name} holds values that are not finite")
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    # 1 where both are zero, 0 where one is
    cosine = np.clip(a @ b / lengths, -1.0, 1.0) if lengths else np.array_equal(a, b)
    return Match(name, float(cosine), float(np.abs(a - b).max(initial=0.0)))
