"""What RViz and Foxglove show, drawn from recorded messages: it lies on the masks of the image.

Neither runs here. Their part is played by cv2: lines and points of image markers at their pixels,
markers in space through the calibration, each in its own colour.
"""

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from aopsam_ros.drawing.palette import PROMPT_STYLES, colour_of
from aopsam_ros.images.files import read_rgb
from aopsam_ros.masks import decode_full
from support.live import Robot
from support.messages import calibration_of, image_of, raw_image, stamp_of

WIDTH, HEIGHT, DEPTH_M = 640, 480, 1.5
TOPICS = ("masks", "prompts", "overlay", "outlines", "prompt_points", "prompt_markers", "boxes_3d")


def rgb_of(colour):
    return tuple(round(255 * value) for value in (colour.r, colour.g, colour.b))


def pixel_of(point, calibration):
    """Where a camera of that calibration sees a point of its optical frame."""
    fx, cx, fy, cy = (calibration.k[index] for index in (0, 2, 4, 5))
    return np.array([fx * point.x / point.z + cx, fy * point.y / point.z + cy])


def draw_lines(canvas, points, colours):
    """As a LINE_LIST: each two points are a line; a colour for each."""
    for begin, end, colour in zip(points[::2], points[1::2], colours, strict=True):
        first, second = (tuple(round(float(value)) for value in point) for point in (begin, end))
        cv2.line(canvas, first, second, rgb_of(colour), 2)


def as_foxglove(rgb, shown):
    """Foxglove's image panel: outlines and prompts over the camera's image."""
    canvas, outlines, prompts = rgb.copy(), shown["outlines"], shown["prompt_points"]
    draw_lines(canvas, [(p.x, p.y) for p in outlines.points], outlines.outline_colors)
    for point, colour in zip(prompts.points, prompts.outline_colors, strict=True):
        cv2.circle(canvas, (round(point.x), round(point.y)), 4, rgb_of(colour), -1)
    return canvas


def as_rviz(rgb, shown, calibration):
    """RViz' camera display: prompts as spheres, and the masks' boxes, over the camera's image."""
    canvas = rgb.copy()
    for marker in shown["boxes_3d"].markers:
        pixels = [pixel_of(point, calibration) for point in marker.points]
        draw_lines(canvas, pixels, marker.colors[::2])  # a colour a point
    for marker in shown["prompt_markers"].markers:
        for point in marker.points:
            radius = round(calibration.k[0] * marker.scale.x / 2 / point.z)
            middle = tuple(round(float(value)) for value in pixel_of(point, calibration))
            cv2.circle(canvas, middle, radius, rgb_of(marker.color), -1)
    return canvas


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, root):
    """A photograph, the messages of all topics for it, and the calibration."""
    rgb = cv2.resize(read_rgb(root / "photographs" / "galaxies.jpg"), (WIDTH, HEIGHT))
    image, calibration = image_of(rgb), calibration_of(WIDTH, HEIGHT, focal=500.0)
    depth = raw_image(np.full((HEIGHT, WIDTH), DEPTH_M, np.float32))
    with Robot(tmp_path_factory.mktemp("viewers")) as robot:
        robot.start_node(model="nano", threads=1)
        robot.activate()
        depths = robot.node.create_publisher(Image, "/depth", 10)
        robot.listen("boxes_3d", MarkerArray)

        def shown():
            robot.infos.publish(calibration)
            depth.header.stamp = robot.send(image)
            depths.publish(depth)
            robot.spin(0.5)
            stamped = [{stamp_of(m): m for m in reversed(robot.received[name])} for name in TOPICS]
            common = set.intersection(*map(set, stamped)) - {None}
            if len(common) < 2:  # the first image may be before its CameraInfo
                return None
            return {name: own[max(common)] for name, own in zip(TOPICS, stamped, strict=True)}

        return rgb, robot.wait(shown, "a topic has no message of the image"), calibration


def test_outlines_run_along_their_masks_edges_in_their_colours(recorded):
    rgb, shown, _ = recorded
    canvas = as_foxglove(np.zeros_like(rgb), shown)
    assert len(shown["masks"].masks) > 2
    for mask in shown["masks"].masks:
        own = (np.abs(canvas.astype(int) - colour_of(mask.id)) <= 1).all(2)
        near = cv2.dilate(own.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
        pixels = decode_full(mask, HEIGHT, WIDTH).astype(np.uint8)
        edge = (pixels - cv2.erode(pixels, np.ones((3, 3), np.uint8))).astype(bool)
        assert near[edge].mean() > 0.7  # where no smaller mask's line lies on it
        assert own[~cv2.dilate(pixels, np.ones((9, 9), np.uint8)).astype(bool)].sum() == 0


def test_prompts_stand_where_they_are_in_both_viewers(recorded):
    _, shown, calibration = recorded
    prompts = shown["prompts"].prompts
    colours = {state.value: style.colour for state, style in PROMPT_STYLES.items()}
    wanted = sorted((round(p.x), round(p.y), colours[p.state]) for p in prompts)
    points = shown["prompt_points"]
    flat = zip(points.points, points.outline_colors, strict=True)
    assert sorted((round(p.x), round(p.y), rgb_of(c)) for p, c in flat) == wanted
    spheres = []
    for marker in shown["prompt_markers"].markers:
        for point in marker.points if marker.action == Marker.ADD else ():
            x, y = pixel_of(point, calibration)
            spheres.append((round(x), round(y), rgb_of(marker.color)))
    assert sorted(spheres) == wanted


def test_boxes_in_space_enclose_their_masks_in_the_camera_s_view(recorded):
    _, shown, calibration = recorded
    (marker,) = [m for m in shown["boxes_3d"].markers if m.action == Marker.ADD]
    found = {}
    for point, colour in zip(marker.points, marker.colors, strict=True):
        found.setdefault(rgb_of(colour), []).append(pixel_of(point, calibration))
    drawn = 0
    for mask in shown["masks"].masks:
        corners = found.get(colour_of(mask.id))
        if corners is None:
            continue
        hull = cv2.convexHull(np.array(corners, np.float32)).round().astype(np.int32)
        box = cv2.fillConvexPoly(np.zeros((HEIGHT, WIDTH), np.uint8), hull, 1).astype(bool)
        assert box[decode_full(mask, HEIGHT, WIDTH)].mean() > 0.9
        drawn += 1
    assert drawn >= 2


def test_the_overlay_tints_each_mask_and_leaves_the_rest(recorded, tmp_path):
    rgb, shown, calibration = recorded
    overlay = np.frombuffer(shown["overlay"].data, np.uint8).reshape(rgb.shape)
    anywhere = np.zeros((HEIGHT, WIDTH), np.uint8)
    for mask in shown["masks"].masks:  # small ones on top
        anywhere |= decode_full(mask, HEIGHT, WIDTH).astype(np.uint8)
    changed = np.abs(overlay.astype(int) - rgb).max(2) > 8
    inside = cv2.erode(anywhere, np.ones((9, 9), np.uint8)).astype(bool)
    outside = ~cv2.dilate(anywhere, np.ones((31, 31), np.uint8)).astype(bool)
    assert changed[inside].mean() > 0.9
    assert changed[outside].mean() < 0.05  # a prompt's marker, at most
    views = [as_foxglove(rgb, shown), as_rviz(rgb, shown, calibration), overlay]
    cv2.imwrite(str(tmp_path / "viewers.png"), np.hstack(views)[..., ::-1])
