"""The demo's page: one self-contained HTML file with pictures, legend and figures."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from aopsam_ros.drawing.glyphs import PROMPT_STYLES, PromptStyle, counted
from aopsam_ros.results import PromptState

_MEANINGS: Mapping[PromptState, str] = {
    PromptState.DECODED: "decoded, and its mask was kept",
    PromptState.REJECTED: "decoded, but its mask was of low quality or already there",
    PromptState.ELIMINATED: "dropped before decoding, because a mask already explains it",
    PromptState.UNUSED: "never decoded, because the budget was spent",
}


@dataclass(frozen=True)
class View:
    """One picture of a photograph: what its tab says, and the JPEG file's content."""

    title: str
    jpeg: bytes


@dataclass(frozen=True)
class Card:
    """One photograph on the page; `prompts` counts by lower-case state name."""

    name: str
    width: int
    height: int
    masks: int
    prompts: Mapping[str, int]
    latency_ms: float
    views: Sequence[View]


@dataclass(frozen=True)
class Figures:
    """The figures of the whole run; latencies in milliseconds."""

    frames: int
    masks: int
    fps: float
    p50: float
    p95: float
    dropped: int
    published: int
    model: str
    engine: str


def render_page(cards: Sequence[Card], figures: Figures) -> str:
    """Return the page as HTML; nothing in it refers to another file or site."""
    tiles = "\n".join(_tile(*tile) for tile in _tiles(figures))
    return _PAGE.format(
        style=_STYLE,
        tiles=tiles,
        legend="\n".join(map(_legend_item, _MEANINGS)),
        cards="\n".join(_card(f"v{index}", card) for index, card in enumerate(cards)),
        photographs=len(cards),
        model=escape(figures.model),
        engine=escape(figures.engine),
    )


def _tiles(figures: Figures) -> list[tuple[str, str, str]]:
    return [
        (f"{figures.frames}", "frames segmented", f"of {figures.published} published"),
        (f"{figures.fps:.1f}", "frames per second", f"{figures.dropped} frames dropped"),
        (f"{figures.p50:.0f} ms", "median latency", f"95 % within {figures.p95:.0f} ms"),
        (f"{figures.masks}", "masks", f"{figures.masks / max(1, figures.frames):.1f} a frame"),
    ]


def _tile(value: str, title: str, note: str) -> str:
    return f"<div class=tile><b>{value}</b><span>{title}</span><small>{note}</small></div>"


def _legend_item(state: PromptState) -> str:
    style = PROMPT_STYLES[state]
    return f"<li>{_glyph(style)}<span><b>{style.word}</b> {_MEANINGS[state]}</span></li>"


def _glyph(style: PromptStyle) -> str:
    """Return the glyph that `aopsam_ros.drawing.glyphs` draws, as inline SVG."""
    colour = "rgb({},{},{})".format(*style.colour)
    shape = {
        "disc": f'<circle cx="9" cy="9" r="5" fill="{colour}"/>',
        "ring": f'<circle cx="9" cy="9" r="4.5" fill="none" stroke="{colour}" stroke-width="2.4"/>',
        "cross": f'<path d="M5 5L13 13M13 5L5 13" stroke="{colour}" stroke-width="2.4"/>',
        "square": '<rect x="5.5" y="5.5" width="7" height="7" fill="none" '
        f'stroke="{colour}" stroke-width="2.2"/>',
    }[style.glyph]
    return f'<svg viewBox="0 0 18 18" aria-hidden="true">{shape}</svg>'


def _card(group: str, card: Card) -> str:
    """Return a figure whose tabs are radio buttons, so that the page needs no script."""
    counts = "".join(
        f"<span>{_glyph(PROMPT_STYLES[state])}{number} {PROMPT_STYLES[state].word}</span>"
        for state in _MEANINGS
        if (number := card.prompts.get(state.name.lower(), 0))
    )
    name = escape(card.name)
    views = "".join(_view(group, place, card, view) for place, view in enumerate(card.views))
    return (
        f"<figure><div class=views>{views}</div><figcaption><h2>{name}</h2>"
        f"<p><b>{counted(card.masks, 'mask')}</b> · {card.width} × {card.height} · "
        f"{card.latency_ms:.0f} ms</p><p class=counts>{counts}</p></figcaption></figure>"
    )


