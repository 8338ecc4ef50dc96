"""What reuse between frames saves, and what it costs: photographs whose motion is known.

Views of labelled photographs move as a camera would: not at all, sideways, or closer while turning;
or they stay and an object of the next photograph crosses them. All have a sensor's noise. A frame's
ground truth is that of the photograph, moved likewise. Each frame is segmented by itself and with
what the frame before left, in turns.

Run it as python -m benchmarks.streams --data FOLDER...
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from aopsam_ros.commands.arguments import add_settings_argument, parse_settings
from aopsam_ros.data.datasets import open_dataset
from aopsam_ros.data.labelled_images import LabelledImage
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.errors import AopsamError
from aopsam_ros.evaluation.images import instance_masks, spread
from aopsam_ros.evaluation.metrics import iou_matrix, one_to_one
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.streaming.reuse import ReuseOptions
from aopsam_ros.streaming.stream_segmenter import StreamSegmenter

VIEW = 0.7  # of a photograph's sides
NOISE = 3.0  # standard deviation of a sensor's, grey levels
LARGE = 0.03  # share of a photograph from which an instance is an object that may cross another

LayeredFrame = tuple[NDArray[np.uint8], NDArray[np.uint16]]  # image, label layers
View = tuple[float, float, float, float]  # centre x and y, size, all of the photograph's; degrees


# Where a camera looks at time `t`, 0 to 1.
PATHS: dict[str, Callable[[float], View]] = {
    "still": lambda _: (0.5, 0.5, 1.0, 0.0),
    "aside": lambda t: (0.37 + 0.26 * t, 0.45 + 0.1 * t, 1.0, 0.0),
    "closer": lambda t: (0.5, 0.5, 1.0 - 0.2 * t, 10 * t - 5),
}
KINDS = (*PATHS, "crossing")
AFTER_ENCODER = ("predictor", "sampling", "decoder", "filtering", "postprocess")


def view(image: LabelledImage, path: Callable[[float], View], t: float) -> LayeredFrame:
    """Show a photograph at time `t`, 0 to 1."""
    x, y, size, angle = path(t)
    height, width = image.rgb.shape[:2]
    out = round(width * VIEW), round(height * VIEW)
    motion = cv2.getRotationMatrix2D((x * width, y * height), angle, 1 / size)
    motion[:, 2] += np.array(out) / 2 - (x * width, y * height)
    rgb = cv2.warpAffine(image.rgb, motion, out, borderMode=cv2.BORDER_REFLECT)
    layers = [cv2.warpAffine(layer, motion, out, flags=cv2.INTER_NEAREST) for layer in image.layers]
    return np.asarray(rgb, np.uint8), np.stack(layers)


def crossing(image: LabelledImage, other: LabelledImage, t: float) -> LayeredFrame:
    """Show a photograph from a fixed place, and let the other one's largest object cross it."""
    rgb, layers = view(image, PATHS["still"], 0.0)
    thing = max(instance_masks(other.layers, LARGE), key=np.count_nonzero, default=None)
    if thing is None:
        return rgb, layers
    x, y, w, h = cv2.boundingRect(thing.astype(np.uint8))
    scale = 0.4 * min(rgb.shape[0] / h, rgb.shape[1] / w)
    rows, columns = max(1, round(h * scale)), max(1, round(w * scale))
    mask = cv2.resize(thing[y : y + h, x : x + w].astype(np.uint8), (columns, rows)) > 0
    patch = cv2.resize(other.rgb[y : y + h, x : x + w], (columns, rows))
    top, left = (rgb.shape[0] - rows) // 2, round(t * (rgb.shape[1] - columns))
    place = (slice(top, top + rows), slice(left, left + columns))
    rgb[place][mask] = patch[mask]
    moved = np.zeros(rgb.shape[:2], np.bool_)
    moved[place] = mask
    layers[:, moved] = 0
    layers[0, moved] = layers.max() + 1
    return rgb, layers


