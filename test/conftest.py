"""What all tests share: the repository's root."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder with package.xml."""
    return Path(__file__).resolve().parents[1]
