"""What a demo run leaves behind: an overlay and the masks of each photograph, summary and page."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header

from aopsam_ros.demo.page import render_page
from aopsam_ros.demo.photographs import Photograph
from aopsam_ros.demo.recording import PublishedFrame, Recording, segmentation_of
from aopsam_ros.drawing.overlay import draw_confidence_map, draw_overlay
from aopsam_ros.images.files import write_bytes, write_rgb
from aopsam_ros.results import PromptState, Segmentation
from aopsam_ros.ros.messages.images import array_to_jpeg
from aopsam_ros.segmentation.json_format import to_json


def write_report(
    folder: Path,
    recording: Recording,
    photographs: Sequence[Photograph],
    texts: Mapping[str, str],
) -> dict[str, Any]:
    """Write images, masks, summary.json and index.html into `folder`; return the summary.

    A photograph for which no masks or no prompts arrived is left out, with a line. The page also
    shows `texts`, by title. Where masks have labels, overlays show these masks only.
    """
    entries, views = [], {}
    stems = Counter(Path(photograph.name).stem for photograph in photographs)
    for photograph in photographs:
        name, rgb = photograph.name, photograph.rgb
        frames = [frame for frame in recording.segmented() if frame.photograph == name]
        complete = [frame for frame in frames if frame.prompts is not None]
        if not complete:
            print(f"no result arrived for {name}; for a slow machine: --fps 2", file=sys.stderr)
            continue
        segmentation = segmentation_of(complete[-1], recording.diagnostics)
        stem = Path(name).stem
        base = stem if stems[stem] == 1 else name
        labelled = tuple(mask for mask in segmentation.masks if mask.label)
        shown = replace(segmentation, masks=labelled, prompts=()) if labelled else segmentation
        overlay = draw_overlay(rgb, shown, show_legend=not labelled)
        write_rgb(folder / f"{base}_overlay.png", overlay)
        write_bytes(folder / f"{base}.json", to_json(segmentation, name).encode())
        entries.append(_entry(name, base, segmentation, frames))
        views[name] = _views(rgb, segmentation)
        if labelled:
            views[name] = {"Labels": _jpeg(overlay), **views[name]}
    summary = {**_totals(recording), "photographs": entries}
    write_bytes(folder / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    write_bytes(folder / "index.html", render_page(summary, views, texts).encode())
    return summary


def remove_report(folder: Path) -> None:
    """Remove what an earlier run reported in `folder`, so that a failed run leaves no old result.

    Only files that its summary.json lists are removed.
    """
    try:
        entries = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["photographs"]
        names = [entry[kind] for entry in entries for kind in ("overlay", "masks_file")]
    except (OSError, ValueError, KeyError, TypeError):
        names = []
    for name in [*names, "index.html", "summary.json"]:
        (folder / Path(name).name).unlink(missing_ok=True)


def _totals(recording: Recording) -> dict[str, Any]:
    """Return the figures of the whole run.

    `frames` are those whose masks arrived, `dropped` the published ones whose masks did not,
    `masks` counts over all frames, `fps` is the rate at which masks arrived, and `latency_ms` runs
    from an image's stamp to the arrival of its masks.
    """
    frames = recording.segmented()
    arrivals = [frame.arrival for frame in frames]
    span_s = (max(arrivals) - min(arrivals)) / 1e9
    p50, p95 = np.percentile([frame.latency_ms for frame in frames], [50, 95])
    return {
        "frames": len(frames),
        "masks": sum(len(frame.masks.masks) for frame in frames if frame.masks is not None),
        "fps": round((len(frames) - 1) / span_s if span_s > 0 else 0.0, 2),
        "latency_ms": {"p50": round(float(p50), 1), "p95": round(float(p95), 1)},
        "dropped": len(recording.frames) - len(frames),
        "published": len(recording.frames),
        "model": recording.diagnostics.get("model", ""),
        "engine": recording.diagnostics.get("engine", ""),
    }


def _entry(
    name: str, base: str, segmentation: Segmentation, frames: Sequence[PublishedFrame]
) -> dict[str, Any]:
    """Return the figures of one photograph: of its newest result, and of all its frames."""
    states = Counter(prompt.state for prompt in segmentation.prompts)
    return {
        "photograph": name,
        "overlay": f"{base}_overlay.png",
        "masks_file": f"{base}.json",
        "width": segmentation.width,
        "height": segmentation.height,
        "frames": len(frames),
        "masks": len(segmentation.masks),
        "prompts": {state.name.lower(): states[state] for state in PromptState},
        "latency_ms": round(float(np.median([frame.latency_ms for frame in frames])), 1),
    }


def _views(rgb: NDArray[np.uint8], segmentation: Segmentation) -> dict[str, bytes]:
    """Return the JPEG files that the page shows of one photograph, by title."""
    views = {
        "Prompts": draw_overlay(rgb, segmentation),
        "Masks": draw_overlay(rgb, segmentation, show_prompts=False),
    }
    if segmentation.confidence_map is not None:
        views["Confidence"] = draw_confidence_map(rgb, segmentation.confidence_map)
    return {title: _jpeg(view) for title, view in (*views.items(), ("Photograph", rgb))}


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    return bytes(array_to_jpeg(rgb, Header()).data)
