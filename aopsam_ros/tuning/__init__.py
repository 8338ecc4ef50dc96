"""Searching the options that suit a user's own scenes."""
