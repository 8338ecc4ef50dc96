"""Where prompts come from, and which of them need not be decoded."""
