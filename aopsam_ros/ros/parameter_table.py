"""The table of the node's parameters, and the immutable objects that their values make."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from aopsam_ros.engines.base import AUTO
from aopsam_ros.engines.registry import ENGINES
from aopsam_ros.errors import OptionError
from aopsam_ros.labels.label_set import OWN, LabelOptions
from aopsam_ros.option_table import OPTIONS, OptionSpec
from aopsam_ros.options import SegmenterOptions
from aopsam_ros.ros.messages.markers import MarkerOptions
from aopsam_ros.space.boxes_3d import AXES, OPTICAL
from aopsam_ros.streaming.follower import FollowOptions
from aopsam_ros.streaming.reuse import ReuseOptions
from aopsam_ros.streaming.tracker import TrackingOptions

T = TypeVar("T")


def _flag(default: bool, description: str) -> OptionSpec:
    return OptionSpec(default, description)


def _text(default: str, description: str, choices: tuple[str, ...] = ()) -> OptionSpec:
    return OptionSpec(default, description, choices=choices)


def _number(default: float, minimum: float, maximum: float, description: str) -> OptionSpec:
    return OptionSpec(default, description, minimum, maximum)


FIXED: Mapping[str, OptionSpec] = {
    "model": _text("nano", "model bundle: its name, or its folder"),
    "engine": _text(AUTO, f"what runs the model: {AUTO} or one of {', '.join(ENGINES)}"),
    "precision": _text(
        AUTO,
        "16 bits where results stay right: fp16 on a GPU and in OpenVINO, auto on a GPU and, in"
        " OpenVINO, with AMX, fp32 never; int8: the encoder in 8 bits, in ONNX Runtime on a CPU,"
        " for bundles that have it",
    ),
    "prompt_source": _text(
        "auto",
        "where prompts come from: auto, predictor, clusters, gridN as grid16, randomN as random256,"
        " or a detector's boxes or box_centres",
    ),
    "threads": _number(0, 0, 256, "processor threads of the engine; 0 = the engine chooses"),
    "workers": _number(
        1,
        1,
        16,
        "images that are segmented side by side, for more of them a second; results keep their"
        " order. With `threads` 1, in ONNX Runtime on a CPU",
    ),
    "image_transport": _text(
        "raw",
        "how images arrive: raw, or compressed (JPEG and PNG, on <image topic>/compressed)",
        ("raw", "compressed"),
    ),
    "labels.file": _text(
        "",
        "folder of a label set, from `aopsam labels`, whose labels masks get; a new folder begins"
        " empty, and ~/teach fills it; empty = what ~/teach adds is kept until cleanup. Or a .npz"
        " of text embeddings, for a bundle with a labeller",
    ),
    "labels.names": _text(
        "",
        "which labels of labels.file are used, separated by commas, as mug, door; empty = all",
    ),
    "autostart": _flag(False, "configure and activate at start"),
    "executor": _text(
        "single",
        "what waits for messages: single, or events, rclpy's experimental executor, which needs"
        " less of the processor, from rclpy 9.1.2 (Kilted) or 7.1.11 (Jazzy) on; read when the"
        " process starts",
        ("single", "events"),
    ),
}
CHANGEABLE: Mapping[str, OptionSpec] = {
    "target_frame": _text(
        "",
        "frame of boxes, points and markers in space, by TF at the image's stamp: base_link;"
        " empty = the camera's",
    ),
    "markers.depth": _number(
        1.0, 0.01, 1000.0, "distance of markers along their pixels' rays, metres"
    ),
    "markers.pixel_size": _number(
        0.001, 1e-6, 1.0, "metres a pixel, where no CameraInfo fits the image"
    ),
    "markers.size": _number(8.0, 0.1, 1000.0, "diameter of markers, image pixels"),
    "markers.lifetime": _number(
        10.0, 0.0, 86400.0, "seconds until markers vanish if no newer ones come; 0 = never"
    ),
    "markers.rectified": _flag(
        False,
        "images are rectified: use CameraInfo's P without distortion, for boxes in space as well",
    ),
    "overlay.prompts": _flag(True, "draw prompts on the overlay"),
    "overlay.legend": _flag(False, "write a legend on the overlay"),
    "tracking.enabled": _flag(
        False, "ids stay with objects from frame to frame; not with grid.crop_layers"
    ),
    "tracking.min_iou": _number(
        0.3, 0.0, 1.0, "least IoU of a mask and an object's expected place to be matched"
    ),
    "tracking.min_similarity": _number(
        0.9, 0.0, 1.0, "least cosine similarity at which an object is found again elsewhere"
    ),
    "tracking.max_lost": _number(
        15, 0, 10_000, "frames without an object after which it is forgotten"
    ),
    "mask.hysteresis": _number(
        0.0,
        0.0,
        1.0,
        "how much lower the thresholds of predicted IoU, stability and score are for a mask that"
        " the frame before had, against flicker; not with grid.crop_layers; 0 = off",
    ),
    "reuse.enabled": _flag(
        False,
        "prompts that gave masks in the frame before are decoded first, new ones only where the"
        " image changed; with the prompt source predictor",
    ),
    "reuse.change_threshold": _number(
        6.0,
        0.0,
        255.0,
        "mean difference around a place, in grey levels, above which the image has changed",
    ),
    "reuse.key_frames": _number(
        10, 1, 10_000, "every so many frames one is segmented as if it stood alone"
    ),
    "salient.count": _number(1, 1, 100, "masks of ~/salient"),
    "follow.min_similarity": _number(
        0.65,
        0.0,
        1.0,
        "least cosine of a mask's features and the followed thing's, without what the scene has in"
        " common, to be taken for it",
    ),
    "follow.max_lost": _number(
        300, 1, 100_000, "images without the followed thing after which it is given up"
    ),
    "boxes_3d.axes": _text(
        OPTICAL,
        "how boxes in space lie: along the optical frame, turned about its vertical, or along the "
        "object's own axes",
        tuple(AXES),
    ),
    "labels.min_similarity": _number(
        OWN,
        OWN,
        1.0,
        "least similarity of a mask and its label, a cosine; less is unknown; -1 = the label set's",
    ),
    "labels.margin": _number(
        OWN,
        OWN,
        1.0,
        "by how much the next label must be less similar, else the mask is unknown; -1 = the label"
        " set's",
    ),
    "labels.merge": _flag(
        False,
        "masks of one label that belong to one thing are united; parts lose their label, and"
        " have the whole as `parent`",
    ),
    "labels.depth_tolerance": _number(
        LabelOptions.depth_tolerance,
        0.0,
        10.0,
        "masks whose depths differ by more than this share of the nearer one are not united, where"
        " depth images come; 0 = depth does not matter",
    ),
    "pairing.tolerance_ms": _number(
        10.0, 0.0, 1000.0, "boxes or depth belong to an image whose stamp is so near"
    ),
    "pairing.timeout_ms": _number(
        500, 0, 60_000, "how long an image waits for the boxes or the depth of its stamp"
    ),
    "diagnostics.max_latency_ms": _number(
        0, 0, 600_000, "diagnostics warn where 95 of 100 images take longer; 0 = no limit"
    ),
    "diagnostics.min_rate_hz": _number(
        0.0, 0.0, 1000.0, "diagnostics warn where fewer masks are published; 0 = no limit"
    ),
    "segment.timeout_ms": _number(
        5000,
        100,
        600_000,
        "a request of ~/segment or ~/teach that takes longer is refused, up to a second later;"
        " where its work had begun, the answer says that it may be done all the same",
    ),
    "segment.session_s": _number(
        60.0, 1.0, 3600.0, "seconds without a request after which a session of ~/segment ends"
    ),
}
TABLE: Mapping[str, OptionSpec] = {**FIXED, **OPTIONS, **CHANGEABLE}


@dataclass(frozen=True)
class Startup:
    """What is fixed once the node is configured."""

    model: str
    engine: str
    precision: str
    prompt_source: str
    threads: int
    workers: int
    image_transport: str
    labels_file: str  # the parameter `labels.file`
    labels_names: str  # likewise


@dataclass(frozen=True)
class OverlayOptions:
    """What the overlay shows beside the masks."""

    prompts: bool = True
    legend: bool = False


@dataclass(frozen=True)
class PairingOptions:
    """Which boxes and depth belong to an image, and how long it waits for them."""

    tolerance_ms: float = 10.0
    timeout_ms: int = 500


@dataclass(frozen=True)
class Limits:
    """Limits beyond which the diagnostics warn; 0: no limit."""

    max_latency_ms: int = 0
    min_rate_hz: float = 0.0


@dataclass(frozen=True)
class Configuration:
    """What may change between two frames; a frame is worked on with exactly one of these."""

    options: SegmenterOptions
    markers: MarkerOptions = field(default_factory=MarkerOptions)
    overlay: OverlayOptions = field(default_factory=OverlayOptions)
    tracking: TrackingOptions | None = None  # None: disabled
    reuse: ReuseOptions | None = None  # None: disabled
    hysteresis: float = 0.0  # 0: disabled
    salient_count: int = 1
    follow: FollowOptions = field(default_factory=FollowOptions)
    boxes_3d_axes: str = OPTICAL
    pairing: PairingOptions = field(default_factory=PairingOptions)
    limits: Limits = field(default_factory=Limits)
    segment_timeout_ms: int = 5000
    segment_session_s: float = 60.0
    target_frame: str = ""  # "": the camera's
    labels: LabelOptions = field(default_factory=LabelOptions)


def configuration_of(values: Mapping[str, Any]) -> Configuration:
    """Make a configuration of the values of all parameters that may change.

    Raises:
        OptionError: if a value is impossible.
    """
    options = SegmenterOptions().updated({name: values[name] for name in OPTIONS})
    for name in ("tracking.enabled", "reuse.enabled", "mask.hysteresis"):
        if values[name] and options.grid.crop_layers:
            raise OptionError(f"{name} and grid.crop_layers above 0 exclude each other")
    axes, choices = values["boxes_3d.axes"], TABLE["boxes_3d.axes"].choices
    if axes not in choices:
        raise OptionError(f"boxes_3d.axes must be one of {', '.join(choices)}, not {axes!r}")
    if values["target_frame"]:
        _require_tf2()
    return Configuration(
        options=options,
        markers=MarkerOptions(**_group(values, "markers")),
        overlay=OverlayOptions(**_group(values, "overlay")),
        tracking=_if_enabled(TrackingOptions, **_group(values, "tracking")),
        reuse=_if_enabled(ReuseOptions, **_group(values, "reuse")),
        hysteresis=values["mask.hysteresis"],
        salient_count=values["salient.count"],
        follow=FollowOptions(**_group(values, "follow")),
        boxes_3d_axes=axes,
        pairing=PairingOptions(**_group(values, "pairing")),
        limits=Limits(**_group(values, "diagnostics")),
        segment_timeout_ms=values["segment.timeout_ms"],
        segment_session_s=values["segment.session_s"],
        target_frame=values["target_frame"],
        labels=LabelOptions(*(values[f"labels.{field.name}"] for field in fields(LabelOptions))),
    )


def _require_tf2() -> None:
    try:  # what is found may be of another Python, as in a virtual environment beside ROS
        importlib.import_module("tf2_ros")
    except ImportError as error:
        raise OptionError(
            "target_frame needs tf2_ros, which is not installed for this Python: "
            "ros-<distro>-tf2-ros-py"
        ) from error


def _if_enabled(kind: Callable[..., T], enabled: bool, **options: Any) -> T | None:  # noqa: ANN401
    return kind(**options) if enabled else None


def _group(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the values named `<name>.<key>` by key."""
    split = {key.partition("."): value for key, value in values.items()}
    return {key: value for (group, _, key), value in split.items() if group == name}
