"""`aopsam evaluate` as users run it: files, determinism, and that a killed run goes on."""

import csv
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aopsam_ros.cli import main
from aopsam_ros.segmentation.segmenter import Segmenter


def words(tiny_folder, data, out, *more):
    return [
        *("evaluate", "--data", *map(str, data), "--model", str(tiny_folder), "--threads", "1"),
        *("--engine", "onnxruntime"),
        *("--prompts", "auto,grid4", "--parts", "sources,ablation", "--set", "asf.batch_size=2"),
        *("--out", str(out), *more),
    ]


def without_times(path: Path):
    """Return a file's content without what differs from run to run: times and memory."""
    if path.name == "results.csv":
        rows = list(csv.DictReader(path.open()))
        return [{k: v for k, v in r.items() if "_ms" not in k and "_mb" not in k} for r in rows]
    if path.name == "results.json":
        content = json.loads(path.read_text())
        for entry in content["configurations"]:
            entry["peak_mb"] = None
            for row in entry["figures"].values():
                for name in [name for name in row if "_ms" in name]:
                    del row[name]
        return content
    if path.suffix == ".jsonl":
        results = [json.loads(line) for line in path.read_text().splitlines() if line]
        return [entry | {"prompt_ms": 0, "total_ms": 0, "peak_mb": 0} for entry in results]
    return re.sub(r"\d+(\.\d+)?", "#", path.read_text()) if path.suffix == ".md" else None


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def evaluated(tiny_folder, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated")
    assert main(words(tiny_folder, data, out)) == 0
    return out


@pytest.mark.needs("matplotlib", "pycocotools")
def test_two_runs_leave_the_same_files_but_for_times(evaluated, tiny_folder, data, tmp_path):
    assert main(words(tiny_folder, data, tmp_path)) == 0
    assert files_of(tmp_path) == files_of(evaluated)
    for name in files_of(tmp_path):
        one, two = evaluated / name, tmp_path / name
        if name.startswith("examples"):
            assert one.read_bytes() == two.read_bytes()
        else:
            assert without_times(one) == without_times(two)


KILLED = """
import os, signal, sys
from aopsam_ros.segmentation.segmenter import Segmenter
segment, left = Segmenter.segment, [int(sys.argv[1])]
def until_killed(*a, **k):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return segment(*a, **k)
Segmenter.segment = until_killed
from aopsam_ros.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.needs("matplotlib", "pycocotools")
def test_a_killed_run_goes_on_where_it_stopped(evaluated, tiny_folder, data, tmp_path, monkeypatch):
    command = [sys.executable, "-c", KILLED, "13", *words(tiny_folder, data, tmp_path)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    kept = {path: path.read_text() for path in (tmp_path / "images").iterdir()}
    measured = sum(text.count('{"key"') for text in kept.values())
    assert measured == 13 - 4  # each of four configurations warmed up first
    for path in list(kept)[:1]:  # and the last line may be half written
        path.write_text(kept[path] + '{"key": "far/sc')
    calls = []
    segment = Segmenter.segment
    monkeypatch.setattr(Segmenter, "segment", lambda *a: calls.append(1) or segment(*a))
    assert main(words(tiny_folder, data, tmp_path)) == 0
    examples = 3 * 2
    assert len(calls) == 4 * 5 - measured + 4 + examples
    assert without_times(tmp_path / "results.json") == without_times(evaluated / "results.json")
    calls.clear()
    before = (tmp_path / "results.json").read_text()
    assert main(words(tiny_folder, data, tmp_path)) == 0
    assert len(calls) == examples  # nothing else is measured again
    assert (tmp_path / "results.json").read_text() == before


@pytest.mark.needs("matplotlib", "pycocotools")
def test_results_say_what_was_measured(evaluated):
    content = json.loads((evaluated / "results.json").read_text())
    assert content["about"]["model"] == "tiny 1"
    assert content["about"]["engine"] == "onnxruntime on cpu, fp32, 1 threads"
    assert content["data"] == {"near": 3, "far": 2}
    titles = [entry["configuration"] for entry in content["configurations"]]
    assert titles[:2] == ["predictor", "grid4"]
    row = content["configurations"][0]["figures"]["all"]
    assert row["images"] == 5 and row["prompts_decoded"] <= row["prompts"] == 5
    # Three rectangles found nearly exactly; the ground counts against AP and the paper's mIoU.
    assert row["one_to_one"] > 0.9 > row["closest"] and row["coverage_75"] == 1
    assert row["ar_100"] > 0.85 > row["average_precision"] > 0.3
    assert row["pq"] == pytest.approx(row["sq"] * row["rq"]) and row["pq"] > 0.5
    assert content["configurations"][0]["peak_mb"] > 0
    lines = list(csv.DictReader((evaluated / "results.csv").open()))
    assert len(lines) == 5 * 3
    assert float(lines[2]["one_to_one"]) == row["one_to_one"]


def test_boxes_cost_their_detectors_time(tiny_folder, data, boxes_file, capfd):
    common = ["evaluate", "--data", *map(str, data), "--model", str(tiny_folder)]
    common += ["--prompts", "boxes,box_centres"]
    assert main(common) == 2
    assert "--prompts boxes needs --boxes FILE" in capfd.readouterr().err
    assert main([*common, "--boxes", str(boxes_file), "--boxes-ms", "5000"]) == 0
    header, *lines = capfd.readouterr().out.splitlines()
    columns = header.replace("data set", "data").split()
    rows = [line.split() for line in lines]
    assert [row[0] for row in rows] == ["boxes"] * 3 + ["box_centres"] * 3
    for row in rows:
        figures = dict(zip(columns, row, strict=True))
        assert figures["masks"] == "3.0" and float(figures["1-to-1"]) > 0.9
        assert float(figures["ms"]) >= 5000


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["--data", "nowhere"], "nowhere: no such data set"),
        (["--data", "NEAR", "NEAR"], "two data sets are called near"),
        (["--data", "NEAR", "--limit", "-1"], "--limit must be 0 or more"),
        (["--data", "NEAR", "--threads", "-1"], "--threads must be 0 or more"),
        (["--data", "NEAR", "--prompts", "oracle"], "unknown prompt source 'oracle'"),
        (["--data", "NEAR", "--prompts", "grid4,grid4"], "a source is named twice"),
        (["--data", "NEAR", "--set", "asf.batch_size"], "--set takes NAME=VALUE"),
        (["--data", "NEAR", "--set", "asf.batch_size=0"], "asf.batch_size must be between"),
        (["--data", "NEAR", "--points", "middle"], "--points is centre, random, box or clicks:N"),
        (["--data", "NEAR", "--model", "nothing"], "model bundle 'nothing' not found"),
    ],
)
def test_wrong_arguments_are_one_clear_line(data, tiny_folder, capfd, given, reason):
    given = [str(data[0]) if word == "NEAR" else word for word in given]
    assert main(["evaluate", "--model", str(tiny_folder), *given]) == 2
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("aopsam: error: ") and reason in error


def test_prompts_of_the_ground_truth_are_measured_instead(tiny_folder, data, tmp_path, capfd):
    common = ["evaluate", "--data", *map(str, data), "--model", str(tiny_folder)]
    assert main([*common, "--points", "clicks:1", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "points.json").read_text())
    assert list(content) == ["near", "far", "all"]
    assert content["all"]["instances"] == 15 and len(content["all"]["after_click"]) == 2
    out = capfd.readouterr().out.splitlines()
    assert out[0].endswith("click 1  click 2") and out[3].split()[:1] == ["all"]


def test_without_matplotlib_it_says_what_to_install(tiny_folder, data, tmp_path):
    program = (
        "import sys; sys.modules['matplotlib'] = None; from aopsam_ros.cli import main;"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, *words(tiny_folder, data, tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "a report needs matplotlib" in done.stderr and "Traceback" not in done.stderr
