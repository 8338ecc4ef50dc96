"""`aopsam evaluate` as users run it: files, determinism, and that a killed run goes on."""

import csv
import json
import os
import re
import sys

import pytest

from aopsam_ros.cli import main
from aopsam_ros.segmentation.segmenter import Segmenter
from support.scenes import write_scenes


def words(tiny_folder, data, out):
    return [
        *("evaluate", "--data", *map(str, data), "--model", str(tiny_folder), "--threads", "1"),
        *("--engine", "onnxruntime"),
        *("--prompts", "auto,grid4", "--parts", "sources", "--set", "asf.batch_size=2"),
        *("--out", str(out)),
    ]


def without_times(folder):
    """Return the files of results by name, without what differs from run to run."""
    rows = list(csv.DictReader((folder / "results.csv").open()))
    found = {"results.csv": [steady(row) for row in rows]}
    for path in (*folder.rglob("*.json*"), *folder.rglob("*.jpg")):
        found[path.name] = path.read_bytes()
        if path.suffix != ".jpg":
            lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [found[path.name]]
            found[path.name] = [json.loads(line, object_hook=steady) for line in lines if line]
    return found


def steady(content):
    """Leave out times and memory."""
    return {name: value for name, value in content.items() if not re.search("_ms|_mb", name)}


@pytest.fixture(scope="module")
def evaluated(tiny_folder, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated")
    assert main(words(tiny_folder, data, out)) == 0
    return out


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
@pytest.mark.needs("matplotlib", "pycocotools")
def test_images_whose_name_is_no_text(tiny_folder, tmp_path):
    folder = write_scenes(tmp_path / "drawn", [1, 2])
    for path in (*folder.glob("images/*1.*"), *folder.glob("masks/*1.*")):
        path.rename(path.with_name(os.fsdecode(b"caf\xe9") + path.suffix))
    assert main(words(tiny_folder, [folder], tmp_path / "out")) == 0
    assert b"drawn/caf\xe9" in (tmp_path / "out" / "report.html").read_bytes()


@pytest.mark.needs("matplotlib", "pycocotools")
def test_a_killed_run_goes_on_where_it_stopped(
    evaluated, tiny_folder, data, tmp_path, watched, run_until_killed
):
    segment = "aopsam_ros.segmentation.segmenter.Segmenter.segment"
    run_until_killed(segment, 7, words(tiny_folder, data, tmp_path))
    kept = {path: path.read_text() for path in (tmp_path / "images").iterdir()}
    measured = sum(text.count('{"key"') for text in kept.values())
    assert measured == 7 - 2  # each of two configurations warmed up first
    path = min(kept)  # and the last line may be half written
    path.write_bytes(kept[path].encode() + b'{"key": "far/sc\xff')
    calls = watched(Segmenter, "segment")
    assert main(words(tiny_folder, data, tmp_path)) == 0
    examples = 3 * 2
    assert len(calls) == 2 * 5 - measured + 2 + examples
    path.write_bytes(path.read_bytes().replace(b'{"key": "far/sc\xff\n', b""))
    assert without_times(tmp_path) == without_times(evaluated)
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
    assert titles == ["predictor", "grid4"]
    row = content["configurations"][0]["figures"]["all"]
    assert row["images"] == 5 and row["prompts_decoded"] <= row["prompts"] == 5
    # Three rectangles found nearly exactly; the ground counts against AP and the paper's mIoU.
    assert row["one_to_one"] > 0.9 > row["closest"] and row["coverage_75"] == 1
    assert row["ar_100"] > 0.85 > row["average_precision"] > 0.3
    assert row["pq"] == pytest.approx(row["sq"] * row["rq"]) and row["pq"] > 0.5
    assert content["configurations"][0]["peak_mb"] > 0
    lines = list(csv.DictReader((evaluated / "results.csv").open()))
    assert len(lines) == 2 * 3
    assert float(lines[2]["one_to_one"]) == row["one_to_one"]


def test_boxes_cost_their_detectors_time(tiny_folder, data, boxes_file, capfd, refused):
    common = ["evaluate", "--data", *map(str, data), "--model", str(tiny_folder)]
    common += ["--prompts", "boxes,box_centres"]
    assert "--prompts boxes needs --boxes FILE" in refused(*common)
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
        (["--data", "NEAR", "--threads", "-1"], "--threads must be from 0 to 256"),
        (["--data", "NEAR", "--prompts", "oracle"], "unknown prompt source 'oracle'"),
        (["--data", "NEAR", "--set", "asf.batch_size"], "--set takes NAME=VALUE"),
        (["--data", "NEAR", "--set", "asf.batch_size=0"], "asf.batch_size must be between"),
        (["--data", "NEAR", "--points", "middle"], "--points is centre, random, box or clicks:N"),
        (["--data", "NEAR", "--model", "nothing"], "model bundle 'nothing' not found"),
        (["--data", "nowhere", "--task", "edges", "--set", "asf.batch_size=0"], "asf.batch_size"),
        (["--data", "NEAR", "--task", "salient", "--salient-count", "0"], "must be 1 or more"),
        (["--data", "NEAR", "--points", "box", "--parts", "rules"], "--parts has no effect"),
        (["--data", "NEAR", "--task", "edges", "--points", "box"], "with --task edges"),
        (["--data", "NEAR", "--classes", "x", "--stream"], "no effect with --classes"),
        (["--data", "NEAR", "--parts", "rules"], "--parts goes with --out"),
        (["--data", "NEAR", "--boxes", "x"], "--boxes goes with --prompts boxes or box_centres"),
        (["--data", "NEAR", "--boxes-ms", "180"], "--boxes-ms goes with --boxes"),
        (["--data", "NEAR", "--seed", "1"], "--seed has no effect on instances"),
        (["--data", "NEAR", "--boxes-ms", "nan"], "--boxes-ms must be 0 or more, and finite"),
        (["--data", "NEAR", "--boxes-ms", "-1"], "--boxes-ms must be 0 or more, and finite"),
        (["--data", "NEAR", "--points", "random", "--seed", "-1"], "--seed must be 0 or more"),
    ],
)
def test_wrong_arguments_are_one_clear_line(data, tiny_folder, refused, given, reason):
    given = [str(data[0]) if word == "NEAR" else word for word in given]
    assert reason in refused("evaluate", "--model", str(tiny_folder), *given)


