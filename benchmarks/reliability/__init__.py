"""Faults, churn and load for a live node: long runs here, short ones in test/reliability.

Run in the repository: `python -m benchmarks.reliability.fuzz --count 10000`.
"""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
# The tests' own robot, which starts the node and talks to it, and their bundle; a plain node.
_FOLDERS = ("test", "benchmarks")
sys.path += [folder for name in _FOLDERS if (folder := str(_ROOT / name)) not in sys.path]
