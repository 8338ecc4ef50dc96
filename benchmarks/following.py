"""How well one thing is followed: videos with a known mask, and photographs under a moving window.

Over a photograph a board slides, a piece of the next photograph, which hides the thing for some
frames. The follower begins with the known mask of the first frame. A frame counts the mean of the
IoU with the known mask and of the outline's F (DAVIS's J and F); 0 where a visible thing is lost.

Run it as python -m benchmarks.following --videos FOLDER... --photographs FOLDER...
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.data.datasets import open_dataset
from aopsam_ros.data.labelled_images import LabelledImage
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.evaluation.edges import TOLERANCE
from aopsam_ros.evaluation.images import instance_masks, spread
from aopsam_ros.masks.rle import decode_full, encode_full
from aopsam_ros.results import InstanceMask
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.streaming.follower import Follower

VIEW = 0.75  # of a photograph's sides
SHARES = (0.01, 0.15)  # of a photograph that a thing fills
FRAMES, HIDDEN = 24, range(9, 15)
ELSEWHERE = 0.1  # IoU with the known mask below which another thing is shown
FOUND = 0.5  # least IoU of a thing that was found again

MaskedFrame = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # image, what shows of the thing


def thing_in(image: LabelledImage) -> NDArray[np.bool_] | None:
    """Return the largest instance that is no larger than a thing, and not cut by the edge."""
    whole = [
        mask
        for mask in instance_masks(image.layers, SHARES[0])
        if mask.mean() <= SHARES[1] and not (mask[[0, -1]].any() or mask[:, [0, -1]].any())
    ]
    return max(whole, key=np.count_nonzero, default=None)


def window_frames(
    image: LabelledImage, thing: NDArray[np.bool_], board: NDArray[np.uint8]
) -> Iterator[MaskedFrame]:
    """Move a window over a photograph, and a board over the thing."""
    size = np.array(thing.shape)
    view = (VIEW * size).astype(int)
    x, y, w, h = cv2.boundingRect(thing.astype(np.uint8))
    most, least = np.minimum((y, x), size - view), np.maximum(0, (y + h, x + w) - view)
    board = cv2.resize(board, (round(1.2 * w), round(1.2 * h)))
    for number in range(FRAMES):
        turn = 4 * np.pi * number / FRAMES
        share = 0.5 + 0.5 * np.array([np.sin(turn), np.cos(turn)])
        top, left = np.clip(least + share * (most - least), 0, size - view).astype(int)
        rgb, shown = image.rgb.copy(), thing.copy()
        from_hidden = max(HIDDEN.start - number, number - HIDDEN.stop + 1, 0)
        if from_hidden < 3:
            at = x - 0.1 * w + (1 if number < HIDDEN.start else -1) * 0.6 * w * from_hidden
            motion = np.array([[1, 0, at], [0, 1, y - 0.1 * h]])
            there = cv2.warpAffine(np.ones(board.shape[:2], np.uint8), motion, size[::-1]) > 0
            rgb[there] = cv2.warpAffine(board, motion, size[::-1])[there]
            shown &= ~there
        part = slice(top, top + view[0]), slice(left, left + view[1])
        yield np.ascontiguousarray(rgb[part]), shown[part]


def video_frames(folder: str) -> Iterator[MaskedFrame]:
    """Read a video's images and masks."""
    dataset = open_dataset(folder)
    for index in range(len(dataset)):
        image = dataset.read(index)
        yield image.rgb, np.any(image.layers > 0, axis=0)


def outline_f(mask: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    """Return F of two masks' outlines, pixels nearer than the tolerance being equal."""
    reach = max(1, round(TOLERANCE * float(np.hypot(*mask.shape))))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    lines = [cv2.morphologyEx(m.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3)))
             for m in (mask, wanted)]  # fmt: skip
    near = [cv2.dilate(line, disc) for line in lines]
    precision, recall = (
        int(np.count_nonzero(lines[i] & near[1 - i])) / max(1, int(np.count_nonzero(lines[i])))
        for i in (0, 1)
    )
    return 2 * precision * recall / max(precision + recall, 1e-9)


