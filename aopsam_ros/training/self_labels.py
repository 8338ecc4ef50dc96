"""Self-labelling: the model's own masks, prompted by a grid, as a data set in SA-1B's format."""

import contextlib
import csv
import io
import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from aopsam_ros.data.dataset_writing import Sa1bWriter
from aopsam_ros.data.frames import FrameSource, SourceFrame
from aopsam_ros.errors import DatasetError, InputError
from aopsam_ros.geometry import shrink
from aopsam_ros.images.files import write_bytes
from aopsam_ros.segmentation.segmenter import Segmenter
from aopsam_ros.training.loop import processes

MANIFEST = "manifest.csv"


@dataclass
class LabelCount:
    """Number of labelled frames, of their masks and of broken frames, with the last reason."""

    frames: int = 0
    masks: int = 0
    broken: int = 0
    reason: str = ""


class SelfLabeller:
    """Labels the frames of one source into a folder; resumes an interrupted run.

    It holds `<frame>.jpg`, of `image_size` pixels at most, `<frame>.json` and the frames' groups.
    `segmenter` is called only if a frame has to be labelled.
    """

    def __init__(self, segmenter: Callable[[], Segmenter], image_size: int, folder: Path) -> None:
        self.segmenter, self.image_size, self.folder = segmenter, image_size, folder

    def label(self, source: FrameSource) -> LabelCount:
        """Label every frame; a broken one is counted and left out.

        Raises:
            DatasetError: if no frame could be read, or no mask was found.
        """
        if processes.count() > 1:
            self.label_share(source, slice(processes.rank(), None, processes.count()))
            processes.wait()
        self.folder.mkdir(parents=True, exist_ok=True)
        count, groups = LabelCount(), {}
        title = f"labelling {source.name}"
        bar = tqdm(source.frames(), title, len(source), unit="frame", file=sys.stderr)
        for frame in bar:
            try:
                count.masks += self._label_frame(frame)
            except InputError as error:
                count.broken, count.reason = count.broken + 1, f"{frame.name}: {error}"
                continue
            count.frames += 1
            groups[frame.name] = frame.group
            bar.set_postfix(masks=f"{count.masks / count.frames:.1f}")
        if processes.is_first():
            self._finish(groups)
        processes.wait()
        _check(source, count)
        return count

    def label_share(self, source: FrameSource, share: slice) -> None:
        """Label some of the frames; `label` finds them then."""
        for frame in itertools.islice(source.frames(), share.start, share.stop, share.step):
            with contextlib.suppress(InputError):  # reported by who counts
                self._label_frame(frame)

    def _label_frame(self, frame: SourceFrame) -> int:
        """Label a frame unless it is done; return how many masks it has."""
        labels = self.folder / f"{frame.name}.json"
        done = _count_masks(labels)
        if done is not None:
            return done
        rgb = shrink(frame.read(), self.image_size)
        segmentation = self.segmenter().segment(rgb)
        # The image comes first: a frame counts as done when its labels exist.
        Sa1bWriter(self.folder).add(frame.name, rgb, segmentation)
        return len(segmentation.masks)

    def _finish(self, groups: dict[str, str]) -> None:
        """Write the frames' groups, and remove frames that the source no longer has."""
        for file in [*self.folder.glob("*.jpg"), *self.folder.glob("*.json")]:
            if file.stem not in groups:
                file.unlink()
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["set", "id", "group"])
        writer.writerows([self.folder.name, name, group] for name, group in groups.items())
        write_bytes(self.folder / MANIFEST, table.getvalue().encode())


def _count_masks(labels: Path) -> int | None:
    """Count the masks of a frame; None where it is not labelled yet."""
    try:
        content = json.loads(labels.read_text(encoding="utf-8"))
        return len(content["annotations"]) if labels.with_suffix(".jpg").is_file() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check(source: FrameSource, count: LabelCount) -> None:
    if not count.frames:
        raise DatasetError(f"{source.name}: no frame could be read ({count.reason or 'none came'})")
    if not count.masks:
        raise DatasetError(
            f"{source.name}: no mask in any of {count.frames} frames was good enough; lower the"
            " thresholds, such as --set mask.predicted_iou_threshold=0.7"
        )
