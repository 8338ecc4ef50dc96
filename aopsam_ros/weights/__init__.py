"""Published weights: the table of them, and fetching them into the user's cache, checked."""
