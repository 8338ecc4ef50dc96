"""What a demo run leaves behind: per photograph an overlay and the masks, and a summary."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from aopsam_ros.demo.page import Card, Figures, View, render_page
from aopsam_ros.demo.photographs import Photograph
from aopsam_ros.demo.recording import Frame, Recording, segmentation_of
from aopsam_ros.drawing.overlay import draw_confidence_map, draw_overlay
from aopsam_ros.results import PromptState, Segmentation
from aopsam_ros.segmentation.json_format import to_json

_PAGE_JPEG_QUALITY = 88


@dataclass(frozen=True)
class PhotographResult:
    """The newest result for one photograph, and how its frames fared; files are named by `base`."""

    photograph: Photograph
    segmentation: Segmentation
    base: str
    frames: int
    latency_ms: float

    def prompt_counts(self) -> dict[str, int]:
        """Return the number of prompts in each state, by the state's lower-case name."""
        numbers = Counter(PromptState(prompt.state) for prompt in self.segmentation.prompts)
        return {state.name.lower(): numbers[state] for state in PromptState}


def results_of(
    recording: Recording, photographs: Sequence[Photograph], model: str, prompt_source: str
) -> list[PhotographResult]:
    """Return the result of each photograph for which masks and prompts arrived."""
    names = base_names([photograph.path for photograph in photographs])
    results = []
    for photograph, base in zip(photographs, names, strict=True):
        frames = [f for f in recording.segmented() if f.photograph == photograph.name]
        complete = [frame for frame in frames if frame.prompts is not None]
        if not complete:
            print(f"no result arrived for {photograph.name}", file=sys.stderr)
            continue
        latency = float(np.median([frame.latency_ms for frame in frames]))
        segmentation = segmentation_of(complete[-1], model, prompt_source)
        results.append(PhotographResult(photograph, segmentation, base, len(frames), latency))
    return results


def base_names(paths: Sequence[Path]) -> list[str]:
    """Return what to name each photograph's files by: its stem, its full name where stems clash."""
    stems = Counter(path.stem for path in paths)
    return [path.stem if stems[path.stem] == 1 else path.name for path in paths]


def summarise(
    recording: Recording, results: Sequence[PhotographResult], model: str, engine: str
) -> dict[str, Any]:
    """Return the content of summary.json.

    `frames` are those whose masks arrived, `dropped` the published ones whose masks did not,
    `masks` counts over all frames, `fps` is the rate at which masks arrived, and `latency_ms` runs
    from an image's stamp to the arrival of its masks.
    """
    frames = recording.segmented()
    published = recording.published()
    latencies = [frame.latency_ms for frame in frames]
    return {
        "frames": len(frames),
        "masks": sum(len(frame.masks.masks) for frame in frames if frame.masks is not None),
        "fps": round(arrival_rate(frames), 2),
        "latency_ms": {
            "p50": round(float(np.percentile(latencies, 50)), 1),
            "p95": round(float(np.percentile(latencies, 95)), 1),
        },
        "dropped": published - len(frames),
        "published": published,
        "markers": sum(frame.markers for frame in recording.frames()),
        "model": model,
        "engine": engine,
        "photographs": [_entry(result) for result in results],
    }


def arrival_rate(frames: Sequence[Frame]) -> float:
    """Return results per second between the first and the last arrival; 0 for fewer than two."""
    arrivals = [frame.arrival for frame in frames if frame.arrival is not None]
    span = (max(arrivals) - min(arrivals)) / 1e9 if len(arrivals) > 1 else 0.0
    return (len(arrivals) - 1) / span if span > 0.0 else 0.0


def _entry(result: PhotographResult) -> dict[str, Any]:
    return {
        "photograph": result.photograph.name,
        "picture": f"{result.base}_overlay.png",
        "masks_file": f"{result.base}.json",
        "width": result.segmentation.width,
        "height": result.segmentation.height,
        "frames": result.frames,
        "masks": len(result.segmentation.masks),
        "prompts": result.prompt_counts(),
        "latency_ms": round(result.latency_ms, 1),
    }


def remove_report(folder: Path) -> None:
    """Remove what an earlier run reported in `folder`, so that a failed run leaves no old result.

    Only files that its summary.json lists are removed.
    """
    summary = folder / "summary.json"
    try:
        entries = json.loads(summary.read_text(encoding="utf-8"))["photographs"]
        names = [entry[kind] for entry in entries for kind in ("picture", "masks_file")]
    except (OSError, ValueError, KeyError, TypeError):
        names = []
    for name in [*names, "index.html", "summary.json"]:
        (folder / Path(name).name).unlink(missing_ok=True)


def write_report(
    folder: Path, results: Sequence[PhotographResult], summary: Mapping[str, Any]
) -> Path:
    """Write the pictures, summary.json and index.html into `folder`; return the page's path."""
    cards = []
    for result in results:
        rgb, segmentation = result.photograph.rgb, result.segmentation
        overlay = draw_overlay(rgb, segmentation, show_legend=True)
        (folder / f"{result.base}_overlay.png").write_bytes(_encode(".png", overlay))
        masks = to_json(segmentation, result.photograph.name)
        (folder / f"{result.base}.json").write_text(masks, encoding="utf-8")
        cards.append(_card(result))
    text = json.dumps(summary, indent=2) + "\n"
    (folder / "summary.json").write_text(text, encoding="utf-8")
    page = folder / "index.html"
    page.write_text(render_page(cards, _figures(summary)), encoding="utf-8")
    return page


def _card(result: PhotographResult) -> Card:
    return Card(
        name=result.photograph.name,
        width=result.segmentation.width,
        height=result.segmentation.height,
        masks=len(result.segmentation.masks),
        prompts=result.prompt_counts(),
        latency_ms=result.latency_ms,
        views=list(_views(result)),
    )


def _views(result: PhotographResult) -> Iterator[View]:
    """Yield the pictures that the page shows of one photograph."""
    rgb, segmentation = result.photograph.rgb, result.segmentation
    yield View("Prompts", _jpeg(draw_overlay(rgb, segmentation)))
    yield View("Masks", _jpeg(draw_overlay(rgb, segmentation, show_prompts=False)))
    if segmentation.confidence_map is not None:
        heat = draw_confidence_map(rgb, segmentation.confidence_map)
        yield View("Confidence", _jpeg(heat))
    yield View("Photograph", _jpeg(rgb))


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    return _encode(".jpg", rgb, (cv2.IMWRITE_JPEG_QUALITY, _PAGE_JPEG_QUALITY))


def _figures(summary: Mapping[str, Any]) -> Figures:
    return Figures(
        frames=summary["frames"],
        masks=summary["masks"],
        fps=summary["fps"],
        p50=summary["latency_ms"]["p50"],
        p95=summary["latency_ms"]["p95"],
        dropped=summary["dropped"],
        published=summary["published"],
        model=summary["model"],
        engine=summary["engine"],
    )


def _encode(suffix: str, rgb: NDArray[np.uint8], options: Sequence[int] = ()) -> bytes:
    done, data = cv2.imencode(suffix, rgb[..., ::-1], list(options))
    if not done:
        raise ValueError(f"a picture of shape {rgb.shape} cannot be written as {suffix}")
    return data.tobytes()
