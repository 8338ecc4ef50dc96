"""`aopsam bench`: every part runs on the hand-made bundle and reports its failures."""

import functools
import json
import os
import platform

import pytest

from aopsam_ros.cli import main
from aopsam_ros.commands import bench
from support.tiny_bundle import write_tiny_bundle

for needed in bench.NEEDED:
    pytest.importorskip(needed)


def run(folder, out, *words):
    """The results of a run, whose exit code says whether a part was left out."""
    arguments = ["bench", "--quick", "--threads", "1", "--model", folder, "--out", out, *words]
    code = main([str(word) for word in arguments])
    results = json.loads((out / "results.json").read_text())
    assert code == (bench.INCOMPLETE if results["left_out"] else 0)
    return results


@pytest.fixture(scope="module")
def measured(tiny_folder, tmp_path_factory):
    """A run of everything but the live node."""
    out = tmp_path_factory.mktemp("bench")
    results = run(tiny_folder, out, "--only", "graphs", "frames", "memory", "growth")
    assert results["left_out"] == {}
    return out, results


def test_results_have_machine_settings_ratios_and_models_but_no_path(measured, tiny_folder):
    out, results = measured
    assert list(results) == ["format", "machine", "settings", "ratios", "models", "left_out"]
    assert results["machine"]["cpu_count"] >= 1
    assert results["settings"]["models"] == ["tiny"] == list(results["models"])
    assert (out / "report.txt").read_text().count("tiny") > 3
    text = json.dumps(results)
    assert all(word not in text for word in (str(tiny_folder), str(out), f'"{platform.node()}"'))


def test_every_part_reports_what_it_measured(measured):
    found = measured[1]["models"]["tiny"]
    encoder, decoder = found["graphs"]["rows"]
    assert (encoder["graph"], decoder["graph"]) == ("encoder", "decoder, 8 at once")
    assert encoder["gflop"] == pytest.approx(2e-9 * 9 * 128 * 128)
    assert encoder["times_floor"] == pytest.approx(encoder["ms"] / encoder["floor_ms"])
    assert encoder["ms"] > 0 and found["graphs"]["multiplications_per_s"] > 0
    ours, grid = found["frames"]
    assert (ours["prompts"], grid["prompts"], grid["prompts_decoded"]) == ("predictor", "grid4", 16)
    assert ours["frame_ms"]["runs"] == 4 * grid["frame_ms"]["runs"]
    assert 0.0 < grid["prompt_share"] < 1.0 and 0.0 < ours["prompt_share"] < 1.0
    assert [row["prompts"] for row in found["memory"]["pipeline"]] == [1, 16]
    assert found["memory"]["encoder_mb"] > 20.0  # Python alone takes as much
    assert [row["decoded"] for row in found["growth"]["prompts"]] == [1, 8]
    assert len(found["growth"]["budgets"]) == 3
    assert [row["size"] for row in found["growth"]["sizes"]] == ["320x240"]
    assert found["growth"]["cameras"][0]["fps_each"] > 0


def test_options_are_those_of_every_part_with_frames(tiny_folder, tmp_path):
    parts = ("--only", "frames", "growth")
    results = run(tiny_folder, tmp_path, *parts, "--set", "asf.max_prompts=1")
    assert results["models"]["tiny"]["frames"][0]["prompts_decoded"] == 1
    assert results["models"]["tiny"]["growth"]["sizes"][0]["decoded"] == 1
    assert results["settings"]["options"] == ["asf.max_prompts=1"]


def test_the_live_node_is_measured_beside_the_pipeline(tiny_folder, tmp_path, monkeypatch):
    pytest.importorskip("rclpy")
    from support.live import free_domain

    domain, claim = free_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    with claim:
        results = run(tiny_folder, tmp_path, "--only", "node")
    assert results["left_out"] == {}
    (row,) = results["models"]["tiny"]["node"]
    assert row["masks"] > 0
    assert row["live_ms"]["runs"] == row["bare_ms"]["runs"] == 2
    assert row["stream_fps"] > 0


@pytest.mark.needs("rclpy")
def test_a_streams_rate_is_of_one_answer_at_least():
    """However short: on a busy machine the time is over before the first image is taken."""
    from aopsam_benchmarks.node import LiveNode

    live = LiveNode.__new__(LiveNode)
    live.arrived = {}
    live.answer = live.publish = lambda image: None
    live.wait = lambda condition: live.arrived.update({len(live.arrived): 0.0})
    assert live.stream(None, 0.0) > 0


