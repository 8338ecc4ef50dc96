"""What this machine's processor can do, as Linux reports it; elsewhere nothing is assumed."""

import os
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# Instructions that multiply and add four 8-bit numbers at once: x86's VNNI, Arm's dot products.
INT8_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})
BF16_PRODUCTS = frozenset({"avx512_bf16", "amx_bf16"})


def has_amx(cpuinfo: Path = CPUINFO) -> bool:
    """Return whether the processor multiplies tiles in bf16."""
    return "amx_bf16" in _flags(cpuinfo)


def has_bf16_products(cpuinfo: Path = CPUINFO) -> bool:
    """Return whether the processor multiplies bf16 faster than floats, in tiles or vectors."""
    return not BF16_PRODUCTS.isdisjoint(_flags(cpuinfo))


def has_int8_dot_products(cpuinfo: Path = CPUINFO) -> bool:
    """Return whether the processor multiplies 8-bit numbers faster than floats."""
    return not INT8_DOT_PRODUCTS.isdisjoint(_flags(cpuinfo))


def available_cores() -> int:
    """Return how many of the processor's cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_processor() -> str:
    """Name the processor and how many cores this process may use."""
    lines = CPUINFO.read_text(encoding="utf-8").splitlines() if CPUINFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {available_cores()} cores"


def _flags(cpuinfo: Path) -> list[str]:
    try:
        return cpuinfo.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return []
