"""Memory that is left on this machine: the broker asks before it starts a second process."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_KIB: Final = 1024
_MEMINFO: Final = Path("/proc/meminfo")
_CGROUP: Final = Path("/proc/self/cgroup")
_CGROUP_ROOT: Final = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """Memory that can be had without swapping, and what the cgroup leaves; None: not known."""
    found = [meminfo_bytes(_text(_MEMINFO)), cgroup_bytes(_text(_CGROUP), _CGROUP_ROOT)]
    return min((value for value in found if value is not None), default=None)


def meminfo_bytes(text: str) -> int | None:
    """MemAvailable of /proc/meminfo (proc(5)), in bytes."""
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * _KIB
    return None


def cgroup_bytes(text: str, root: Path) -> int | None:
    """What the narrowest limit of our cgroup or one above it leaves; ``text``: /proc/self/cgroup.

    Version 2: memory.max less memory.current. Version 1 has the names limit_in_bytes and
    usage_in_bytes; a limit that is none is larger than any memory.
    """
    found: list[int] = []
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += _left(root, path, "memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base = root / "memory"
            found += _left(base, path, "memory.limit_in_bytes", "memory.usage_in_bytes")
    return min(found, default=None)


def _left(root: Path, path: str, limit: str, usage: str) -> list[int]:
    folder = root / path.lstrip("/")
    folders = [f for f in (folder, *folder.parents) if f == root or root in f.parents]
    pairs = [(_text(f / limit).strip(), _text(f / usage).strip()) for f in folders]
    return [max(0, int(most) - int(used)) for most, used in pairs if _both(most, used)]


def _both(most: str, used: str) -> bool:
    return most.isdecimal() and used.isdecimal()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
