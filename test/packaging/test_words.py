"""The code, its messages and its documents use the field's words, one word for one thing."""

import re
from pathlib import Path

import pytest

PLACES = (
    "aopsam_ros", "benchmarks", "config", "docs", "examples", "include", "launch", "msg", "rviz",
    "scripts", "srv", "test", "Makefile", "README.md", "setup.py",
)  # fmt: skip
SUFFIXES = {"", ".hpp", ".md", ".msg", ".py", ".rviz", ".srv", ".toml", ".yaml"}

# What must not be written, and what is written instead.
WORDS = {
    r"(?i)decoder[_ ]calls?": "prompts_decoded, prompts decoded",
    r"\bDECODED\b": "PromptState.KEPT",
    r"\bEarlier\b": "PreviousPrompts",
    r"\bsuffices\b": "covers_frame; is enough",
    r"\bPace\b|\bpace\b": "TimeBudget",
    r"\bLately\b|\blately\b": "RecentTimes, recent",
    r"\bportions\b": "cost",
    r"(?i)\bpromising\b": "filter_by_iou, above the threshold",
    r"(?i)\bsurvivors?\b": "kept masks, build_instances",
    r"\bEvidence\b|\bevidence\b": "FilterContext",
    r"\blooks_of\b|\blikeness\b": "appearance, similarity",
    r"\bput_back\b": "pad_to_square",
    r"\bFitted\b": "ContentArea",
    r"def (draw|look|talk|think|around|told|tell|meet)\(": "encode_frame, self_attend, report",
    r"@told\b|\btold\b": "guarded_transition; given, called with, reported",
    r"\bAsking\b": "value_proj",
    r"class Written\b": "LowRankUpdate",
    r"(?i)\bmisfits?\b": "calibration_mismatch",
    r"(?i)\bknobs?\b": "hdbscan_params, options",
    r"(?i)\balike\b": "similar, equal, both",
    r"\b[Tt]rue (masks?|ones?|instances?)\b|(?<![Gg]round[- ])\b[Tt]ruths?\b": "ground truth",
    r"(?i)\bpictures?\b": "image; photograph only for photographs",
    r"(?i)\bverdicts?\b": "HealthRule",
    r"\bquality(=|: QoS| = QoS|\.reliability)": "qos",
    r"\b(joined|joins)\(": "merge, concatenated",
    r"\bcertain\b(?= =|\[|,)": "protected, unambiguous",
    r"\bproducts import\b|\bproducts\.matmul\b": "single_thread_matmul",
    r"monitoring[./](heap|stamps|quality)\b": "malloc, stamp_buffer, qos",
}


def texts(root):
    for place in PLACES:
        for file in sorted([root / place, *(root / place).rglob("*")]):
            if file.suffix in SUFFIXES and file.is_file() and file != Path(__file__).resolve():
                yield file.relative_to(root), file.read_text(encoding="utf-8").splitlines()


def occurrences(root, word):
    pattern = re.compile(word)
    return [
        f"{file}:{number}: {line.strip()}"
        for file, lines in texts(root)
        for number, line in enumerate(lines, 1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize(("word", "instead"), WORDS.items())
def test_private_words_stay_out(root, word, instead):
    assert occurrences(root, word) == [], f"write instead: {instead}"