@pytest.mark.parametrize("prompts", [1, 3])
def test_memory_is_measured_where_few_prompts_are_proposed(tiny_folder, tmp_path, prompts):
    setting = f"asf.max_prompts={prompts}"
    assert run(tiny_folder, tmp_path, "--only", "memory", "--set", setting)["left_out"] == {}


# What another system than Linux has: no /proc, and memory without the shares of a page.
NO_LINUX = """
import collections, pathlib, psutil
exists, measured = pathlib.Path.exists, collections.namedtuple("pfullmem", "rss uss")
pathlib.Path.exists = lambda self, *a, **k: str(self)[:6] != "/proc/" and exists(self, *a, **k)
psutil.Process.memory_full_info = lambda self: measured(9, 5_000_000)
"""


def test_without_linux_memory_is_left_out_and_growth_is_measured(
    tiny_folder, tmp_path, monkeypatch
):
    (tmp_path / "sitecustomize.py").write_text(NO_LINUX)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    results = run(tiny_folder, tmp_path / "out", "--only", "memory", "growth")
    assert set(results["left_out"]) == {"tiny, memory"}
    assert "memory is measured on Linux only" in results["left_out"]["tiny, memory"]
    assert results["models"]["tiny"]["growth"]["cameras"][0]["memory_mb"] == 5.0


def test_a_part_that_fails_is_left_out_with_its_reason(tmp_path, capfd):
    folder = write_tiny_bundle(tmp_path / "damaged")
    (folder / "prompt_predictor.onnx").write_bytes(b"damaged")
    results = run(folder, tmp_path / "out", "--only", "memory", "frames")
    assert set(results["left_out"]) == {"tiny, frames", "tiny, memory"}
    assert "sha256" in results["left_out"]["tiny, frames"]
    assert "Traceback" not in capfd.readouterr().err


def test_others_graphs_are_timed_beside_whole_frames(tiny_folder, tmp_path):
    graph = tiny_folder / "encoder.onnx"
    results = run(tiny_folder, tmp_path, "--only", "peers", "--peer-onnx", graph, graph)
    assert results["left_out"] == {}
    ours, *peers = results["models"]["tiny"]["peers"]
    assert ours["graph"] == "tiny, whole frame"
    assert [peer["graph"] for peer in peers] == ["encoder", "encoder"]
    # One 1 x 1 convolution of 3 to 3 channels over the graph's own size.
    assert peers[0]["gflop"] == pytest.approx(2e-9 * 9 * 128 * 128)
    assert peers[0]["input"] == "1x3x128x128" and peers[0]["ms"]["median"] > 0
    ratio = {"model": "tiny", "what": "encoder to our frame", "unit": "x"}
    value = peers[0]["ms"]["median"] / ours["ms"]["median"]
    assert results["ratios"][0] == ratio | {"value": pytest.approx(value)}
    report = (tmp_path / "report.txt").read_text()
    assert "beside others' graphs" in report and str(tiny_folder) not in json.dumps(results)


def test_before_each_run_the_threads_of_the_one_before_come_to_rest(monkeypatch):
    from aopsam_benchmarks import peers

    events = []
    monkeypatch.setattr(peers.time, "sleep", events.append)
    runs = [functools.partial(events.append, name) for name in ("ours", "theirs")]
    ours, theirs = peers.in_turns(runs, 2)
    assert len(ours) == len(theirs) == 2
    assert events == 3 * [peers.REST_S, "ours", peers.REST_S, "theirs"]


def test_a_peer_that_is_no_graph_is_left_out_with_its_reason(tiny_folder, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    results = run(tiny_folder, tmp_path / "out", "--only", "peers", "--peer-onnx", broken)
    assert "not a graph that ONNX Runtime can run" in results["left_out"]["tiny, peers"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--peer-onnx", "nothing_such.onnx"], "nothing_such.onnx: no such file"),
        (["--size", "wide"], "a size is WIDTHxHEIGHT"),
        (["--threads", "-1"], "--threads must be from 0 to 256"),
        (["--model", "nothing_such"], "not found"),
        (["--set", "asf.max_prompts=0"], "asf.max_prompts must be between"),
    ],
)
def test_a_wrong_argument_is_one_line_before_anything_is_measured(words, said, tmp_path, refused):
    assert said in refused("bench", "--out", tmp_path / "out", *words, at_once=True)
    assert not (tmp_path / "out").exists()
