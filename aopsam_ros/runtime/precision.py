"""What of a graph needs 32 bits where the rest runs in 16: one rule for all engines."""

from __future__ import annotations

# Norms and sums overflow or lose digits in 16 bits, and places to pick values at are coordinates;
# the others take or make 32 bits by definition.
FULL_PRECISION = frozenset(
    {
        "LayerNormalization", "InstanceNormalization", "GroupNormalization", "Softmax",
        "ReduceMean", "ReduceSum", "Pow", "Exp", "Log", "Sin", "Cos",
        "Cast", "ConstantOfShape", "Range", "Resize", "GridSample",
    }
)  # fmt: skip
# At 1024 pixels, 16 bits are a raster of half a pixel: these inputs, and what is made of them
# alone, stay as they are.
PROMPTS = ("point_coords", "point_labels")
