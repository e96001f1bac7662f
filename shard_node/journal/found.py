"""Which shards can RESUME at a fresh start: their journals, looked at from outside.

Only the beginning of each newest segment is read. What it promises may fail; the permit that
an IDENTIFY needs is counted against the budget in any case.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import msgspec

from shard_node.journal.frames import FRAME_HEAD_BYTES, RECORD
from shard_node.journal.place import generation
from shard_node.journal.records import READABLE, Head, Kind

FOLDER: Final = "journal"
"""In the data folder; the launcher gives nodes the same."""
_LOOKED_AT_BYTES: Final = 4096
_head: Final = msgspec.msgpack.Decoder(Head)


def resumable(
    folder: Path, boot_id: str, application: str, max_age_s: float
) -> dict[int, frozenset[int]]:
    """By shard count: the shards of this application that have a session to RESUME."""
    found: dict[int, set[int]] = {}
    for path in sorted(folder.glob("*-*")):
        head = _newest(path, max_age_s)
        if head is None or not head.num_shards:
            continue  # of a guild that is away from its shard
        if (head.boot_id, head.application) == (boot_id, application):
            found.setdefault(head.num_shards, set()).add(head.shard)
    return {count: frozenset(shards) for count, shards in found.items()}


def _newest(folder: Path, max_age_s: float) -> Head | None:
    """Who wrote a journal's newest segment, if it is young and has a session."""
    try:
        path = max(folder.iterdir(), key=generation, default=None)
        if path is None or not generation(path):
            return None
        with path.open("rb") as file:
            age_s = time.time() - os.fstat(file.fileno()).st_mtime
            data = file.read(_LOOKED_AT_BYTES)
        return _session_of(data) if age_s <= max_age_s else None
    except (OSError, msgspec.MsgspecError, ValueError):
        return None


def _session_of(data: bytes) -> Head | None:
    """The HEAD, where a SESSION follows it: a process that was never ready wrote none."""
    at = FRAME_HEAD_BYTES + RECORD.size
    if len(data) < at:
        return None
    kind, _, size = RECORD.unpack_from(data, FRAME_HEAD_BYTES)
    if kind != Kind.HEAD or len(data) < at + size + RECORD.size:
        return None
    head = _head.decode(data[at : at + size])
    after = RECORD.unpack_from(data, at + size)[0]
    return head if after == Kind.SESSION and head.schema in READABLE else None
