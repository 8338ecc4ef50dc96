"""Memory: readings by hand, this process's own, and a fresh process."""

import subprocess
import sys

import pytest

from aopsam_ros.errors import InferenceError
from aopsam_ros.evaluation.memory import MemoryStopwatch
from aopsam_ros.evaluation.memory_probe import MemoryFigures, _figures, probe
from aopsam_ros.evaluation.memory_store import MemoryStore


class Readings:
    """A meter that gives what it is told to."""

    def __init__(self, *pairs):
        self.pairs = list(pairs)

    def reset(self):
        self.now, self.most = self.pairs.pop(0)
        return self.now

    def peak(self):
        return self.most


def test_growth_and_peaks_by_hand():
    host = Readings((100, 130), (110, 150), (120, 125), (115, 119))
    device = Readings((10, 40), (10, 11), (20, 70), (20, 20))
    watch = MemoryStopwatch([host, device])
    for stage in ("encoder", "predictor", "sampling", "predictor"):
        with watch.stage(stage):
            pass
    assert watch.growth[0]["predictor"] == 40  # not 4: the largest of both frames
    assert watch.growth[0]["sampling"] == 5
    assert watch.highest == [150, 70]
    # Prompts: at most 40 and 50 in one stage. The run: peaks above what was there before the model.
    assert _figures(watch, [90.0, 5.0]) == MemoryFigures(40, 60, 50, 65)


def test_without_a_device_there_are_no_device_figures():
    watch = MemoryStopwatch([Readings((100, 130))])
    with watch.stage("decoder"):
        pass
    assert _figures(watch, [90.0, 5.0]) == MemoryFigures(0.0, 40.0, None, None)


def test_a_stage_that_fails_is_counted():
    watch = MemoryStopwatch([Readings((10, 90))])
    with pytest.raises(RuntimeError), watch.stage("decoder"):
        raise RuntimeError
    assert watch.highest == [90]
    assert watch.timings_ms()["decoder"] > 0


# A fresh process: what others allocated and gave back would be used again, unseen.
FREED_AT_ONCE = """
import numpy as np
from aopsam_ros.evaluation.memory import ProcessMemory
meter = ProcessMemory()
before = meter.reset()
block = np.ones(64 << 20, np.uint8)  # 64 MiB, touched
del block
print(before, meter.peak(), meter.reset(), meter.peak())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")
def test_a_processs_peak_is_seen_after_it_was_freed():
    done = subprocess.run(
        [sys.executable, "-c", FREED_AT_ONCE], capture_output=True, text=True, check=True
    )
    before, peak, after, new_peak = map(float, done.stdout.split())
    if peak < before + 32:
        pytest.skip("this kernel does not let the mark be reset")
    assert 60 <= peak - before <= 90
    assert after < before + 32 and new_peak < before + 32


def request(tiny_folder, data, source="predictor", **changes):
    return {
        "choice": {"model": str(tiny_folder), "engine": "onnxruntime", "threads": 1},
        "source": source,
        "options": {"asf.max_prompts": 3},
        "boxes": None,
        "images": [[str(data[0]), 0], [str(data[1]), 1]],
        **changes,
    }


def test_a_fresh_process_measures(tiny_folder, data, boxes_file):
    figures = probe(request(tiny_folder, data))
    assert 0 <= figures.prompt_mb < figures.run_mb < 2000
    assert (figures.device_prompt_mb, figures.device_run_mb) == (None, None)
    assert probe(request(tiny_folder, data, "boxes", boxes=str(boxes_file))).run_mb > 0


def test_a_process_that_fails_says_why(tiny_folder, data, tmp_path):
    with pytest.raises(InferenceError, match=r"could not be measured: .*needs boxes"):
        probe(request(tiny_folder, data, "boxes"))


def test_what_was_measured_is_not_measured_again(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        "aopsam_ros.evaluation.memory_store.probe",
        lambda r: asked.append(r["name"]) or MemoryFigures(1.0, float(len(asked))),
    )
    path = tmp_path / "memory.json"
    one, two = ({"name": name, "images": [["d", 0]]} for name in ("one", "two"))
    assert MemoryStore(path).measure({"a": one})["a"].run_mb == 1
    assert MemoryStore(path).measure({"a": one, "b": two})["b"].run_mb == 2
    assert asked == ["one", "two"]
    moved = one | {"images": [["d", 1]]}  # other photographs: measured again
    assert MemoryStore(path).measure({"a": moved})["a"].run_mb == 3
    path.write_text("{ damaged")
    assert MemoryStore(path).measure({"a": moved})["a"].run_mb == 4
