"""Images of files, recordings and messages as RGB arrays, and back."""
