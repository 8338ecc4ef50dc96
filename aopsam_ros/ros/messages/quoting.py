"""Text from a message, as it may stand in a log: in one line, and short."""

_LONGEST = 40


def quoted(text: str) -> str:
    """Return it in quotes, line breaks and the like as escapes, and not all of it if it is long."""
    return repr(text[:_LONGEST])