def _view(group: str, place: int, card: Card, view: View) -> str:
    checked = " checked" if place == 0 else ""
    title = f"{escape(card.name)}: {view.title.lower()}"
    return (
        f'<label class=tab><input type=radio name="{group}"{checked}><span>{view.title}</span>'
        f'<img src="{_data_url(view.jpeg)}" width="{card.width}" height="{card.height}" '
        f'alt="{title}"></label>'
    )


def _data_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


_STYLE = """
:root { --ground: #f4f5f7; --card: #fff; --ink: #171a21; --soft: #626a78; --line: #e1e4ea;
  --accent: #2f6fed; --dark: #1b1f29; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #101218; --card: #191c24; --ink: #eceff5; --soft: #98a1b2; --line: #2a2f3b;
    --accent: #7aa7ff; --dark: #0b0d12; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 40px 24px 56px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -.01em; }
header p { color: var(--soft); max-width: 74ch; margin: 0 0 26px; }
code { font: .92em ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 14px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 16px 18px; display: grid; }
.tile b { font-size: 28px; line-height: 1.15; font-variant-numeric: tabular-nums; }
.tile small { color: var(--soft); }
.legend { background: var(--dark); color: #dfe4ee; border-radius: 12px; margin: 14px 0 26px;
  padding: 14px 18px; }
.legend ul { list-style: none; margin: 0; padding: 0; display: grid; gap: 6px 26px;
  grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); font-size: 14.5px; }
.legend li { display: flex; gap: 9px; align-items: center; }
.legend b { color: #fff; }
svg { width: 18px; height: 18px; flex: none; }
.cards { display: grid; gap: 20px; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  overflow: hidden; display: flex; flex-direction: column; }
.views { position: relative; background: var(--dark); padding-top: 300px; display: flex; }
.tab { flex: auto; text-align: center; cursor: pointer; font-size: 13px; color: #aeb6c5; }
.tab input { position: absolute; opacity: 0; }
.tab span { display: block; padding: 7px 4px; border-top: 2px solid transparent; }
.tab img { position: absolute; inset: 0 0 auto; width: 100%; height: 300px; object-fit: contain;
  visibility: hidden; cursor: default; pointer-events: none; }
.tab :checked ~ img { visibility: visible; }
.tab :checked ~ span { color: #fff; border-color: var(--accent); }
.tab :focus-visible ~ span { outline: 2px solid var(--accent); outline-offset: -3px; }
.tab:hover span { color: #fff; }
figcaption { padding: 12px 16px 14px; }
figcaption h2 { font-size: 16px; margin: 0; }
figcaption p { margin: 2px 0 0; font-size: 14.5px; color: var(--soft); }
figcaption p b { color: var(--ink); }
.counts { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 9px !important; }
.counts span { display: inline-flex; gap: 5px; align-items: center; font-size: 13px; color: #dfe4ee;
  background: #1b1f29; border-radius: 99px; padding: 2px 10px 2px 6px; }
.counts svg { width: 14px; height: 14px; }
footer { color: var(--soft); font-size: 14px; margin-top: 28px; max-width: 90ch; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>aopsam demo</title>
<style>{style}</style>
</head>
<body>
<main>
<header>
<h1>Prompt-free segmentation, live</h1>
<p>{photographs} photographs were published as a camera's images, and the lifecycle node
<code>aopsam</code> answered with masks and prompts over DDS. Model <b>{model}</b>, engine
<b>{engine}</b>.</p>
</header>
<section class="tiles">
{tiles}
</section>
<section class="legend" aria-label="Legend"><ul>
{legend}
</ul></section>
<section class="cards">
{cards}
</section>
<footer>Latency runs from an image's stamp to the arrival of its masks in another process. Images
travel by best effort, and the node always takes the newest: frames that were lost, or replaced by a
newer one before their turn, are counted as dropped. Pictures show the last result for each
photograph; their colours tell masks apart and mean nothing else.</footer>
</main>
</body>
</html>
"""
