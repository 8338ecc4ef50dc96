"""The report's arithmetic: floors, ratios, rows, and the text of it all."""

import pytest

pytest.importorskip("pyperf")
from aopsam_benchmarks.operations import Work
from aopsam_benchmarks.part import summary
from aopsam_benchmarks.rates import Rates
from aopsam_benchmarks.report import as_text, ratios
from aopsam_benchmarks.stage_rows import make_row, stage_rows

RATES = Rates(macs_per_s=100.0, bytes_per_s=10.0)


@pytest.mark.parametrize(
    ("work", "seconds", "by"),
    [
        (Work(macs=200.0, moved=5.0), 2.0, "operations"),
        (Work(macs=200.0, moved=50.0), 5.0, "bytes"),
        (Work(moved=1.0), 0.1, "bytes"),
    ],
)
def test_floor_is_the_longer_of_computing_and_moving(work, seconds, by):
    assert RATES.floor_s(work) == pytest.approx(seconds)
    row = make_row("stage", "", (3 * seconds, 0.0), work, RATES)
    assert row.floor_by == by
    assert row.floor_ms == pytest.approx(1e3 * seconds)
    assert row.times_floor == pytest.approx(3.0)


def test_row_has_milliseconds_gflop_and_mb():
    row = make_row("decoder", "8 prompts", (0.5, 0.01), Work(3e9, 4e6), RATES)
    assert (row.ms, row.scatter_ms) == (500.0, 10.0)
    assert (row.gflop, row.mb) == pytest.approx((6.0, 4.0))


def test_a_stage_without_work_has_no_ratio():
    assert make_row("x", "", (1.0, 0.0), Work(), RATES).times_floor is None


def test_rows_are_medians_of_what_pyperf_measured(tmp_path):
    import pyperf

    runs = [
        pyperf.Run([v], metadata={"name": "b"}, collect_metadata=False) for v in (1.0, 2.0, 9.0)
    ]
    suite = pyperf.BenchmarkSuite([pyperf.Benchmark(runs)])
    suite.dump(str(tmp_path / "times.json"))
    work = {"b": {"macs": 50.0, "bytes": 0.0, "amount": "3 things"}}
    (row,) = stage_rows(tmp_path / "times.json", work, RATES)
    assert (row.stage, row.amount, row.ms, row.scatter_ms) == ("b", "3 things", 2000.0, 1000.0)
    assert row.times_floor == pytest.approx(4.0)


def test_summary():
    assert summary([3.0, 1.0, 8.0]) == {"median": 3.0, "min": 1.0, "max": 8.0, "runs": 3}


def stage(name, ms, times_floor=2.0):
    row = make_row(name, "", (ms / 1e3, 0.0), Work(macs=100.0 * ms / 1e3 / times_floor), RATES)
    return vars(row)


def frame(prompts, ms, share=0.05):
    facts = {"prompts": prompts, "frame_ms": summary([ms]), "prompt_share": share}
    return {**facts, "masks": 60, "prompts_decoded": 64}


MODEL = {
    "frames": [frame("predictor", 20.0), frame("grid32", 500.0, 0.0)],
    "official": {"frame_ms": summary([1200.0]), "masks": 61, "torch": "9"},
    "stages": {
        "rates": {"macs_per_s": 1e11, "bytes_per_s": 1e10},
        "rows": [
            stage("encoder", 8.0, 1.5),
            stage("upscaling", 8.0, 7.0),
            stage("decoder, once a frame", 1.0, 5.0),
            stage("decoder, 1 at once", 4.0, 2.0),
            stage("decoder, 8 at once", 16.0, 3.0),
            stage("decoder, 64 at once", 300.0, 4.0),
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
    found = {(ratio.what): (ratio.value, ratio.unit) for ratio in ratios({"m": MODEL})}
    assert found == {
        "official automatic generator, torch, to ours": (60.0, "x"),
        "grid32 on the same engine to ours": (25.0, "x"),
        "prompt stage (predictor, ASF) of a frame": (5.0, "%"),
        "encoder to its floor": (pytest.approx(1.5), "x"),
        "decoder, once a frame to its floor": (pytest.approx(5.0), "x"),
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
    assert [ratio.value for ratio in ratios({"m": only})] == [25.0, 5.0]


def results(**changes):
    machine = {"cpu_model_name": "A processor", "cpu_count": 2, "memory_gb": 8.0}
    machine |= {"versions": {"numpy": "2"}, "load_avg_1min": 0.1}
    found = [vars(ratio) for ratio in ratios({"m": MODEL})]
    facts = {"machine": machine, "settings": {"quick": False}, "ratios": found}
    return {**facts, "models": {"m": MODEL}, "left_out": {}, **changes}


def test_text_begins_with_machine_and_ratios_and_has_every_table():
    lines = as_text(results()).splitlines()
    assert lines[:2] == ["A processor, 2 cores, 8.0 GB", "numpy 2"]
    underlines = [i for i, line in enumerate(lines) if set(line) == {"-"}]
    assert [lines[i - 1] for i in underlines] == [
        "Ratios",
        "m: whole frames",
        "m: stages; floors at 200 GFLOP/s, 10 GB/s",
        "m: memory",
        "m: growth",
        "m: live node",
    ]
    assert "official generator, torch 9" in "\n".join(lines)
    assert "busy" not in "\n".join(lines)


def test_text_says_what_not_to_believe():
    busy = {**results()["machine"], "load_avg_1min": 3.0}
    assert "busy" in as_text(results(machine=busy))
    assert "Its figures mean nothing" in as_text(results(settings={"quick": True}))
    assert "m, node  needs ROS 2" in as_text(results(left_out={"m, node": "needs ROS 2"}))


def test_columns_are_aligned():
    lines = as_text(results()).splitlines()
    header, row = lines[lines.index("m: live node") + 2 :][:2]
    assert header.index("live ms") == row.index("9.0") == len("64x48") + 2
