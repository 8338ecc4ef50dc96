"""`aopsam segment --ray` on a cluster of this machine's processes."""

import json
import os
import subprocess
import sys
import time

import pytest

from aopsam_ros.images.files import write_rgb
from support.scenes import coloured_scene, write_video

psutil = pytest.importorskip("psutil")
pytest.importorskip("ray")


def results(folder):
    """Return what was found in each frame, but for the times it took."""
    found = {file.name: file.read_text().splitlines() for file in sorted(folder.iterdir())}
    return {n: [json.loads(line) | {"timings_ms": {}} for line in ls] for n, ls in found.items()}


def the_only_part(command):
    """Return the process of the one part that is left, or None."""
    parts = []
    for process in psutil.Process(command.pid).children(recursive=True):
        try:
            parts += [process] if "ray::_part" in " ".join(process.cmdline()) else []
        except psutil.Error:
            continue
    return parts[0] if len(parts) == 1 else None


def test_a_killed_workers_part_is_done_again_and_results_are_those_of_one(tiny_folder, tmp_path):
    write_video(tmp_path / "monday.avi", [coloured_scene(90)[0]] * 3)
    write_video(tmp_path / "tuesday.avi", [coloured_scene(100)[0]] * 3)
    write_rgb(tmp_path / "photo.png", coloured_scene()[0])
    words = [sys.executable, "-m", "aopsam_ros.cli", "segment", "--no-overlay"]
    words += ["monday.avi", "tuesday.avi", "photo.png", "--model", str(tiny_folder), "--out"]
    subprocess.run([*words, "one"], cwd=tmp_path, check=True, capture_output=True)
    # A pipe that nobody writes to: monday's part waits for its photograph until it is killed.
    (tmp_path / "photo.png").rename(tmp_path / "kept.png")
    os.mkfifo(tmp_path / "photo.png")
    many = tmp_path / "many"
    with subprocess.Popen([*words, "many", "--ray", "local"], cwd=tmp_path) as command:
        deadline = time.monotonic() + 600
        while not ((many / "tuesday.jsonl").exists() and (part := the_only_part(command))):
            assert command.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        (tmp_path / "kept.png").replace(tmp_path / "photo.png")
        part.kill()
        assert command.wait(600) == 0
    assert results(many) == results(tmp_path / "one")


def test_a_cluster_that_is_not_there_is_one_clear_line(tiny_folder, tmp_path, refused):
    write_rgb(tmp_path / "photo.png", coloured_scene()[0])
    words = ["segment", str(tmp_path / "photo.png"), "--model", str(tiny_folder)]
    said = refused(*words, "--ray", "127.0.0.1:9", "--out", str(tmp_path))
    assert "the Ray cluster 127.0.0.1:9 cannot be reached" in said


@pytest.mark.parametrize("error", [Exception("the node timed out\nand more"), ValueError()])
def test_a_cluster_that_does_not_start_is_one_clear_line(
    tiny_folder, tmp_path, refused, monkeypatch, error
):
    """Ray has errors of the class `Exception` itself, and some without text."""

    def init(*_, **__):
        raise error

    monkeypatch.setattr("ray.init", init)
    write_rgb(tmp_path / "photo.png", coloured_scene()[0])
    words = ["segment", str(tmp_path / "photo.png"), "--model", str(tiny_folder)]
    said = refused(*words, "--ray", "local", "--out", str(tmp_path))
    line = "the node timed out" if str(error) else "ValueError"
    assert f"the Ray cluster local cannot be reached: {line}" in said
