"""Things taught once and seen in other views."""

import numpy as np

from aopsam_benchmarks import teaching
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.labels.semantic_encoder import SemanticEncoder
from aopsam_ros.segmentation.segmenter import Segmenter

RED, GREEN, BLUE = (220, 40, 40), (40, 200, 60), (50, 70, 220)
COLOURS = RED, GREEN, BLUE, (230, 210, 50), (200, 60, 200), (60, 200, 200)


def scene(colours=COLOURS):
    rgb, layers = np.full((240, 320, 3), 110, np.uint8), np.zeros((1, 240, 320), np.uint16)
    for number, colour in enumerate(colours):
        y, x = 20 + 110 * (number // 3), 20 + 100 * (number % 3)
        rgb[y : y + 80, x : x + 80] = colour
        layers[0, y : y + 80, x : x + 80] = number + 1
    return rgb, layers


def test_the_largest_things_are_taken_and_no_wall():
    layers = scene()[1]
    layers[0, 235:, :2] = 7  # too small
    layers[0, layers[0] == 1] = 0
    assert len(teaching.things_in(layers)) == 5
    layers[0] = 1  # all of it
    assert teaching.things_in(layers) == []


def test_views_show_parts_of_the_photograph_smaller_and_in_other_light():
    rgb, layers = scene()
    things = teaching.things_in(layers)
    views = list(teaching.views_of(rgb, things, np.random.default_rng(1)))
    assert len(views) == teaching.VIEWS and len({view.shape for view, _ in views}) > 1
    for view, shown in views:
        assert len(shown) == 6
        for thing, mask in zip(things, shown, strict=True):
            if mask is not None:
                assert mask.shape == view.shape[:2]
                own = rgb[thing][0].astype(int)
                assert view[mask].mean(axis=0).argmax() == own.argmax()  # the thing's hue
    assert any(mask is None for _, shown in views for mask in shown)


def test_what_looks_different_is_told_apart_and_what_looks_alike_is_not():
    engine = EngineOptions(engine="onnxruntime", threads=1)
    with Segmenter.from_bundle("nano", "grid1", engine) as segmenter:
        encoder = SemanticEncoder(segmenter, engine)
        found = []
        for colours in (COLOURS, [COLOURS[0]] * 6):
            rgb, layers = scene(colours)
            rng = np.random.default_rng(0)
            things = teaching.things_in(layers)
            found.append(teaching.measure(segmenter, encoder, rgb, things, rng))
        encoder.close()
    different, similar = found
    assert different["seen"] == similar["seen"] > 20
    assert different["nearest"] > similar["nearest"]
    assert different["right"] + different["wrong"] <= different["seen"]
    assert different["right"] <= different["nearest"]
    assert different["others"] == 0


def test_what_nobody_taught_is_counted_by_itself(monkeypatch):
    monkeypatch.setattr(teaching, "THINGS", 3)
    engine = EngineOptions(engine="onnxruntime", threads=1)
    with Segmenter.from_bundle("nano", "grid1", engine) as segmenter:
        encoder, (rgb, layers) = SemanticEncoder(segmenter, engine), scene([*COLOURS[:3]] * 2)
        things, rng = teaching.things_in(layers), np.random.default_rng(0)
        found = teaching.measure(segmenter, encoder, rgb, things, rng)
    assert found["seen"] > 10 and found["others"] > 10
    assert found["others"] >= found["named"] > 0  # they have the colours of the taught ones
