"""Model bundles on disk: what they say of themselves, their graphs and what those take."""
