"""The memory that all graphs share which ONNX Runtime runs on the processor.

By default every session has an arena of its own, which keeps what its graph needs at most. But the
graphs of a frame run one after another: what the encoder is done with is enough for the decoder.
"""

from __future__ import annotations

import contextlib
import functools

import numpy as np
import onnxruntime as ort

# y = x, of one number, in ONNX's format: to run something when only the run matters.
_SMALLEST_GRAPH = bytes.fromhex(
    "08083a370a100a01781201792208"
    "4964656e74697479"  # Identity
    "1201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a02080142040a00100d"
)
_SHARE = "session.use_env_allocators"


def share_arena(options: ort.SessionOptions) -> None:
    """Let a session for the processor take its memory from the process's one arena."""
    _make_arena()
    options.add_session_config_entry(_SHARE, "1")


def shrink_arena() -> None:
    """Give back what nobody uses; otherwise the arena keeps it for the next frame."""
    options, run = ort.SessionOptions(), ort.RunOptions()
    share_arena(options)
    # ONNX Runtime shrinks an arena after a run only.
    run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    with contextlib.suppress(Exception):  # to keep memory is better than to fail
        session = ort.InferenceSession(_SMALLEST_GRAPH, options, providers=["CPUExecutionProvider"])
        session.run(None, {"x": np.zeros(1, np.float32)}, run)


@functools.cache
def _make_arena() -> None:
    """Make the arena, once in a process, with ONNX Runtime's own limits and steps."""
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(0, -1, -1, -1))
