"""Times others' ONNX graphs beside a bundle's whole frames, in turns, on the same cores.

A graph is run as its file says, on ONNX Runtime's CPU provider; what its authors' code does before
and after it is not in its time, while a whole frame's has everything.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from aopsam_benchmarks.floors import count_multiplications
from aopsam_benchmarks.part import benchmark_image, parse_size, part_parser, summary, write_json
from aopsam_ros.bundle.loading import load_bundle
from aopsam_ros.commands.arguments import engine_options, parse_settings
from aopsam_ros.engines.registry import create_engine
from aopsam_ros.errors import InputError
from aopsam_ros.segmentation.segmenter import Segmenter

# Before each run: ONNX Runtime's threads go on spinning for some time after one, waiting for the
# next, and would take the cores from whoever's turn it is then.
REST_S = 0.1
SIDE = 1024  # of an image whose size the graph leaves open, as those of the SAM family do
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


def main() -> None:
    """Time `--rounds` rounds of the bundle's frames and of each graph; write a row for each."""
    parser = part_parser("time others' graphs beside whole frames")
    parser.add_argument("--graphs", type=Path, nargs="+", required=True, help="ONNX files")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    rgb = benchmark_image(*parse_size(arguments.size))
    peers = [Peer(file, rgb, arguments.threads) for file in arguments.graphs]
    bundle = load_bundle(arguments.model)
    segmenter = Segmenter(bundle, create_engine(bundle, engine_options(arguments)), "auto")
    segmenter.options = segmenter.options.updated(parse_settings(arguments.set))
    runs = [lambda: segmenter.segment(rgb), *(peer.run for peer in peers)]
    times = in_turns(runs, arguments.rounds)
    ours = {"graph": f"{bundle.name}, whole frame", "input": arguments.size, "gflop": None}
    named = [ours, *(peer.describe() for peer in peers)]
    rows = [row | {"ms": summary(ms)} for row, ms in zip(named, times, strict=True)]
    write_json(arguments.out, rows)


class Peer:
    """A graph with the inputs that it is timed with.

    Raises:
        InputError: if it cannot be loaded, or an input is of an unknown type.
    """

    def __init__(self, file: Path, rgb: NDArray[np.uint8], threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        try:
            providers = ["CPUExecutionProvider"]
            self._session = ort.InferenceSession(str(file), options, providers=providers)
        except Exception as error:  # ONNX Runtime's errors have no class in common
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(
                f"{file}: not a graph that ONNX Runtime can run ({said[0]})"
            ) from error
        self.file = file
        self._inputs = {node.name: example_input(node, rgb) for node in self._session.get_inputs()}

    def run(self) -> None:
        """Run it once.

        Raises:
            InputError: if it cannot be run with made-up inputs.
        """
        try:
            self._session.run(None, self._inputs)
        except Exception as error:
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(f"{self.file}: does not run ({said[0]})") from error

    def describe(self) -> dict[str, Any]:
        """Return its name, what it was given, and its multiplications and additions, 10^9."""
        multiplications, _ = count_multiplications(str(self.file), self._inputs)
        shapes = ("x".join(map(str, array.shape)) for array in self._inputs.values())
        return {
            "graph": self.file.stem,
            "input": ", ".join(shapes),
            "gflop": 2e-9 * multiplications,
        }


def example_input(node: Any, rgb: NDArray[np.uint8]) -> NDArray[Any]:  # noqa: ANN401
    """Make what a graph's input asks for: the image, or ones.

    An axis without a size is one long; two of an image are `SIDE`. SAM's exported decoder wants the
    image's size, which it draws the masks in.

    Args:
        node: ONNX Runtime's description.
        rgb: uint8 `[H, W, 3]`.

    Raises:
        InputError: if the input is of an unknown type.
    """
    if node.type not in TYPES:
        raise InputError(f"input {node.name} is a {node.type}; known are {', '.join(TYPES)}")
    shape = [size if isinstance(size, int) and size > 0 else None for size in node.shape]
    dtype = TYPES[node.type]
    if len(shape) == 4 and 3 in (shape[1], shape[3]):
        first = shape[1] == 3
        height, width = (size or SIDE for size in (shape[2:] if first else shape[1:3]))
        image = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        values = image if dtype == np.uint8 else image / 255.0
        values = values.transpose(2, 0, 1) if first else values
        return np.ascontiguousarray(np.repeat(values[None], shape[0] or 1, axis=0), dtype)
    if node.name == "orig_im_size":
        return np.array(rgb.shape[:2], dtype)
    return np.ones([size or 1 for size in shape], dtype)


def in_turns(runs: list[Any], rounds: int) -> list[list[float]]:
    """Return the milliseconds of each, run after run in turns; the first turn warms up.

    Before each there is a rest of `REST_S`.
    """
    times: list[list[float]] = [[] for _ in runs]
    for turn, (run, found) in itertools.product(range(rounds + 1), zip(runs, times, strict=True)):
        time.sleep(REST_S)
        began = time.perf_counter()
        run()
        if turn:
            found.append(1e3 * (time.perf_counter() - began))
    return times


if __name__ == "__main__":
    main()
