"""The frames of one camera: each builds on the one before, and objects keep their ids."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aopsam_ros.options import SegmenterOptions
from aopsam_ros.prompting.boxes import Boxes
from aopsam_ros.prompting.previous_prompts import PreviousPrompts
from aopsam_ros.results import Segmentation
from aopsam_ros.segmentation.segmenter import FrameEmbedding, Segmenter
from aopsam_ros.segmentation.time_budget import Stopwatch
from aopsam_ros.streaming.camera_motion import CameraMotion
from aopsam_ros.streaming.follower import Follower
from aopsam_ros.streaming.hysteresis import Hysteresis
from aopsam_ros.streaming.reuse import FrameReuse, ReuseOptions
from aopsam_ros.streaming.track import appearance_of
from aopsam_ros.streaming.tracker import Tracker, TrackingOptions

# Adds to what was found in an image what its embedding says: labels.
Annotate = Callable[[NDArray[np.uint8], FrameEmbedding, Segmentation], Segmentation]


class StreamSegmenter:
    """Segments the frames of one camera with a `Segmenter`.

    Several threads may segment frames at once where the segmenter allows it; reuse and tracking are
    then kept in order by `wait`.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._reuse: FrameReuse | None = None  # while it is switched on
        self._hysteresis: Hysteresis | None = None  # likewise
        self._tracker = Tracker()
        self._camera = CameraMotion()
        self._stamp: int | None = None  # of the frame tracked last; None: no object is known

    def segment(
        self,
        rgb: NDArray[np.uint8],
        stamp: int = 0,
        options: SegmenterOptions | None = None,
        boxes: Boxes | None = None,
        *,
        reuse: ReuseOptions | None = None,
        tracking: TrackingOptions | None = None,
        hysteresis: float = 0.0,
        annotate: Annotate | None = None,
        follower: Follower | None = None,
        edges: bool = False,
        wait: Callable[[], object] = lambda: None,
    ) -> Segmentation:
        """Segment the next frame.

        Args:
            rgb: uint8 `[H, W, 3]`.
            stamp: of the frame, nanoseconds; where it steps back, all objects are forgotten.
            options: of the frame; the segmenter's own where None.
            boxes: a detector's, in source pixels, for the prompt sources that need them.
            reuse: how the frame builds on the one before, with adaptive sources; None: it stands
                alone.
            tracking: how objects are found again; None: ids are those of this frame only.
            hysteresis: how much lower thresholds are for a mask that the frame before had; 0: not.
            annotate: called with the image, its embedding and the masks before these are tracked;
                None: masks stay as they are.
            follower: finds the thing that it follows in this frame, too; None: there is none.
            edges: find the image's edges as well; see `Segmenter.segment`.
            wait: returns when all frames before have been segmented; not needed where frames come
                one at a time.

        Raises:
            InputError, InferenceError: as `Segmenter.segment`.
        """
        segmenter, chosen = self._segmenter, options or self._segmenter.options
        reuse = reuse if segmenter.source.adaptive else None  # others take no prompts over
        if reuse is None and tracking is None and not hysteresis and follower is None:
            segmentation = self._alone(rgb, chosen, boxes, annotate, edges)
            wait()
            self.reset()
            return segmentation
        if follower is not None or reuse is not None:
            wait()
        if follower is not None:
            follower.prepare(segmenter, chosen)
        stopwatch = Stopwatch()  # the time budget is the frame's own
        previous = None if reuse is None else self._take_over(rgb, chosen, reuse)
        frame = segmenter.encode(rgb, chosen, stopwatch)
        segmentation = segmenter.segment_frame(
            frame, chosen, boxes, stopwatch, previous, edges=edges, hysteresis=hysteresis
        )
        wait()
        if hysteresis:
            self._hysteresis = self._hysteresis or Hysteresis()
            segmentation = self._hysteresis.update(rgb, segmentation, chosen.mask.granularity)
        else:
            self._hysteresis = None
        if reuse is None:
            self._reuse = None
        elif self._reuse is not None:
            self._reuse.end(segmentation)
        if annotate is not None:
            segmentation = annotate(rgb, frame, segmentation)
        if tracking is not None:
            segmentation = self._track(rgb, segmentation, frame, stamp, tracking)
        else:
            self._forget_objects()
        if follower is not None:
            follower.update(segmenter, frame, rgb)
        return segmentation

    def _take_over(
        self, rgb: NDArray[np.uint8], options: SegmenterOptions, reuse: ReuseOptions
    ) -> PreviousPrompts | None:
        """Return what the frame takes over from the one before; see `FrameReuse.begin`."""
        self._reuse = self._reuse or FrameReuse()
        return self._reuse.begin(rgb, options, reuse)

    def _alone(
        self,
        rgb: NDArray[np.uint8],
        options: SegmenterOptions,
        boxes: Boxes | None,
        annotate: Annotate | None,
        edges: bool,
    ) -> Segmentation:
        """Segment a frame that stands alone; of crops, the whole image is encoded once more."""
        segmenter, stopwatch = self._segmenter, Stopwatch()
        has_crops = segmenter.crop_layers(options) > 0
        if annotate is None or has_crops:
            found = segmenter.segment(rgb, options, boxes, edges=edges)
            return annotate(rgb, segmenter.encode(rgb, options), found) if annotate else found
        frame = segmenter.encode(rgb, options, stopwatch)
        found = segmenter.segment_frame(frame, options, boxes, stopwatch, edges=edges)
        return annotate(rgb, frame, found)

    def _track(
        self,
        rgb: NDArray[np.uint8],
        segmentation: Segmentation,
        frame: FrameEmbedding,
        stamp: int,
        options: TrackingOptions,
    ) -> Segmentation:
        """Give the masks the ids of the objects they show."""
        if self._stamp is not None and stamp < self._stamp:
            self._forget_objects()
        self._stamp = stamp
        masks = self._tracker.update(
            segmentation.masks,
            appearance_of(segmentation.masks, self._segmenter.features(frame)),
            segmentation.height,
            segmentation.width,
            self._camera.update(rgb),
            options,
        )
        number = {old.id: new.id for old, new in zip(segmentation.masks, masks, strict=True)}
        linked = (replace(mask, parent=number.get(mask.parent, 0)) for mask in masks)
        return replace(segmentation, masks=tuple(linked))

    def reset(self) -> None:
        """Forget the last frame and all objects; ids are not used again."""
        self._reuse = self._hysteresis = None
        self._forget_objects()

    def _forget_objects(self) -> None:
        if self._stamp is not None:  # most frames stand alone, and have none
            self._tracker.reset()
            self._camera.reset()
            self._stamp = None
