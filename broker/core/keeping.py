"""How long the state's log is kept, how often it is backed up, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

KEEPING_NOTE: Final = "keeping"
"""Under which name ``Kept`` lies beside rows and log."""
TRIMMED: Final = -2
"""The token of a commit that trimmed a piece of the log."""
DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Keeping:
    """The operator's ``[state]``. ``log_ms`` 0: records are never too old; ``records`` 0: never
    too many; ``backup_every_s`` 0: no backups, and so nothing is trimmed by itself."""

    log_ms: int = 90 * DAY_MS
    records: int = 10_000_000
    backup_every_s: float = 86_400.0
    backups: int = 3
    folder: str = ""


class LastBackup(NamedTuple):
    """A copy that was verified: where, of which moment of the log (``at_ms``: log time,
    ``made_at_s``: wall time), how large, and whether the log was replayed to prove its rows."""

    folder: str
    lsn: int
    digest: str
    at_ms: int
    made_at_s: float
    size_bytes: int
    replayed: bool = False


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """What is remembered over restarts. ``ran_ms`` is the log time less the stops that were too
    long to be believed; ``as_of_ms`` the log time at which that was so."""

    last: LastBackup | None = None
    ran_ms: int = 0
    as_of_ms: int = 0


@dataclass(slots=True)
class KeepingFigures:
    """For `status`. ``doing``: "", "backup" or "trimming"; ``runs`` counts the backups that
    ended since the broker's start, well or not; ``error`` is why the last one did not."""

    doing: str = ""
    runs: int = 0
    trimmed: int = 0
    next_at: float | None = None
    error: str = ""
    hint: str = ""

    def plain(self, kept: Kept, now: float) -> dict[str, Any]:
        """As `status --json` has it."""
        last = kept.last
        return {
            "doing": self.doing,
            "runs": self.runs,
            "trimmed_records": self.trimmed,
            "next_in_s": None if self.next_at is None else round(max(0.0, self.next_at - now), 3),
            "error": self.error,
            "hint": self.hint,
            "last": None if last is None else last._asdict(),
        }


def read_kept(data: bytes | None) -> Kept:
    """What a note says; nothing where there is none. Raises msgspec.MsgspecError."""
    return Kept() if data is None else _decoder.decode(data)


def write_kept(kept: Kept) -> bytes:
    """The note's bytes."""
    return _encode(kept)


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Kept)
