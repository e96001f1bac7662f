"""How long the state's log is kept and how often it is backed up: ``[state]`` of the settings,
and what ``fleet.json`` says of it to the broker (broker/config.py, ``StateEntry``).

    [state]
    keep_log = "90d"            # or "forever"
    keep_records = 10_000_000   # at most so many; 0: any number
    backup_every = "24h"        # or "never": then nothing is trimmed either
    backups = 3                 # so many stay
    backup_folder = "/mnt/backups"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

UNITS_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
LENGTH_MAX_MS: Final = 100 * 366 * UNITS_MS["d"]
FOREVER: Final = "forever"
NEVER: Final = "never"
BACKUP_EVERY_MIN_MS: Final = UNITS_MS["m"]
RECORDS_MIN: Final = 65_537
"""What the broker never trims (shard_node/state/trimming.py)."""
RECORDS_MAX: Final = 1 << 62
BACKUPS_MAX: Final = 1000
BACKUPS: Final = "backups"
"""The folder in the data folder where backups go that are given no place, as the broker has it
(broker/ports/backups.py)."""
_LENGTH: Final = re.compile(r"(?:[0-9]{1,6}[smhdw])+")
_PART: Final = re.compile(r"([0-9]+)([smhdw])")


def length_ms(text: Any) -> int:
    """``30d``, ``12h``, ``1d12h`` in ms; 0 for what is no length."""
    if not isinstance(text, str) or not _LENGTH.fullmatch(text):
        return 0
    total = sum(int(count) * UNITS_MS[unit] for count, unit in _PART.findall(text))
    return total if total <= LENGTH_MAX_MS else 0


def is_age(value: Any) -> bool:
    """Whether ``keep_log`` may be this."""
    return value == FOREVER or length_ms(value) > 0


def is_interval(value: Any) -> bool:
    """Whether ``backup_every`` may be this."""
    return value == NEVER or length_ms(value) >= BACKUP_EVERY_MIN_MS


def is_count(value: Any) -> bool:
    """Whether ``keep_records`` may be this."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole and (value == 0 or RECORDS_MIN <= value <= RECORDS_MAX)


def recorded(table: Mapping[str, Any], fleet: str, folder: Path) -> dict[str, Any]:
    """``[state]`` as the launch record has it; only what is set. ``folder``: what a relative
    ``backup_folder`` is relative to. Fleets may share one: each has a folder in it."""
    found: dict[str, Any] = {}
    if "keep_log" in table:
        found["log_ms"] = length_ms(table["keep_log"])
    if "keep_records" in table:
        found["records"] = table["keep_records"]
    if "backup_every" in table:
        found["backup_every_s"] = length_ms(table["backup_every"]) / 1000
    if "backups" in table:
        found["backups"] = table["backups"]
    if "backup_folder" in table:
        place = Path(table["backup_folder"]).expanduser()
        found["folder"] = str((folder / place / fleet).absolute())
    return found


def backup_folders(data_dir: Path, state: Mapping[str, Any]) -> list[Path]:
    """Where backups of a fleet may lie, by its launch record's ``state``."""
    own = data_dir / BACKUPS
    named = state.get("folder")
    return [own, Path(named)] if named else [own]
