"""What the machine can do at best: multiplications through an engine, bytes through memory."""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
import timeit
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aopsam_benchmarks.operations import Work
from aopsam_ros.bundle.loading import ENCODER, Bundle, Graph
from aopsam_ros.engines.base import EngineOptions
from aopsam_ros.engines.registry import create_engine

SIDE = 1024  # of the matrices: beyond it the rate no longer rises on processors
PRODUCTS = 8  # in one graph, so that handing over its input does not count
ARRAY_BYTES = 256 << 20  # far more than a cache holds
REPEATS = 7


@dataclass(frozen=True)
class Rates:
    """The machine's best: multiplications (with an addition) and bytes a second.

    Args:
        macs_per_s: of large float32 matrix products in the engine that is measured.
        bytes_per_s: read plus written, by copies of large arrays on all cores.
    """

    macs_per_s: float
    bytes_per_s: float

    def floor_s(self, work: Work) -> float:
        """Return the least seconds for some work: the longer of computing and moving."""
        return max(self.computing_s(work), self.moving_s(work))

    def computing_s(self, work: Work) -> float:
        """Return the least seconds of the multiplications."""
        return work.macs / self.macs_per_s

    def moving_s(self, work: Work) -> float:
        """Return the least seconds of moving the bytes."""
        return work.moved / self.bytes_per_s


def measure_rates(engine: str, threads: int, repeats: int = REPEATS) -> Rates:
    """Measure both; the best of some repeats.

    Args:
        engine: name of an engine.
        threads: of the engine; 0 leaves the choice to it.
        repeats: more find a quieter moment.

    Raises:
        EngineError: if the engine cannot be used.
    """
    return Rates(_macs_per_s(engine, threads, repeats), _bytes_per_s(threads, repeats))


def _macs_per_s(engine: str, threads: int, repeats: int) -> float:
    """Run a chain of matrix products as if it were an encoder: through the same code."""
    image = np.zeros((1, 3, SIDE, SIDE), np.float32)
    image[0, 0] = _matrix(0)
    with tempfile.TemporaryDirectory() as folder:
        runtime = create_engine(
            _matrix_bundle(Path(folder)), EngineOptions(engine=engine, threads=threads)
        )
        try:
            # An engine on a GPU is done when the result is there.
            best = min(
                timeit.repeat(
                    lambda: runtime.embedding(runtime.encode(image)), number=1, repeat=repeats + 1
                )
            )
        finally:
            runtime.close()
    return PRODUCTS * SIDE**3 / best


def _matrix(seed: int) -> np.ndarray:
    """Draw a matrix whose products neither grow nor vanish: numbers near zero are slow."""
    return np.random.default_rng(seed).standard_normal((SIDE, SIDE), np.float32) / SIDE**0.5


def _matrix_bundle(folder: Path) -> Bundle:
    content = _matrix_graph()
    (folder / "products.onnx").write_bytes(content)
    return Bundle(
        folder=folder,
        name="products",
        version="1",
        licence="Apache-2.0",
        provenance=None,
        image_size=SIDE,
        size_divisibility=0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        embedding_shape=(1, 1, SIDE, SIDE),
        similarity_channels=1,
        low_res_mask_size=SIDE,
        confidence_map_size=0,
        stability_offset=1.0,
        graphs={ENCODER: Graph(folder / "products.onnx", hashlib.sha256(content).hexdigest())},
        mixed_graphs={},
        split_graphs={},
        int8_graphs={},
        defaults={},
    )


def _matrix_graph() -> bytes:
    """Write a graph: the first channel of the image times the same matrix, again and again."""
    from onnx import TensorProto, helper, numpy_helper

    names = [f"product{i}" for i in range(PRODUCTS)] + ["embedding"]
    nodes = [helper.make_node("Slice", ["image", "from", "to", "axis"], names[:1])]
    nodes += [
        helper.make_node("MatMul", [name, "matrix"], [following])
        for name, following in itertools.pairwise(names)
    ]
    weights = {"from": np.array([0]), "to": np.array([1]), "axis": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 1, SIDE, SIDE])],
        [numpy_helper.from_array(v, n) for n, v in {**weights, "matrix": _matrix(1)}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def _bytes_per_s(threads: int, repeats: int) -> float:
    """Copy a large array on all cores, or on so many, each a part of it."""
    source = np.ones(ARRAY_BYTES // 8)
    target = np.zeros_like(source)
    parts = threads or os.cpu_count() or 1
    with ThreadPoolExecutor(parts) as pool:

        def copy() -> None:
            pieces = zip(np.array_split(target, parts), np.array_split(source, parts), strict=True)
            list(pool.map(lambda pair: np.copyto(*pair), pieces))

        best = min(timeit.repeat(copy, number=1, repeat=repeats + 1))
    return 2 * source.nbytes / best
