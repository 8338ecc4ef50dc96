"""The report's arithmetic: ratios, and the text of it all."""

import pytest

from aopsam_benchmarks.part import summary
from aopsam_benchmarks.report import as_text, ratios


def graph(name, ms, times_floor=2.0):
    facts = {"graph": name, "ms": ms, "scatter_ms": 0.1, "gflop": 1.5}
    return {**facts, "floor_ms": ms / times_floor, "times_floor": times_floor}


def frame(prompts, ms, share=0.05):
    facts = {"prompts": prompts, "frame_ms": summary([ms]), "prompt_share": share}
    stages = {"encoder": ms / 2, "decoder": ms / 3}
    return {**facts, "masks": 60, "prompts_decoded": 64, "stages_ms": stages}


MODEL = {
    "frames": [frame("predictor", 20.0), frame("grid32", 500.0, 0.0)],
    "official": {"frame_ms": summary([1200.0]), "masks": 61, "torch": "9"},
    "graphs": {
        "multiplications_per_s": 1e11,
        "rows": [
            graph("encoder", 8.0, 1.5),
            graph("decoder, 1 at once", 4.0, 2.0),
            graph("decoder, 8 at once", 16.0, 3.0),
            graph("decoder, 64 at once", 300.0, 4.0),
        ],
    },
    "memory": {
        "encoder_mb": 100.0,
        "prompt_stage_mb": 12.5,
        "pipeline": [{"prompts": 64, "peak_mb": 180.0}],
    },
    "growth": {
        "prompts": [{"prompts": 4, "decoded": 4, "masks": 3, "frame_ms": summary([9.0])}],
        "sizes": [{"size": "64x48", "decoded": 5, "masks": 3, "frame_ms": summary([7.0])}],
        "budgets": [{"budget_ms": 8, "decoded": 2, "masks": 1, "frame_ms": summary([6.0, 10.0])}],
        "cameras": [{"cameras": 2, "fps_each": 4.25, "memory_mb": 321.0}],
    },
    "node": [
        {
            "size": "64x48",
            "live_ms": summary([9.0]),
            "bare_ms": summary([7.0]),
            "overhead_ms": 2.25,
            "plain_ms": 1.5,
            "default_ms": 3.5,
            "stream_fps": 11.0,
            "workers": 2,
            "workers_fps": 17.0,
            "masks": 3,
        }
    ],
}


def test_ratios():
    found = {one["what"]: (one["value"], one["unit"]) for one in ratios({"m": MODEL})}
    assert found == {
        "official automatic generator, torch, to ours": (60.0, "x"),
        "grid32 on the same engine to ours": (25.0, "x"),
        "prompt stage (predictor, ASF) of a frame": (5.0, "%"),
        "encoder to its floor": (pytest.approx(1.5), "x"),
        "decoder, 1 at once to its floor": (pytest.approx(2.0), "x"),
        "decoder, 8 at once to its floor": (pytest.approx(3.0), "x"),
        "decoder, 64 at once to its floor": (pytest.approx(4.0), "x"),
        "decoder, a prompt at the best batch, 8": (2.0, "ms"),
        "prompt stage's memory above the encoder's": (12.5, "MB"),
        "longest frame with 8 ms for each": (1.25, "x"),
        "ROS overhead, 64x48": (2.25, "ms"),
        "a plain node's answer, 64x48": (1.5, "ms"),
        "a plain node's answer, 64x48, Fast DDS's default settings": (3.5, "ms"),
        "live node, 64x48": (11.0, "frames/s"),
        "live node, 64x48, 2 workers": (17.0, "frames/s"),
    }


def test_what_was_not_measured_has_no_ratio():
    assert ratios({"m": {}}) == []
    only = {"frames": MODEL["frames"]}
    assert [one["value"] for one in ratios({"m": only})] == [25.0, 5.0]


def results(**changes):
    machine = {"cpu_model_name": "A processor", "cpu_count": 2, "memory_gb": 8.0}
    machine |= {"versions": {"numpy": "2"}, "load_avg_1min": 0.1}
    facts = {"machine": machine, "settings": {"quick": False}, "ratios": ratios({"m": MODEL})}
    return {**facts, "models": {"m": MODEL}, "left_out": {}, **changes}


def test_text_says_what_not_to_believe():
    busy = {**results()["machine"], "load_avg_1min": 3.0}
    assert "busy" in as_text(results(machine=busy))
    assert "Its figures mean nothing" in as_text(results(settings={"quick": True}))
    assert "m, node  needs ROS 2" in as_text(results(left_out={"m, node": "needs ROS 2"}))
