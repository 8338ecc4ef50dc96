"""The hand-made bundle with an encoder of several layers, which does the same."""

import numpy as np
import onnx
from onnx import helper

from support import tiny_bundle
from support.scenes import coloured_scene
from support.tiny_bundle import write_tiny_bundle

LAYERS = 6  # convolutions that change nothing, each with an activation that cuts nothing off


def deep_encoder(layers=LAYERS, is_dynamic=False):
    """Put layers and a residual sum before the encoder's average, and a shift as norms have it."""
    model = tiny_bundle.encoder()
    graph, pool = model.graph, model.graph.node.pop()
    constants = {
        "same": np.eye(3, dtype=np.float32)[:, :, None, None],
        "low": np.float32(-6),
        "high": np.float32(6),
        "half": np.float32(0.5),
        "shift": np.zeros((3, 1, 1), np.float32),
    }
    graph.initializer.extend(tiny_bundle._constant(n, v) for n, v in constants.items())
    value = "gbr"
    for number in range(layers):
        graph.node.append(helper.make_node("Conv", [value, "same"], [f"conv_{number}"]))
        value = f"clip_{number}"
        graph.node.append(helper.make_node("Clip", [f"conv_{number}", "low", "high"], [value]))
    graph.node.append(helper.make_node("Add", [value, f"clip_{layers - 2}"], ["twice"]))
    graph.node.append(helper.make_node("Mul", ["twice", "half"], ["once"]))
    graph.node.append(helper.make_node("Add", ["once", "shift"], ["shifted"]))
    pool.input[0] = "shifted"
    graph.node.append(pool)
    if is_dynamic:
        tiny_bundle.open_sides(model)
    onnx.checker.check_model(model)
    return model


def write_deep_bundle(folder, **changes):
    """Write the bundle; its masks are those of the hand-made one."""
    return write_tiny_bundle(folder, {"encoder": deep_encoder(**changes)})


def write_images(folder, count=4):
    """Write the coloured scene in some sizes."""
    from aopsam_ros.images.files import write_rgb

    folder.mkdir(parents=True)
    for number in range(count):
        rgb, _ = coloured_scene(90 + 4 * number, 120)
        write_rgb(folder / f"{number}.png", rgb)
    return folder
