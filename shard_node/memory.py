"""How much memory this process holds."""

from __future__ import annotations

import os
from pathlib import Path

_STATM = Path("/proc/self/statm")
_RESIDENT_FIELD = 1
"""proc(5), /proc/pid/statm: size, resident, shared, text, lib, data, dt; in pages."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def rss_bytes() -> int:
    """The resident set in bytes. psutil is loaded only where there is no /proc."""
    try:
        return int(_STATM.read_bytes().split()[_RESIDENT_FIELD]) * _PAGE_BYTES
    except OSError:
        return _rss_elsewhere()


def _rss_elsewhere() -> int:
    import psutil  # type: ignore[import-untyped,unused-ignore]

    return int(psutil.Process().memory_info().rss)
