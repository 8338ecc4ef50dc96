"""Messages for users: the first line of any error."""

import pytest

from aopsam_ros.errors import first_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n  of one\nand more"), "of one"),
        (RuntimeError(), "RuntimeError"),
        (ValueError(" \n"), "ValueError"),
        (KeyError("model"), "'model'"),
    ],
)
def test_an_error_without_text_is_named_by_its_type(error, line):
    assert first_line(error) == line
