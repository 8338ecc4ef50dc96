"""The demo's page: page.html filled with images, legend and figures; it needs no other file."""

import base64
from collections.abc import Mapping
from html import escape
from importlib import resources
from string import Template
from typing import Any

from aopsam_ros.drawing.palette import PROMPT_STYLES
from aopsam_ros.results import PromptState

# By state: the sign that is most like the overlay's, and what the state means.
_LEGEND: Mapping[PromptState, tuple[str, str]] = {
    PromptState.KEPT: ("+", "decoded, and its mask was kept"),
    PromptState.REJECTED: ("◇", "decoded, but its mask was of low quality or already there"),
    PromptState.ELIMINATED: ("✕", "never decoded: a surer prompt's box or a mask shows its object"),
    PromptState.UNUSED: ("□", "never decoded, because the budget was spent"),
}


def render_page(
    summary: Mapping[str, Any],
    views: Mapping[str, Mapping[str, bytes]],
    texts: Mapping[str, str],
) -> str:
    """Return the page as HTML; nothing in it refers to another file or site.

    `views` has JPEG files' contents by photograph and title, `texts` what else to show by title.
    """
    latency, frames = summary["latency_ms"], summary["frames"]
    tiles = [
        (frames, "frames segmented", f"of {summary['published']} published"),
        (f"{summary['fps']:.1f}", "frames per second", f"{summary['dropped']} frames dropped"),
        (f"{latency['p50']:.0f} ms", "median latency", f"95 % within {latency['p95']:.0f} ms"),
        (summary["masks"], "masks", f"{summary['masks'] / max(1, frames):.1f} a frame"),
    ]
    template = Template(resources.files(__package__).joinpath("page.html").read_text("utf-8"))
    return template.substitute(
        tiles="\n".join(
            f"<div class=tile><b>{value}</b><span>{title}</span><small>{note}</small></div>"
            for value, title, note in tiles
        ),
        legend="\n".join(
            f"<li>{_sign(state)}<span><b>{PROMPT_STYLES[state].word}</b> {meaning}</span></li>"
            for state, (_, meaning) in _LEGEND.items()
        ),
        cards="\n".join(
            _card(f"v{index}", entry, views[entry["photograph"]])
            for index, entry in enumerate(summary["photographs"])
        ),
        texts="\n".join(
            f"<details open><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
            for title, text in texts.items()
        ),
        count=len(summary["photographs"]),
        model=escape(summary["model"]),
        engine=escape(summary["engine"]),
    )


def _sign(state: PromptState) -> str:
    red, green, blue = PROMPT_STYLES[state].colour
    return f'<i style="color:rgb({red},{green},{blue})">{_LEGEND[state][0]}</i>'


def _card(group: str, entry: Mapping[str, Any], views: Mapping[str, bytes]) -> str:
    """Return a figure whose tabs are radio buttons, so that the page needs no script."""
    name = escape(entry["photograph"])
    tabs = "".join(
        f"<label><input type=radio name={group}{' checked' if place == 0 else ''}>"
        f'<span>{title}</span><img alt="{name}: {title.lower()}" '
        f'src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode("ascii")}"></label>'
        for place, (title, jpeg) in enumerate(views.items())
    )
    counts = "".join(
        f"<span>{_sign(state)} {number} {PROMPT_STYLES[state].word}</span>"
        for state in _LEGEND
        if (number := entry["prompts"][state.name.lower()])
    )
    masks = entry["masks"]
    return (
        f"<figure><div class=views>{tabs}</div><figcaption><h2>{name}</h2>"
        f"<p><b>{masks} mask{'' if masks == 1 else 's'}</b> · "
        f"{entry['width']} × {entry['height']} · {entry['latency_ms']:.0f} ms</p>"
        f"<p class=counts>{counts}</p></figcaption></figure>"
    )
