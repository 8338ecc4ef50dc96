"""Faults, churn and load for a live node: long runs here, short ones in test/reliability.

Run in the repository: `python -m benchmarks.reliability.fuzz --count 10000`.
"""

import sys
from pathlib import Path

# The tests' own robot, which starts the node and talks to it, and their bundle.
_TESTS = Path(__file__).resolve().parents[2] / "test"
sys.path += [folder for name in ("ros", "core") if (folder := str(_TESTS / name)) not in sys.path]