def frames_of(
    kind: str, image: LabelledImage, other: LabelledImage, count: int, seed: int
) -> Iterator[LayeredFrame]:
    """Make a stream, each frame with noise of its own."""
    random = np.random.default_rng(seed)
    for t in np.linspace(0.0, 1.0, count):
        rgb, layers = (
            crossing(image, other, t) if kind == "crossing" else view(image, PATHS[kind], t)
        )
        noisy = rgb + random.normal(0.0, NOISE, rgb.shape)
        yield np.clip(np.rint(noisy), 0, 255).astype(np.uint8), layers


def measure(
    segmenter: Segmenter, frames: Iterator[LayeredFrame], reuse: ReuseOptions
) -> NDArray[np.float64] | None:
    """Segment a stream in both ways, in turns; None where it has no ground truth.

    Returns:
        means over the frames, `[2, 5]`, alone and with reuse: mIoU, masks, prompts decoded,
        milliseconds after the encoder and of the frame.
    """
    stream = StreamSegmenter(segmenter)
    rows: tuple[list[list[float]], list[list[float]]] = [], []
    for number, (rgb, layers) in enumerate(frames):
        ground_truth = instance_masks(layers)
        for way in (0, 1) if number % 2 else (1, 0):
            found = stream.segment(rgb, reuse=reuse) if way else segmenter.segment(rgb)
            if ground_truth:
                miou = one_to_one(iou_matrix(found, ground_truth))
                times = found.timings_ms
                after_encoder = sum(times[stage] for stage in AFTER_ENCODER)
                counts = [len(found.masks), found.prompts_decoded]
                rows[way].append([miou, *counts, after_encoder, times["total"]])
    return np.mean(rows, 1) if rows[0] else None


def report(kind: str, streams: Sequence[NDArray[np.float64]]) -> str:
    """Put a kind of stream on a line: means with their error; ratios of time as medians."""
    alone, reused = np.stack(streams, 1)
    cost = reused[:, 0] - alone[:, 0]
    error = cost.std(ddof=1) / np.sqrt(len(cost)) if len(cost) > 1 else float("nan")
    ratio = np.median(reused[:, 3:] / alone[:, 3:], axis=0)
    return (
        f"| {kind} | {len(streams)} | {alone[:, 0].mean():.3f} | {cost.mean():+.3f} ± {error:.3f} "
        f"| {alone[:, 1].mean():.1f} | {reused[:, 1].mean():.1f} | {alone[:, 2].mean():.1f} "
        f"| {reused[:, 2].mean():.1f} | {ratio[0]:.2f} | {ratio[1]:.2f} |"
    )


HEADER = (
    "| stream | streams | mIoU alone | difference | masks alone | reused "
    "| decoded alone | reused | after the encoder, ratio | frame, ratio |\n|---" + "|---:" * 9 + "|"
)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", required=True, help="data sets with label maps")
    parser.add_argument("--photographs", type=int, default=2, help="of each data set (%(default)s)")
    parser.add_argument("--frames", type=int, default=20, help="of a stream (%(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--threads", type=int, default=0)
    add_settings_argument(parser, "set options")
    parser.add_argument("--change-threshold", type=float, default=ReuseOptions.change_threshold)
    parser.add_argument("--key-frames", type=int, default=ReuseOptions.key_frames)
    chosen = parser.parse_args()
    try:
        _run(chosen)
    except AopsamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(chosen: argparse.Namespace) -> None:
    reuse = ReuseOptions(chosen.change_threshold, chosen.key_frames)
    images = [
        dataset.read(index)
        for dataset in map(open_dataset, chosen.data)
        for index in spread(range(len(dataset)), chosen.photographs)
    ]
    engine = EngineOptions(threads=chosen.threads)
    with Segmenter.from_bundle(chosen.model, engine=engine) as segmenter:
        segmenter.options = segmenter.options.updated(parse_settings(chosen.set))
        print(HEADER)
        for kind in chosen.kinds:
            streams = []
            for number, image in enumerate(tqdm(images, desc=kind, leave=False)):
                other = images[(number + 1) % len(images)]
                frames = frames_of(kind, image, other, chosen.frames, number)
                streams.append(measure(segmenter, frames, reuse))
            print(report(kind, [one for one in streams if one is not None]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
