"""What an operation works with while it is applied: rows, time, and the way back."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from msgspec import structs

from shard_node.state.errors import TooLarge, VersionConflict
from shard_node.state.keys import Table, gone_key, key_of, parse_key, swept_key
from shard_node.state.rows import Row, head, origin_of, read, stamped, write
from shard_node.state.undo import Restore, Undo, merged
from shard_node.state.views import Staged

R = TypeVar("R", bound=Row)

ROW_MAX_BYTES: Final = 64 << 10
REASON_MAX_CHARS: Final = 512
BY_GUILD: Final = (Table.MEMBER, Table.PERMISSION)
"""Tables whose rows are a user's as well, who is named second."""


class Context:
    """One transaction's. ``lsn`` and ``at_ms`` (log time) are its own; ``actor_user`` and
    ``reason`` say on whose behalf, ``log`` is read for what is rolled back. ``minted`` is the
    money that it creates less what it destroys; what sets ``final`` cannot be rolled back."""

    def __init__(
        self, view: Staged, log: Any, lsn: int, at_ms: int, *, user: int = 0, reason: str = ""
    ) -> None:
        self.view, self.log, self.lsn, self.at_ms = view, log, lsn, at_ms
        self.user, self.reason = user, reason
        self.undoes = self.minted = 0
        self.final = False
        self._undo: list[Undo] = []
        self._own_way: set[bytes] = set()

    def get(self, kind: type[R], key: bytes) -> R | None:
        """A row; None where there is none."""
        return read(kind, self.view.get(key))

    def put(self, key: bytes, row: Row, *, own_way: bool = False) -> int:
        """Write a row as the next version of what is, or was, there. Returns that version.

        ``own_way``: undone by an instruction of its own (``undo_by``) or not at all, and so in
        every transaction that writes this row; not by what was there. The versions of such a
        row begin anew after a deletion. Raises TooLarge.
        """
        old = self.view.get(key)
        may_be_gone = old is None and not own_way
        before = self.version(key) if may_be_gone else 0 if old is None else head(old)[0]
        version = before + 1
        data = write(structs.replace(row, version=version, lsn=self.lsn, origin=self.lsn))
        if len(data) > ROW_MAX_BYTES:
            raise _too_large(data)
        if may_be_gone:
            self._bury(key, None)
        self.put_raw(key, data, own_way=own_way)
        return version

    def put_own(self, key: bytes, row: Row) -> None:
        """Write a row as it is, ``own_way``: its maker read the one before and counted on.
        Raises TooLarge."""
        data = write(row)
        if len(data) > ROW_MAX_BYTES:
            raise _too_large(data)
        self.view.put(key, data)
        self._own_way.add(key)

    def put_raw(self, key: bytes, data: bytes | None, *, own_way: bool = False) -> None:
        """Write bytes, or (None) delete, as they are: nothing tells later that it was there."""
        if key[1] in BY_GUILD and data is not None and self.view.get(key) is None:
            self.put_raw(index_key(key), b"", own_way=True)
        self.view.put(key, data)
        if own_way:
            self._own_way.add(key)

    def delete(self, key: bytes) -> None:
        """Delete a row, if it is there. Its version is kept: a new one continues from it."""
        if self.view.get(key) is not None:
            self._vacate(key, self.version(key), self.lsn)

    def version(self, key: bytes) -> int:
        """Of what is there, or of what was deleted there; where nothing tells that, no lower than
        any that was there, and 0 where never was anything."""
        get = self.view.get
        row = get(key) or get(gone_key(key)) or get(swept_key(key))
        return 0 if row is None else head(row)[0]

    def origin(self, key: bytes) -> int:
        """The transaction that decided what is there, or that nothing is; 0: none did."""
        row = self.view.get(key) or self.view.get(gone_key(key))
        return 0 if row is None else origin_of(row)

    def changed_by(self, key: bytes) -> int:
        """The last transaction that changed what is there; 0 where nothing tells it."""
        row = self.view.get(key) or self.view.get(gone_key(key))
        return 0 if row is None else head(row)[1]

    def restore(self, how: Restore) -> None:
        """Put back what was there, as the next version, with the origin that it had."""
        version = self.version(how.key)
        if how.before is None:
            self._vacate(how.key, version, how.gone)
            return
        version = max(version, head(how.before)[0]) + 1
        self._bury(how.key, None)
        self.put_raw(how.key, stamped(how.before, version, self.lsn))

    def undo_by(self, instruction: Undo) -> None:
        """How to undo what was written with ``own_way``."""
        self._undo.append(instruction)

    def undo(self) -> tuple[Undo, ...]:
        """All that undoes the transaction: by instruction, and by what was there before."""
        if self.final:
            return ()
        found = merged(self._undo)
        before, own_way = self.view.before, self._own_way
        if len(before) > len(own_way) or not before.keys() <= own_way:
            for key, row in before.items():
                how = None if key in own_way else self._restoring(key, row)
                if how is not None:
                    found.append(how)
        return tuple(found)

    def _restoring(self, key: bytes, before: bytes | None) -> Restore | None:
        """How to undo what became of a row; None where nothing did.

        A row that was made and deleted at once is as absent as before, and yet decided anew.
        """
        gone = 0 if before is not None else self._was_gone(key)
        left = self.origin(key)
        if before == self.view.writes[key] and (before is not None or left == gone):
            return None
        return Restore(key, before, left, gone)

    def _vacate(self, key: bytes, version: int, origin: int) -> None:
        self._bury(key, write(Row(version, self.lsn, origin)))
        self.put_raw(key, None)

    def _bury(self, key: bytes, mark: bytes | None) -> None:
        place = gone_key(key)
        if mark is not None or self.view.get(place) is not None:
            self.put_raw(place, mark, own_way=True)

    def _was_gone(self, key: bytes) -> int:
        place = gone_key(key)
        mark = self.view.before[place] if place in self.view.before else self.view.get(place)
        return 0 if mark is None else origin_of(mark)


def remember(context: Context, what: str) -> None:
    """Put the transaction into the history of a user."""
    context.view.put_new(key_of(Table.HISTORY, what, context.lsn), b"")


def _too_large(data: bytes) -> TooLarge:
    text = f"a row of {len(data)} bytes; the limit is {ROW_MAX_BYTES}"
    return TooLarge(text, size=len(data), limit=ROW_MAX_BYTES)


def index_key(key: bytes) -> bytes:
    """Where it is noted of the user that this row of ``BY_GUILD`` is, or was, there."""
    table, parts = parse_key(key)
    return key_of(Table.OF_USER, parts[1], int(table), parts[0])


def check_version(row: Row | None, if_version: int | None, what: str) -> None:
    """Raises VersionConflict where the row has not the version that was expected (0: none)."""
    found = 0 if row is None else row.version
    if if_version is not None and found != if_version:
        text = f"{what} has version {found}, not {if_version}"
        raise VersionConflict(text, found=found, expected=if_version)
