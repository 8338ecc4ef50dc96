"""What of a graph needs 32 bits where the rest runs in 16 or 8: one rule for all engines."""

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
INT8 = "int8"
# What a graph in 8 bits has in 8 bits: convolutions, and what lies between them.
EIGHT_BITS = ("Conv", "Clip", "Relu", "Add")
# But for the first ones, whose rounding all others inherit: in 32 bits they cost no time that could
# be measured, and `nano`'s embedding has a quarter of the error.
FULL_FIRST_CONVOLUTIONS = 3
