"""What `aopsam segment` consists of: its inputs, an image, frames in a row, a cluster."""