def follow(segmenter: Segmenter, frames: Iterable[MaskedFrame]) -> dict[str, float]:
    """Follow the thing of the first frame; return sums over the others, see `HEADER`."""
    sums = dict.fromkeys(("seen", "J", "F", "lost", "elsewhere", "hidden", "wrong", "ms"), 0.0)
    follower, again = None, float("nan")  # whether it was found again; nan: it was never hidden
    for rgb, wanted in frames:
        if follower is None:
            box, counts = encode_full(wanted)
            area = int(wanted.sum())
            follower = Follower(
                rgb, InstanceMask(1, box, area, 1.0, 1.0, (0, 0), 1.0, "", counts, score=1.0)
            )
            follower.prepare(segmenter)
            continue
        frame = segmenter.encode(rgb)
        begin = time.process_time()
        mask = follower.update(segmenter, frame, rgb).mask
        sums["ms"] += 1000 * (time.process_time() - begin)
        if not wanted.any():
            sums["hidden"] += 1
            sums["wrong"] += mask is not None
            again = 0.0
            continue
        sums["seen"] += 1
        if mask is None:
            sums["lost"] += 1
            continue
        shown = decode_full(mask, *wanted.shape)
        iou = np.count_nonzero(shown & wanted) / np.count_nonzero(shown | wanted)
        sums["J"] += iou
        sums["F"] += outline_f(shown, wanted)
        sums["elsewhere"] += iou < ELSEWHERE
        again = max(again, float(iou >= FOUND)) if again == again else again
    return {**sums, "again": again}


HEADER = (
    "| | J&F | J | F | frames | lost | elsewhere | hidden frames | another shown | found again "
    "| ms a frame |\n|---" + "|---:" * 10 + "|"
)


def line(name: str, all_sums: Sequence[dict[str, float]]) -> str:
    """Put the sums of sequences on a line of the table; J and F are means of sequences."""
    total = {key: float(np.sum([one[key] for one in all_sums])) for key in all_sums[0]}
    j, f = (float(np.mean([one[key] / one["seen"] for one in all_sums])) for key in "JF")
    again = [one["again"] for one in all_sums if one["hidden"]]
    cost = total["ms"] / (total["seen"] + total["hidden"])
    return (
        f"| {name} | {(j + f) / 2:.3f} | {j:.3f} | {f:.3f} | {total['seen']:.0f} "
        f"| {total['lost']:.0f} | {total['elsewhere']:.0f} | {total['hidden']:.0f} "
        f"| {total['wrong']:.0f} | {np.sum(again):.0f} of {len(again)} | {cost:.0f} |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--videos", nargs="*", default=[], help="folders of images and masks")
    parser.add_argument("--photographs", nargs="*", default=[], help="data sets with label maps")
    parser.add_argument("--limit", type=int, default=3, help="photographs of a data set")
    parser.add_argument("--model", default="nano")
    chosen = parser.parse_args()
    print(HEADER)
    with Segmenter.from_bundle(chosen.model, engine=EngineOptions(threads=1)) as segmenter:
        videos = [follow(segmenter, video_frames(folder)) for folder in chosen.videos]
        for folder, sums in zip(chosen.videos, videos, strict=True):
            print(line(folder.rstrip("/").rpartition("/")[2], [sums]), flush=True)
        photographs: list[dict[str, float]] = []
        for folder in chosen.photographs:
            dataset = open_dataset(folder)
            images = [dataset.read(index) for index in spread(range(len(dataset)), chosen.limit)]
            each = [
                follow(segmenter, window_frames(image, thing, images[number - 1].rgb))
                for number, image in enumerate(images)
                if (thing := thing_in(image)) is not None
            ]
            if each:
                print(line(folder.rstrip("/").rpartition("/")[2], each), flush=True)
            photographs += each
        for name, found in (("all videos", videos), ("all photographs", photographs)):
            if found:
                print(line(name, found))


if __name__ == "__main__":
    main()
