"""Weights and inputs made of names and shapes: the same ones on every machine, for ever.

Only the raw bits of numpy's PCG64 are used: they are guaranteed to stay as they are, other than the
distributions that are drawn from them, in numpy and in torch.
"""

import hashlib
from pathlib import Path

import numpy as np

TENSORS = Path(__file__).with_name("mobile_sam_tensors.txt")
UNIT = 3.0**0.5  # uniform between -UNIT and UNIT has variance 1
# Tensors that are looked up or added, not multiplied with.
TABLES = (
    "point_embeddings.", "not_a_point_embed", "no_mask_embed", "iou_token.", "mask_tokens.",
    "gaussian_matrix", "attention_biases",
)  # fmt: skip


def uniform(name, shape, low=0.0, high=1.0):
    """Draw float32 numbers; another name gives other ones."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape))).reshape(shape)
    return (low + (high - low) * (raw >> np.uint64(11)) * 2.0**-53).astype(np.float32)


def published_shapes():
    """Read the names and shapes of the published checkpoint's tensors, in its order."""
    lines = TENSORS.read_text().splitlines()
    return {name: tuple(map(int, sizes)) for name, *sizes in (line.split() for line in lines)}


def random_tensor(name, shape):
    """Draw a tensor so that activations keep a size of about one, and nothing is left at 0 or 1."""
    if name.endswith("num_batches_tracked"):
        return np.array(0, np.int64)
    if name.endswith("running_var"):
        return uniform(name, shape, 0.5, 1.5)
    noise = uniform(name, shape, -UNIT, UNIT)
    if len(shape) == 1:
        return 0.1 * noise + np.float32(name.endswith(".weight"))  # a norm's, or a bias
    if any(part in name for part in TABLES):
        return noise
    return noise / np.sqrt(np.prod(shape[1:]), dtype=np.float32)


def random_state(shapes=None):
    """Return a state dict of float32 numpy arrays, of the published shapes by default."""
    shapes = published_shapes() if shapes is None else shapes
    return {name: random_tensor(name, shape) for name, shape in shapes.items()}
