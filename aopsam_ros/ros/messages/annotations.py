"""Masks and prompts as Foxglove's own annotations of an image; needs foxglove_msgs."""

from typing import Any

from foxglove_msgs.msg import (
    Color,
    ImageAnnotations,
    KeyValuePair,
    Point2,
    PointsAnnotation,
    TextAnnotation,
)
from std_msgs.msg import Header

from aopsam_ros.drawing.palette import PROMPT_STYLES, Rgb, colour_of
from aopsam_ros.masks import to_polygons
from aopsam_ros.results import InstanceMask, Segmentation
from aopsam_ros.ros.messages.markers import OUTLINE_TOLERANCE, OUTLINE_WIDTH, POINT_SIZE

FONT_SIZE = 12.0  # image pixels
_BEHIND_TEXT = Color(r=0.0, g=0.0, b=0.0, a=0.6)


def annotations(segmentation: Segmentation, header: Header) -> ImageAnnotations:
    """Return the masks' outlines, each mask's id or label at its prompt, and the prompts."""
    message = ImageAnnotations()
    for mask in segmentation.masks:
        colour = _colour(colour_of(mask.id))
        details = _details(mask)
        for polygon in to_polygons(mask, OUTLINE_TOLERANCE):
            outline = PointsAnnotation(type=PointsAnnotation.LINE_LOOP, thickness=OUTLINE_WIDTH)
            outline.outline_color = colour
            outline.points = [Point2(x=float(x), y=float(y)) for x, y in polygon.tolist()]
            _complete(outline, header, details)
            message.points.append(outline)
        text = TextAnnotation(text=mask.label or str(mask.id), font_size=FONT_SIZE)
        text.position = Point2(x=float(mask.prompt[0]), y=float(mask.prompt[1]))
        text.text_color, text.background_color = colour, _BEHIND_TEXT
        _complete(text, header, details)
        message.texts.append(text)
    prompts = PointsAnnotation(type=PointsAnnotation.POINTS, thickness=POINT_SIZE)
    colours = {state: _colour(style.colour) for state, style in PROMPT_STYLES.items()}
    prompts.points = [Point2(x=float(p.x), y=float(p.y)) for p in segmentation.prompts]
    prompts.outline_colors = [colours[prompt.state] for prompt in segmentation.prompts]
    _complete(prompts, header, {})
    message.points.append(prompts)
    return message


def _details(mask: InstanceMask) -> dict[str, str]:
    """Return what Foxglove shows of a mask that is clicked on."""
    return {
        "id": str(mask.id),
        "label": mask.label,
        "score": f"{mask.score:.2f}",
        "predicted_iou": f"{mask.predicted_iou:.2f}",
        "area": str(mask.area),
        "parent": str(mask.parent),
    }


def _complete(annotation: Any, header: Header, details: dict[str, str]) -> None:  # noqa: ANN401
    annotation.timestamp = header.stamp
    if details and hasattr(annotation, "metadata"):  # not in releases before 2025
        annotation.metadata = [KeyValuePair(key=k, value=v) for k, v in details.items()]


def _colour(rgb: Rgb) -> Color:
    red, green, blue = (channel / 255.0 for channel in rgb)
    return Color(r=red, g=green, b=blue, a=1.0)