@pytest.mark.parametrize("kind", [[], ["--points", "box"]])
def test_the_row_of_all_is_of_no_data_set(data, tiny_folder, tmp_path, refused, aopsam, kind):
    mine = tmp_path / "all"
    mine.symlink_to(data[0])
    words = ["evaluate", "--model", tiny_folder, *kind, "--data", mine]
    assert "a data set is called all" in refused(*words, data[1])
    assert aopsam(*words).code == 0  # by itself it is all


@pytest.mark.parametrize(
    "kind", [["--points", "box"], ["--task", "edges"], ["--classes", "ground-truth"], []]
)
@pytest.mark.parametrize("out", ["/dev/null/out", "/proc"])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="writes into /proc")
def test_a_folder_that_takes_no_files_is_refused_before_anything_is_measured(
    data, tiny_folder, refused, kind, out
):
    words = ["evaluate", "--data", data[0], "--model", tiny_folder, *kind, "--out", out]
    assert f"{out}: cannot be written" in refused(*words, at_once=True)


def test_prompts_of_the_ground_truth_are_measured_instead(tiny_folder, data, tmp_path, capfd):
    common = ["evaluate", "--data", *map(str, data), "--model", str(tiny_folder)]
    assert main([*common, "--points", "clicks:1", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "points.json").read_text())
    assert list(content) == ["near", "far", "all"]
    assert content["all"]["instances"] == 15 and len(content["all"]["after_click"]) == 2
    out = capfd.readouterr().out.splitlines()
    assert out[0].endswith("click 1  click 2") and out[3].split()[:1] == ["all"]


def test_edges_salient_things_and_proposals_are_tasks_of_their_own(
    tiny_folder, data, boxes_file, tmp_path, capfd, images_in_memory
):
    common = ["evaluate", "--data", *map(str, data), "--model", str(tiny_folder)]
    common += ["--prompts", "predictor,grid8,boxes", "--boxes", str(boxes_file)]
    pytest.importorskip("pycocotools")
    for task, names, of_boxes in (
        ("edges", ["ods", "ois"], "ods"),
        ("proposals", ["ar_10", "ar_100", "ar_1000"], "ar_100"),
        ("salient", ["iou", "mae", "best"], "best"),
    ):
        out = tmp_path / task
        assert main([*common, "--task", task, "--out", str(out)]) == 0
        by_source = json.loads((out / f"{task}.json").read_text())
        assert list(by_source) == ["predictor", "grid8", "boxes"]
        content = by_source["predictor"]
        assert list(content) == ["near", "far"]
        assert all(0 <= row[name] <= 1 for row in content.values() for name in names)
        assert content["near"][names[0]] > 0.2  # the tiny model finds its coloured things
        assert f"{names[0]} {content['near'][names[0]]:.3f}" in capfd.readouterr().out
        assert by_source["boxes"]["near"][of_boxes] > 0.2
    assert by_source["grid8"]["near"]["prompts"] == 64
    assert max(images_in_memory) <= 2
