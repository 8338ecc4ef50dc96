"""What tells that two masks of one label show one thing: the affinity is fitted, and compared.

SAM-CP's unified affinity in miniature, on frozen features: pairs of masks that meet, of one label,
are of one thing if most of both lies in one instance. Compared are a rule, a logistic regression on
`pair_features` (what the package ships), on these and the cosine of the masks' semantic features,
and a small network that also sees by how much each of these features differs. All are fitted to the
training part of the data, each one's threshold is chosen on the held-out part, and the images of
`--test` judge. Labels are those of the ground truth.

Run it as python -m aopsam_benchmarks.affinity --data FOLDER... --test FOLDER...
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from tqdm import tqdm

from aopsam_ros.data.datasets import open_dataset, split_by_group
from aopsam_ros.data.labelled_images import LabelledImage
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import DatasetError
from aopsam_ros.evaluation.classes import (
    ClassFigures,
    Named,
    mean_over_classes,
    with_ground_truth_labels,
)
from aopsam_ros.evaluation.images import instance_masks, named_masks, spread
from aopsam_ros.labels.composing import BIAS, WEIGHTS, coarse, meeting, pair_features, unite
from aopsam_ros.labels.semantic_encoder import SemanticEncoder
from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.tuning.score_calibration import logistic_regression

KINDS = ("classes", "kind", "thing")
EVERYTHING = {  # config/everything.yaml
    "asf.sampling": "fill",
    "asf.confidence_threshold": 0.01,
    "mask.candidates": "all",
    "mask.score_threshold": 0.1,
    "mask.overlap_threshold": 0.9,
    "mask.refine": 0,
}
COVERED, COSINE = 0.7, 0.9  # of the rule
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
HIDDEN, STEPS, DECAY = 16, 300, 1e-2  # of the network

Floats = NDArray[np.float32]
Head = Callable[["MaskPairs"], Floats]  # how probably two masks show one thing, `[n, n]`


@dataclass(frozen=True)
class MaskPairs:
    """An image's masks that have a label; `kind` is that of its data set."""

    kind: str
    named: Named
    masks: Segmentation
    instance: NDArray[np.int64]  # that each mask lies in, `[n]`
    geometry: Floats  # `pair_features`, `[n, n, 3]`
    covered: Floats  # share of the smaller mask that both have, `[n, n]`
    semantic: Floats  # unit features, `[n, D]`

    @property
    def cosine(self) -> Floats:
        """Of the masks' features, `[n, n]`."""
        return self.semantic @ self.semantic.T

    @property
    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Places of two masks each, of one label, that meet."""
        labels = np.array([mask.label for mask in self.masks.masks])
        same = labels[:, None] == labels[None]
        first, second = np.nonzero(np.triu(same & meeting(self.geometry), 1))
        return first, second


def things_of(image: LabelledImage, kind: str) -> Named:
    """Name an image's instances: by class, all of one kind, or all parts of one thing."""
    if kind == "classes":
        return named_masks(image)
    masks = instance_masks(image.layers)
    if kind == "thing" and masks:
        masks = [np.any(masks, axis=0)]
    return [("thing", mask) for mask in masks]


def sample(
    segmenter: Segmenter, encoder: SemanticEncoder, image: LabelledImage, kind: str
) -> MaskPairs | None:
    """Segment an image; None where nothing has a name."""
    named = things_of(image, kind)
    if not named:
        return None
    frame = segmenter.encode(image.rgb)
    found = segmenter.segment_frame(frame)
    numbers = [(str(number), mask) for number, (_, mask) in enumerate(named)]
    inside = [mask for mask in with_ground_truth_labels(found, numbers).masks if mask.label]
    instance = np.array([int(mask.label) for mask in inside], np.int64)
    masks = [
        replace(mask, label=named[place][0])
        for mask, place in zip(inside, instance.tolist(), strict=True)
    ]
    if not masks:
        return None
    cells = coarse(masks, found)
    flat = cells.reshape(len(cells), -1).astype(np.float32)
    area = flat.sum(axis=1)
    return MaskPairs(
        kind,
        named,
        replace(found, masks=tuple(masks)),
        instance,
        pair_features(cells, np.array([mask.score for mask in masks], np.float32)),
        flat @ flat.T / np.maximum(np.minimum(area[:, None], area[None]), 1.0),
        encoder.features(image.rgb, frame, masks),
    )


