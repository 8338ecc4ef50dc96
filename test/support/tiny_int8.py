"""The hand-made bundle with an encoder of several layers, which does the same."""

import numpy as np
import onnx

from support.scenes import coloured_scene
from support.tiny_bundle import (
    CONFIDENCE,
    EMBEDDING,
    IMAGE_INPUT,
    POOL,
    add_constants,
    encoder,
    model_of,
    nodes,
    open_sides,
    write_tiny_bundle,
)

LAYERS = 6  # convolutions that change nothing, each with an activation that cuts nothing off


def deep_encoder(layers=LAYERS, is_dynamic=False):
    """Put layers and a residual sum before the encoder's average, and a shift as norms have it."""
    model = encoder()
    graph, pool = model.graph, model.graph.node.pop()
    add_constants(
        graph,
        same=np.eye(3, dtype=np.float32)[:, :, None, None],
        shift=np.zeros((3, 1, 1), np.float32),
        **{name: np.float32(v) for name, v in {"low": -6, "high": 6, "half": 0.5}.items()},
    )
    before = "gbr"
    for n in range(layers):
        text = f"conv_{n} = Conv({before}, same) clip_{n} = Clip(conv_{n}, low, high)"
        graph.node.extend(nodes(text))
        before = f"clip_{n}"
    text = f"twice = Add({before}, clip_{layers - 2}) once = Mul(twice, half)"
    graph.node.extend(nodes(f"{text} shifted = Add(once, shift)"))
    pool.input[0] = "shifted"
    graph.node.append(pool)
    if is_dynamic:
        open_sides(model)
    onnx.checker.check_model(model)
    return model


def deep_predictor():
    """The predictor on an embedding that a convolution leaves as it is, and a look at the image."""
    text = f"""
        kept = Conv(embedding, same) dark = Conv(image, nothing) pooled = {POOL}(dark)
        known = Add(kept, pooled) red = Slice(known, start, end, axis)
        confidence_map = Sigmoid(red)
    """
    same = np.eye(3, dtype=np.float32)[:, :, None, None]
    places = {"start": [2], "end": [3], "axis": [1]}
    inputs = f"{IMAGE_INPUT}, {EMBEDDING}"
    return model_of(inputs, CONFIDENCE, text, same=same, nothing=np.zeros_like(same), **places)


def write_deep_bundle(folder, graphs=None, **changes):
    """Write the bundle; its masks are those of the hand-made one."""
    return write_tiny_bundle(folder, {"encoder": deep_encoder(**changes), **(graphs or {})})


def write_images(folder, count=4):
    """Write the coloured scene in some sizes."""
    from aopsam_ros.images.files import write_rgb

    folder.mkdir(parents=True)
    for number in range(count):
        rgb, _ = coloured_scene(90 + 4 * number, 120)
        write_rgb(folder / f"{number}.png", rgb)
    return folder
