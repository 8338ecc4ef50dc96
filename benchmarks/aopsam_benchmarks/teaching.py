"""Things that are taught by one example each, seen again: how many get their label.

Of a photograph the six largest things are taught, and the next six are not. Other views of it are
cut out, made smaller, and lit otherwise; each of the taught ones that shows in one is right if its
own label is the nearest one. With the thresholds of a new label set it may also stay unknown, as
what nobody taught should. Outlines are those of the ground truth.

Run it as python -m aopsam_benchmarks.teaching --data FOLDER...
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import closing

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.datasets import open_dataset
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.evaluation.images import instance_masks, spread
from aopsam_ros.labels.label_set import LabelOptions, LabelSet
from aopsam_ros.labels.semantic_encoder import SemanticEncoder
from aopsam_ros.segmentation.segmenter import Segmenter

THINGS = 6  # that are taught, and as many that are not, where there are so many
SHARES = (0.005, 0.3)  # of a photograph that a thing fills
VIEWS = 8  # of each photograph
SIDES, SCALES = (0.6, 1.0), (0.4, 1.0)  # of a view: share of the photograph's sides, and its size
GAINS, GAMMAS = (0.6, 1.4), (0.7, 1.4)  # of its light
SHOWS = 0.5  # share of a thing from which it shows in a view
TAUGHT, OTHERS = ("seen", "nearest", "right", "wrong"), ("others", "named")  # see `measure`
NEAREST = LabelOptions(min_similarity=0.0, margin=0.0)

# An image, and each thing's mask in it; None: it does not show.
SceneView = tuple[NDArray[np.uint8], list[NDArray[np.bool_] | None]]


def things_in(layers: NDArray[np.uint16]) -> list[NDArray[np.bool_]]:
    """Return the largest instances that are no larger than a thing, twice `THINGS` at most."""
    masks = [mask for mask in instance_masks(layers, SHARES[0]) if mask.mean() <= SHARES[1]]
    return sorted(masks, key=np.count_nonzero, reverse=True)[: 2 * THINGS]


def views_of(
    rgb: NDArray[np.uint8], things: Sequence[NDArray[np.bool_]], rng: np.random.Generator
) -> Iterator[SceneView]:
    """Cut out, resize and light a photograph `VIEWS` times, and its things with it."""
    height, width = rgb.shape[:2]
    for _ in range(VIEWS):
        rows, columns = (max(1, round(rng.uniform(*SIDES) * side)) for side in (height, width))
        top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
        part = slice(top, top + rows), slice(left, left + columns)
        scale = rng.uniform(*SCALES)
        size = max(1, round(scale * columns)), max(1, round(scale * rows))
        small = cv2.resize(rgb[part], size, interpolation=cv2.INTER_AREA) / 255.0
        lit = rng.uniform(*GAINS) * small ** rng.uniform(*GAMMAS)
        shown: list[NDArray[np.bool_] | None] = []
        for thing in things:
            own = cv2.resize(thing[part].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
            is_shown = np.count_nonzero(thing[part]) >= SHOWS * np.count_nonzero(thing)
            shown.append(own > 0 if is_shown and own.any() else None)
        yield (255 * np.clip(lit, 0, 1)).astype(np.uint8), shown


def measure(
    segmenter: Segmenter,
    encoder: SemanticEncoder,
    rgb: NDArray[np.uint8],
    things: Sequence[NDArray[np.bool_]],
    rng: np.random.Generator,
) -> dict[str, int]:
    """Teach the things, and count what became of them in other views.

    Returns:
        seen: things in views.
        nearest: those whose own label is the nearest.
        right, wrong: those that get their own label, or another, with thresholds; the rest: none.
        others: things in views that were not taught.
        named: those that get a label.
    """
    labels = LabelSet.empty(encoder.identity)
    for number, thing in enumerate(things[:THINGS]):
        labels = labels.added(str(number), encoder.example(rgb, thing))
    counts = dict.fromkeys(TAUGHT + OTHERS, 0)
    for view, shown in views_of(rgb, things, rng):
        names = [str(number) for number, mask in enumerate(shown) if mask is not None]
        masks = [mask for mask in shown if mask is not None]
        if not masks:
            continue
        features = encoder.features(view, segmenter.encode(view), masks)
        for wanted, (near, _), (name, _) in zip(
            names,
            labels.nearest(features, NEAREST),
            labels.nearest(features, LabelOptions()),
            strict=True,
        ):
            if wanted not in labels.names:
                counts["others"] += 1
                counts["named"] += name != ""
                continue
            counts["seen"] += 1
            counts["nearest"] += near == wanted
            counts["right"] += name == wanted
            counts["wrong"] += name not in ("", wanted)
    return counts


def main() -> None:
    """Measure and print a line for each data set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--limit", type=int, default=20, help="photographs of each (%(default)s)")
    parser.add_argument("--model", default="nano")
    chosen = parser.parse_args()
    engine = EngineOptions(engine="onnxruntime", threads=1)
    print("| | photographs | in views | nearest | right | wrong | others | named |")
    print("|---" + "|---:" * 7 + "|")
    with (
        Segmenter.from_bundle(chosen.model, "grid1", engine) as segmenter,
        closing(SemanticEncoder(segmenter, engine)) as encoder,
    ):
        for folder in chosen.data:
            dataset, rng = open_dataset(folder), np.random.default_rng(0)
            found = []
            for index in spread(range(len(dataset)), chosen.limit):
                image = dataset.read(index)
                things = things_in(image.layers)
                if len(things) >= THINGS:
                    found.append(measure(segmenter, encoder, image.rgb, things, rng))
            cells = [str(len(found))]
            for first, *rest in (TAUGHT, OTHERS):
                total = sum(one[first] for one in found)
                shares = [sum(one[key] for one in found) / max(1, total) for key in rest]
                cells += [str(total), *(f"{share:.1%}" for share in shares)]
            print(f"| {dataset.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
