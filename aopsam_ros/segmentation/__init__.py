"""From an image to its masks: encoding, prompts, decoding in rounds, masks."""
