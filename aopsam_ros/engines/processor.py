"""What this machine's processor can do, as Linux reports it; elsewhere nothing is assumed."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# Instructions that multiply and add four 8-bit numbers at once: x86's VNNI, Arm's dot products.
INT8_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})


def has_amx(cpuinfo: Path = CPUINFO) -> bool:
    """Return whether the processor multiplies tiles in bf16."""
    return "amx_bf16" in _flags(cpuinfo)


def has_int8_dot_products(cpuinfo: Path = CPUINFO) -> bool:
    """Return whether the processor multiplies 8-bit numbers faster than floats."""
    return not INT8_DOT_PRODUCTS.isdisjoint(_flags(cpuinfo))


def _flags(cpuinfo: Path) -> list[str]:
    try:
        return cpuinfo.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return []
