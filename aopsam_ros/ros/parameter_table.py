"""The table of the node's parameters, and the immutable objects that their values make."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from aopsam_ros.engines.base import AUTO
from aopsam_ros.engines.registry import ENGINES
from aopsam_ros.errors import OptionError
from aopsam_ros.labels.label_set import OWN, LabelOptions
from aopsam_ros.options import OPTIONS, OptionSpec, SegmenterOptions
from aopsam_ros.ros.messages.markers import MarkerOptions
from aopsam_ros.space.boxes_3d import AXES, OPTICAL
from aopsam_ros.streaming.follower import FollowOptions
from aopsam_ros.streaming.reuse import ReuseOptions
from aopsam_ros.streaming.tracker import TrackingOptions

FIXED: Mapping[str, OptionSpec] = {
    "model": OptionSpec("nano", "model bundle: its name, or its folder"),
    "engine": OptionSpec(AUTO, f"what runs the model: {AUTO} or one of {', '.join(ENGINES)}"),
    "precision": OptionSpec(
        AUTO,
        "fp16: 16 bits where results stay right, on a GPU and in OpenVINO; int8: encoder and"
        " predictor in 8 bits, in ONNX Runtime on a CPU, for bundles that have them so; auto: what"
        " is faster of these (16 bits on a GPU and, in OpenVINO, with AMX; 8 bits on processors"
        " with 8-bit products);"
        " fp32: 32 bits everywhere",
    ),
    "prompt_source": OptionSpec(
        "auto",
        "where prompts come from: auto, predictor, clusters, gridN as grid16, randomN as random256,"
        " or a detector's boxes or box_centres",
    ),
    "threads": OptionSpec(0, "processor threads of the engine; 0 = the engine chooses", 0, 256),
    "workers": OptionSpec(
        1,
        "images that are segmented side by side, for more of them a second; results keep their"
        " order. With `threads` 1, in ONNX Runtime on a CPU",
        1,
        16,
    ),
    "image_transport": OptionSpec(
        "raw",
        "how images arrive: raw, or compressed (JPEG and PNG, on <image topic>/compressed)",
        choices=("raw", "compressed"),
    ),
    "labels.file": OptionSpec(
        "",
        "folder of a label set, from `aopsam labels`, whose labels masks get; a new or empty one"
        " begins without labels, and ~/teach fills it; empty = what ~/teach adds is kept until"
        " cleanup. Or a .npz of text embeddings, for a bundle with a labeller",
    ),
    "labels.names": OptionSpec(
        "", "which labels of labels.file are used, separated by commas, as mug, door; empty = all"
    ),
    "autostart": OptionSpec(False, "configure and activate at start"),
    "executor": OptionSpec(
        "single",
        "what waits for messages: single, or events, rclpy's experimental executor, which needs"
        " less of the processor, from rclpy 9.1.2 (Kilted) or 7.1.11 (Jazzy) on; read when the"
        " process starts",
        choices=("single", "events"),
    ),
}
CHANGEABLE: Mapping[str, OptionSpec] = {
    "target_frame": OptionSpec(
        "",
        "frame of boxes, points and markers in space, by TF at the image's stamp: base_link;"
        " empty = the camera's",
    ),
    "markers.depth": OptionSpec(
        1.0, "distance of markers along their pixels' rays, metres", 0.01, 1000.0
    ),
    "markers.pixel_size": OptionSpec(
        0.001, "metres a pixel, where no CameraInfo fits the image", 1e-6, 1.0
    ),
    "markers.size": OptionSpec(8.0, "diameter of markers, image pixels", 0.1, 1000.0),
    "markers.lifetime": OptionSpec(
        10.0, "seconds until markers vanish if no newer ones come; 0 = never", 0.0, 86400.0
    ),
    "markers.rectified": OptionSpec(
        False,
        "images are rectified: use CameraInfo's P without distortion, for boxes in space as well",
    ),
    "overlay.prompts": OptionSpec(True, "draw prompts on the overlay"),
    "overlay.legend": OptionSpec(False, "write a legend on the overlay"),
    "tracking.enabled": OptionSpec(
        False, "ids stay with objects from frame to frame; not with grid.crop_layers"
    ),
    "tracking.min_iou": OptionSpec(
        0.3, "least IoU of a mask and an object's expected place to be matched", 0.0, 1.0
    ),
    "tracking.min_similarity": OptionSpec(
        0.9, "least cosine similarity at which an object is found again elsewhere", 0.0, 1.0
    ),
    "tracking.max_lost": OptionSpec(
        15, "frames without an object after which it is forgotten", 0, 10_000
    ),
    "mask.hysteresis": OptionSpec(
        0.0,
        "how much lower the thresholds of predicted IoU, stability and score are for a mask that"
        " the frame before had, against flicker; not with grid.crop_layers; 0 = off",
        0.0,
        1.0,
    ),
    "reuse.enabled": OptionSpec(
        False,
        "prompts that gave masks in the frame before are decoded first, new ones only where the"
        " image changed; with the prompt source predictor",
    ),
    "reuse.change_threshold": OptionSpec(
        6.0,
        "mean difference around a place, in grey levels, above which the image has changed",
        0.0,
        255.0,
    ),
    "reuse.key_frames": OptionSpec(
        10, "every so many frames one is segmented as if it stood alone", 1, 10_000
    ),
    "salient.count": OptionSpec(1, "masks of ~/salient", 1, 100),
    "follow.min_similarity": OptionSpec(
        0.65,
        "least cosine of a mask's features and the followed thing's, without what the scene has in"
        " common, to be taken for it",
        0.0,
        1.0,
    ),
    "follow.max_lost": OptionSpec(
        300, "images without the followed thing after which it is given up", 1, 100_000
    ),
    "boxes_3d.axes": OptionSpec(
        OPTICAL,
        "how boxes in space lie: along the optical frame, turned about its vertical, or along the "
        "object's own axes",
        choices=tuple(AXES),
    ),
    "labels.min_similarity": OptionSpec(
        OWN,
        "least similarity of a mask and its label, a cosine; less is unknown; -1 = the label set's",
        OWN,
        1.0,
    ),
    "labels.margin": OptionSpec(
        OWN,
        "by how much the next label must be less similar, else the mask is unknown; -1 = the label"
        " set's",
        OWN,
        1.0,
    ),
    "labels.merge": OptionSpec(
        False,
        "masks of one label that belong to one thing are united; parts lose their label, and"
        " have the whole as `parent`",
    ),
    "labels.merge_affinity": OptionSpec(
        LabelOptions.merge_affinity,
        "probability of showing one thing from which two masks are united; lower also unites"
        " sure masks that touch: parts of one thing, but its neighbours of the same label, too",
        0.01,
        1.0,
    ),
    "labels.depth_tolerance": OptionSpec(
        LabelOptions.depth_tolerance,
        "masks whose depths differ by more than this share of the nearer one are not united, where"
        " depth images come; 0 = depth does not matter",
        0.0,
        10.0,
    ),
    "pairing.tolerance_ms": OptionSpec(
        10.0, "boxes or depth belong to an image whose stamp is so near", 0.0, 1000.0
    ),
    "pairing.timeout_ms": OptionSpec(
        500, "how long an image waits for the boxes, depth or transform of its stamp", 0, 60_000
    ),
    "diagnostics.max_latency_ms": OptionSpec(
        0, "diagnostics warn where 95 of 100 images take longer; 0 = no limit", 0, 600_000
    ),
    "diagnostics.min_rate_hz": OptionSpec(
        0.0, "diagnostics warn where fewer masks are published; 0 = no limit", 0.0, 1000.0
    ),
    "segment.timeout_ms": OptionSpec(
        5000,
        "a request of ~/segment or ~/teach that takes longer is refused, up to a second later;"
        " where its work had begun, the answer says that it may be done all the same",
        100,
        600_000,
    ),
    "segment.session_s": OptionSpec(
        60.0, "seconds without a request after which a session of ~/segment ends", 1.0, 3600.0
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

    prompts: bool
    legend: bool


@dataclass(frozen=True)
class PairingOptions:
    """Which boxes and depth belong to an image, and how long it waits for them."""

    tolerance_ms: float
    timeout_ms: int


@dataclass(frozen=True)
class FrameConfiguration:
    """What may change between two frames; a frame is worked on with exactly one of these."""

    options: SegmenterOptions
    markers: MarkerOptions
    overlay: OverlayOptions
    tracking: TrackingOptions | None  # None: disabled
    reuse: ReuseOptions | None  # None: disabled
    hysteresis: float  # 0: disabled
    salient_count: int
    follow: FollowOptions
    boxes_3d_axes: str
    pairing: PairingOptions
    max_latency_ms: int  # beyond which the diagnostics warn; 0: no limit
    min_rate_hz: float  # likewise
    segment_timeout_ms: int
    segment_session_s: float
    target_frame: str  # "": the camera's
    labels: LabelOptions


def configuration_of(values: Mapping[str, Any]) -> FrameConfiguration:
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
    return FrameConfiguration(
        options=options,
        markers=_group(MarkerOptions, "markers", values),
        overlay=_group(OverlayOptions, "overlay", values),
        tracking=_group(TrackingOptions, "tracking", values)
        if values["tracking.enabled"]
        else None,
        reuse=_group(ReuseOptions, "reuse", values) if values["reuse.enabled"] else None,
        hysteresis=values["mask.hysteresis"],
        salient_count=values["salient.count"],
        follow=_group(FollowOptions, "follow", values),
        boxes_3d_axes=axes,
        pairing=_group(PairingOptions, "pairing", values),
        max_latency_ms=values["diagnostics.max_latency_ms"],
        min_rate_hz=values["diagnostics.min_rate_hz"],
        segment_timeout_ms=values["segment.timeout_ms"],
        segment_session_s=values["segment.session_s"],
        target_frame=values["target_frame"],
        labels=_group(LabelOptions, "labels", values),
    )


def _require_tf2() -> None:
    try:  # what is found may be of another Python, as in a virtual environment beside ROS
        importlib.import_module("tf2_ros")
    except ImportError as error:
        raise OptionError(
            "target_frame needs tf2_ros, which is not installed for this Python: "
            "ros-<distro>-tf2-ros-py"
        ) from error


def _group(kind: Any, name: str, values: Mapping[str, Any]) -> Any:  # noqa: ANN401  (of this kind)
    """Make the options whose fields are the parameters `<name>.<field>`."""
    return kind(**{field.name: values[f"{name}.{field.name}"] for field in fields(kind)})
