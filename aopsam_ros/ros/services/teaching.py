"""The service `~/teach`: an example of a label, from the newest image or the newest masks."""

from aopsam_ros.errors import InputError
from aopsam_ros.images.encodings import to_rgb
from aopsam_ros.labels.label_set import checked_name
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.results import InstanceMask
from aopsam_ros.ros.messages import segmentations
from aopsam_ros.ros.messages.images import bridge_reader
from aopsam_ros.ros.pairing import Frame
from aopsam_ros.ros.pipeline import Pipeline
from aopsam_ros.ros.services.segment_service import prompt_of
from aopsam_ros.segmentation.interactive import segment_prompt
from aopsam_ros.segmentation.segmenter import FrameEmbedding
from aopsam_ros.srv import Segment, Teach


def teach(pipeline: Pipeline, request: Teach.Request, options: SegmenterOptions) -> Teach.Response:
    """Carry out a request, in one of the pipeline's worker threads; `options` are for encoding.

    Raises:
        AopsamError: if it cannot be done; the message says why.
    """
    checked_name(request.label)
    frame, known = _meant(pipeline, request)
    rgb = to_rgb(frame.image, bridge_reader())
    mask = known or _prompted(pipeline, request, pipeline.segmenter.encode(rgb, options))
    labeller = pipeline.make_labeller()
    examples = labeller.teach(request.label, rgb, mask, options)
    response = Teach.Response(success=True, examples=examples, names=list(labeller.labels.names))
    response.header, (response.height, response.width) = frame.image.header, rgb.shape[:2]
    response.mask = segmentations.mask_message(mask)
    return response


def _meant(pipeline: Pipeline, request: Teach.Request) -> tuple[Frame, InstanceMask | None]:
    """Return the image that a request is about, and its mask where one is named by its id."""
    has_prompt = bool(request.points or request.box.width or request.box.height)
    if request.mask_id and has_prompt:
        raise InputError("mask_id and a point or box exclude each other")
    if not (request.mask_id or has_prompt):
        raise InputError("say what is meant: by a point, a box, or the mask_id of one of the masks")
    if not request.mask_id:
        newest = pipeline.newest
        if newest is None:
            raise InputError("no image has come yet")
        return newest, None
    segmented = pipeline.segmented  # read once: another worker may replace it
    if segmented is None:
        raise InputError("no masks have been found yet")
    for mask in segmented.segmentation.masks:
        if mask.id == request.mask_id:
            return segmented.frame, mask
    raise InputError(f"the newest masks have none with the id {request.mask_id}")


def _prompted(pipeline: Pipeline, request: Teach.Request, frame: FrameEmbedding) -> InstanceMask:
    """Return the best mask of a request's point or box."""
    prompt = prompt_of(
        Segment.Request(points=request.points, labels=request.point_labels, box=request.box)
    )
    masks = segment_prompt(pipeline.segmenter, frame, prompt).masks
    if not masks:
        raise InputError("the model finds nothing there")
    return masks[0]
