"""Graphs that OpenVINO compiles for the sizes of images as they come."""

import subprocess
import sys
from unittest.mock import Mock

import numpy as np
import pytest

from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines.base import all_logits
from aopsam_ros.engines.openvino import graph
from aopsam_ros.errors import InferenceError
from aopsam_ros.geometry import preprocess
from support import golden_masks
from support.openvino_cases import assert_close

# Not importorskip: the package reports being imported over the network, if it is not hindered.
pytestmark = pytest.mark.needs("openvino")

SQUARE = 512  # of nano
SIZES = [(512, 512), (288, 512), (512, 320), (64, 96), (288, 512), (480, 480), (512, 512)]


@pytest.fixture(scope="module")
def pair(engines):
    return engines("nano")


def photograph(name):
    """Return a photograph, stretched to the square, as nano's encoder takes it."""
    nano = load_bundle("nano")
    rgb = golden_masks.read_rgb(name)
    return preprocess(rgb, SQUARE, nano.mean, nano.std, "stretch").tensor


def test_any_sizes_in_any_order_give_what_onnx_runtime_gives(pair):
    rng = np.random.default_rng(0)
    # Photographs: in noise nothing is decided, and predicted IoU counts cells above a threshold.
    for valid, name in zip(SIZES, golden_masks.photograph_names(), strict=False):
        image = photograph(name)
        coords = rng.uniform(0, 64, (5, 1, 2)).astype(np.float32)
        results = []
        for engine in pair:
            handle = engine.encode(image, valid)
            decoded = engine.decode(handle, coords, np.ones((5, 1), np.float32))
            maps = engine.embedding(handle), engine.predict(image, handle).confidence_map
            results.append((*maps, all_logits(decoded), decoded.predicted_iou))
        for found, wanted in zip(*results, strict=True):
            assert_close(found, wanted)


def test_a_size_that_cannot_be_compiled_is_an_inference_error(pair, monkeypatch):
    engine, _ = pair
    failing = Mock(side_effect=RuntimeError("Check 'x' failed at file:1:\nno memory"))
    monkeypatch.setattr(graph, "CompiledGraph", failing)
    with pytest.raises(InferenceError, match=r"^encoder failed in OpenVINO: no memory$"):
        engine.encode(np.zeros((1, 3, SQUARE, SQUARE), np.float32), (160, 96))


SIGNALLED = """
import gc, signal, sys
from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.openvino.engine import OpenVinoEngine

heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append("heard"))
bundle = load_bundle(sys.argv[1])
options = EngineOptions(threads=1, precision="fp32")
engines = [OpenVinoEngine(bundle, options) for _ in range(2)]
while engines:
    del engines[0]
    gc.collect()
    signal.raise_signal(signal.SIGUSR1)
print(*heard)
"""


def test_signals_are_heard_after_engines_are_freed_in_any_order(tiny_folder):
    """Each of OpenVINO's cores brings a stack for them, and takes the wrong one away."""
    command = [sys.executable, "-c", SIGNALLED, str(tiny_folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, "heard heard\n"), done.stderr