def rule(one: MaskPairs) -> Floats:
    """One mask lies in the other, or they touch and are similar."""
    similar = (one.geometry[..., 1] > 0) & (one.cosine >= COSINE)
    return np.asarray((one.covered >= COVERED) | similar, np.float32)


def geometric(one: MaskPairs) -> Floats:
    """Inputs of the head that is shipped, `[n, n, 3]`."""
    return one.geometry


def with_cosine(one: MaskPairs) -> Floats:
    """Inputs with the cosine of the semantic features, `[n, n, 4]`."""
    return np.concatenate((one.geometry, one.cosine[..., None]), axis=-1)


def with_differences(one: MaskPairs) -> Floats:
    """Inputs with the cosine, and the difference in each semantic feature, `[n, n, 4 + D]`."""
    differences = np.abs(one.semantic[:, None] - one.semantic[None])
    return np.concatenate((with_cosine(one), differences), axis=-1)


def training_pairs(
    samples: Iterable[MaskPairs], inputs_of: Head
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the inputs `[p, F]` of all pairs, and whether each is of one thing, `[p]`.

    Raises:
        DatasetError: if there are none, or all are similar.
    """
    inputs, same = [], []
    for one in samples:
        first, second = one.pairs
        inputs.append(inputs_of(one)[first, second])
        same.append(one.instance[first] == one.instance[second])
    targets = np.concatenate(same).astype(np.float64)
    if not 0 < targets.sum() < len(targets):
        raise DatasetError("pairs of masks of one thing and of two are needed")
    return np.concatenate(inputs).astype(np.float64), targets


def regression(weights: NDArray[np.float64], inputs_of: Head) -> Head:
    """Return a head of these weights, the bias first."""
    return lambda one: probability(inputs_of(one) @ weights[1:] + weights[0], one)


def probability(odds: NDArray[np.floating], one: MaskPairs) -> Floats:
    """Turn log odds into probabilities; masks that do not meet are two things."""
    return np.where(meeting(one.geometry), expit(odds), 0.0).astype(np.float32)


def network(inputs: NDArray[np.float64], targets: NDArray[np.float64], inputs_of: Head) -> Head:
    """Fit a network with one hidden layer to pairs; needs torch."""
    import torch

    torch.manual_seed(0)
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0) + 1e-6
    model = torch.nn.Sequential(
        torch.nn.Linear(inputs.shape[1], HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1)
    )
    values = torch.tensor((inputs - mean) / deviation, dtype=torch.float32)
    wanted = torch.tensor(targets, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=DECAY)
    for _ in range(STEPS):
        odds = model(values)[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(odds, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def head(one: MaskPairs) -> Floats:
        own = torch.tensor((inputs_of(one) - mean) / deviation, dtype=torch.float32)
        with torch.no_grad():
            return probability(model(own)[..., 0].numpy(), one)

    return head


def fitted_heads(samples: Sequence[MaskPairs]) -> tuple[dict[str, Head], NDArray[np.float64]]:
    """Return what is compared, by name, and the weights of the regression that is shipped."""
    pairs = training_pairs(samples, geometric)
    weights = logistic_regression(*pairs, np.ones(len(pairs[1])))
    more = training_pairs(samples, with_cosine)
    longer = logistic_regression(*more, np.ones(len(more[1])))
    shipped = np.array((BIAS, *WEIGHTS))
    heads: dict[str, Head] = {
        "apart": lambda one: np.zeros_like(one.cosine),
        "rule": rule,
        "shipped": regression(shipped, geometric),
        "fitted": regression(weights, geometric),
        "and cosine": regression(longer, with_cosine),
        "network": network(*training_pairs(samples, with_differences), with_differences),
    }
    return heads, weights


def figures(samples: Iterable[MaskPairs], head: Head, threshold: float) -> tuple[float, float]:
    """Return PQ and AP, means over the classes, of masks that a head unites."""
    counted = ClassFigures()
    for one in samples:
        counted.add(unite(one.masks, head(one) >= threshold), one.named)
    means = mean_over_classes(counted.by_class())
    return means["pq"], means["ap"]


def report(heads: dict[str, Head], held: Sequence[MaskPairs], test: Sequence[MaskPairs]) -> None:
    """Print a line for each head; its threshold is that of the best mean PQ held out."""
    parts = {
        f"{name} {kind} ({len(own)})": own
        for name, samples in (("held out", held), ("test", test))
        for kind in KINDS
        if (own := [one for one in samples if one.kind == kind])
    }
    print("| PQ (AP) | threshold | " + " | ".join(parts) + " |")
    print("|---" + "|---:" * (1 + len(parts)) + "|")
    for name, head in heads.items():
        qualities = [held_out_quality(held, head, least) for least in THRESHOLDS]
        least = THRESHOLDS[int(np.argmax(qualities))]
        cells = [figures(own, head, least) for own in parts.values()]
        row = " | ".join(f"{quality:.3f} ({precision:.3f})" for quality, precision in cells)
        print(f"| {name} | {least} | {row} |", flush=True)


def held_out_quality(samples: Sequence[MaskPairs], head: Head, threshold: float) -> float:
    """Return the mean PQ over the kinds of data, each of which counts the same."""
    own = [[one for one in samples if one.kind == kind] for kind in KINDS]
    return float(np.mean([figures(some, head, threshold)[0] for some in own if some]))


def read(
    folders: Sequence[str], limit: int, fraction: float
) -> Iterator[tuple[LabelledImage, str, bool]]:
    """Read the images of FOLDER or FOLDER=KIND: each with its kind, and whether it is held out."""
    for folder in folders:
        path, _, kind = folder.partition("=")
        if (kind or "classes") not in KINDS:
            raise DatasetError(f"{folder}: a kind of data is one of {', '.join(KINDS)}")
        dataset = open_dataset(path)
        held = set(split_by_group(dataset, fraction)[1])
        for index in spread(range(len(dataset)), limit):
            yield dataset.read(index), kind or "classes", index in held


def main() -> None:
    """Fit, print the weights, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    text = "with classes; of other data FOLDER=kind: all of one kind, FOLDER=thing: parts of one"
    parser.add_argument("--data", nargs="+", required=True, metavar="FOLDER", help=text)
    parser.add_argument("--test", nargs="*", default=[], metavar="FOLDER", help="likewise")
    parser.add_argument("--limit", type=int, default=0, help="images of each folder (0: all)")
    parser.add_argument("--held-out", type=float, default=0.25, help="share of groups")
    parser.add_argument("--model", default="nano")
    chosen = parser.parse_args()
    engine = EngineOptions(engine="onnxruntime", threads=1)
    training: list[MaskPairs] = []
    held: list[MaskPairs] = []
    test: list[MaskPairs] = []
    with (
        Segmenter.from_bundle(chosen.model, engine=engine) as segmenter,
        closing(SemanticEncoder(segmenter, engine)) as encoder,
    ):
        segmenter.options = segmenter.options.updated(EVERYTHING)
        for folders, out, rest in ((chosen.data, held, training), (chosen.test, test, test)):
            images = read(folders, chosen.limit, chosen.held_out)
            for image, kind, is_held in tqdm(images, unit="image", file=sys.stderr):
                one = sample(segmenter, encoder, image, kind)
                if one is not None:
                    (out if is_held else rest).append(one)
    heads, weights = fitted_heads(training)
    pairs = training_pairs(training, geometric)[1]
    print(f"{len(pairs)} pairs of {len(training)} images, {pairs.mean():.0%} of one thing")
    print(f"WEIGHTS = {tuple(np.round(weights[1:], 2).tolist())}, BIAS = {weights[0]:.2f}")
    report(heads, held, test)


if __name__ == "__main__":
    main()
