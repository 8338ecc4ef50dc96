"""The plots of a report, each an SVG element for its page; drawn by matplotlib."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aopsam_ros.evaluation.metrics import ScoreBin

_STYLE = {
    # Distinct for people with colour vision deficiencies, too (Okabe and Ito).
    "axes.prop_cycle": "cycler(color=['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9'])",
    # No date, no random ids: the same figures give the same file.
    "svg.hashsalt": "aopsam",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
_GREY = {"color": "#999999", "lw": 1}


class Point(NamedTuple):
    """A configuration in a plot: what it cost and what it reached."""

    series: str
    label: str
    x: float
    y: float


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Keep the points that none reaches or passes for less, from left to right."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not front or point.y > front[-1].y:
            front.append(point)
    return front


def draw_front(points: Sequence[Point]) -> str:
    """Plot PQ over prompts decoded, by series, name some points, and join those of the front."""
    figure, (axes,) = _figure(7.0, 4.2)
    for series in dict.fromkeys(point.series for point in points):
        own = [point for point in points if point.series == series]
        axes.scatter([p.x for p in own], [p.y for p in own], s=26, label=series)
    front = pareto_front(points)
    axes.step([p.x for p in front], [p.y for p in front], where="post", **_GREY)
    for point in points:
        axes.annotate(point.label, (point.x, point.y), textcoords="offset points", xytext=(5, 4))
    axes.set(xlabel="prompts decoded an image", ylabel="PQ, %")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend()
    return _svg(figure)


def draw_sweep(values: Sequence[float], curves: Mapping[str, Sequence[float]], name: str) -> str:
    """Plot one small panel for each curve over a swept option's values."""
    figure, panels = _figure(2.6 * len(curves), 2.2, len(curves))
    for axes, (title, heights) in zip(panels, curves.items(), strict=True):
        axes.plot(values, heights, marker="o", ms=4)
        axes.set(title=title, xlabel=name)
        axes.margins(y=0.25)
    return _svg(figure)


def draw_reliability(bins: Mapping[str, Sequence[ScoreBin]]) -> str:
    """Plot the masks' mean IoU over their mean score, a line for each series."""
    figure, (axes,) = _figure(4.2, 4.2)
    axes.plot([0, 1], [0, 1], label="calibrated", **_GREY)
    for series, some in bins.items():
        scores, ious = [each["score"] for each in some], [each["iou"] for each in some]
        axes.plot(scores, ious, marker="o", ms=4, label=series)
    axes.set(xlabel="score of a mask", ylabel="IoU", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    return _svg(figure)


def _figure(width: float, height: float, panels: int = 1) -> tuple[Any, Sequence[Any]]:
    """Make a figure that no screen shows, and its panels."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(1, panels, squeeze=False)[0]


def _svg(figure: Any) -> str:  # noqa: ANN401  (matplotlib has no types)
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    content = text.getvalue()
    return content[content.index("<svg") :]
