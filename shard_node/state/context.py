"""What an operation works with while it is applied: rows, time, and the way back."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from msgspec import structs

from shard_node.state.errors import TooLarge, VersionConflict
from shard_node.state.rows import Row, read, write
from shard_node.state.undo import Restore, Undo
from shard_node.state.views import Staged

R = TypeVar("R", bound=Row)

ROW_MAX_BYTES: Final = 64 << 10
REASON_MAX_CHARS: Final = 512


class Context:
    """One transaction's. ``lsn`` and ``at_ms`` (log time) are its own; ``actor_user`` and
    ``reason`` say on whose behalf, ``log`` is read for what is rolled back."""

    def __init__(
        self, view: Staged, log: Any, lsn: int, at_ms: int, *, user: int = 0, reason: str = ""
    ) -> None:
        self.view, self.log, self.lsn, self.at_ms = view, log, lsn, at_ms
        self.user, self.reason = user, reason
        self.undoes = 0
        self._undo: list[Undo] = []
        self._own_way: set[bytes] = set()

    def get(self, kind: type[R], key: bytes) -> R | None:
        """A row; None where there is none."""
        return read(kind, self.view.get(key))

    def put(self, key: bytes, row: Row, *, own_way: bool = False) -> int:
        """Write a row as the next version of what is there. Returns that version.

        ``own_way``: undone by an instruction of its own (``undo_by``), not by what was there.
        Raises TooLarge.
        """
        old = self.view.get(key)
        version = 1 + (0 if old is None else read_version(old))
        data = write(structs.replace(row, version=version, lsn=self.lsn))
        if len(data) > ROW_MAX_BYTES:
            text = f"a row of {len(data)} bytes; the limit is {ROW_MAX_BYTES}"
            raise TooLarge(text, size=len(data), limit=ROW_MAX_BYTES)
        self.put_raw(key, data, own_way=own_way)
        return version

    def put_raw(self, key: bytes, data: bytes | None, *, own_way: bool = False) -> None:
        """Write bytes, or (None) delete, as they are."""
        self.view.put(key, data)
        if own_way:
            self._own_way.add(key)

    def delete(self, key: bytes, *, own_way: bool = False) -> None:
        """Delete a row, if it is there."""
        if self.view.get(key) is not None:
            self.put_raw(key, None, own_way=own_way)

    def undo_by(self, instruction: Undo) -> None:
        """How to undo what was written with ``own_way``."""
        self._undo.append(instruction)

    def undo(self) -> tuple[Undo, ...]:
        """All that undoes the transaction: by instruction, and by what was there before."""
        view = self.view
        restores = [
            Restore(key, before, view.writes[key] is not None)
            for key, before in view.before.items()
            if key not in self._own_way and before != view.writes[key]
        ]
        return (*self._undo, *restores)


def read_version(data: bytes) -> int:
    """The version of any row."""
    found = read(Row, data)
    assert found is not None
    return found.version


def check_version(row: Row | None, if_version: int | None, what: str) -> None:
    """Raises VersionConflict where the row has not the version that was expected (0: none)."""
    found = 0 if row is None else row.version
    if if_version is not None and found != if_version:
        text = f"{what} has version {found}, not {if_version}"
        raise VersionConflict(text, found=found, expected=if_version)
