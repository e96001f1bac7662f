"""What this process wrote and the state's file does not show yet.

The broker answers when a transaction is durable, which is some milliseconds before the file
shows it. Its answer has the rows, so that a process reads what it wrote at once. Most are never
read before the file shows them: answers are kept as they came, and looked into when one is.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from shard_node.errors import ShardNodeError
from shard_node.shared.reader import Reader
from shard_node.state.views import merged

LOOKED_S: Final = 0.05
"""How often it is looked whether the file has caught up, while something is kept."""
KEPT_MAX: Final = 65_536

_rows: Final = msgspec.msgpack.Decoder(dict[bytes, bytes | None])


class OwnRows:
    """A ``Reads`` over a reader's. ``empty`` is called when the file shows all of it.

    It is changed in the loop's thread; any thread may read it.
    """

    def __init__(self, reader: Reader, empty: Callable[[], None]) -> None:
        self._reader, self._empty = reader, empty
        self._rows: dict[bytes, tuple[int, bytes | None]] = {}
        self._unread: deque[tuple[int, bytes]] = deque()
        """Of answers that nobody has looked into."""
        self._looking = threading.Lock()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def full(self) -> bool:
        """Whether no more may be kept."""
        return len(self._rows) + len(self._unread) >= KEPT_MAX

    def add(self, lsn: int, rows: bytes) -> None:
        """What the transaction ``lsn`` of this process wrote, as its outcome says it."""
        self._unread.append((lsn, rows))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOKED_S, self._look)

    def get(self, key: bytes) -> bytes | None:
        """The newest row that this process may know. Raises StoreDamaged."""
        if self._unread:
            self._look_into()
        mine = self._rows.get(key)
        if mine is None or self._reader.mark().lsn >= mine[0]:
            return self._reader.get(key)
        return mine[1]

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """In order. Raises StoreDamaged."""
        if self._unread:
            self._look_into()
        shown = self._reader.mark().lsn
        writes = {
            key: row
            for key, (lsn, row) in list(self._rows.items())  # the loop's thread may add meanwhile
            if lsn > shown and key.startswith(prefix)
        }
        return merged(self._reader, writes, prefix, after)

    def clear(self) -> None:
        """The file is another one, and will not show what was kept."""
        with self._looking:
            self._unread.clear()
            self._rows.clear()
        self.close()

    def close(self) -> None:
        """The loop ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        with contextlib.suppress(ShardNodeError):  # it cannot be read now: perhaps the next time
            shown = self._reader.mark().lsn
            with self._looking:
                self._rows = {key: mine for key, mine in self._rows.items() if mine[0] > shown}
                while self._unread and self._unread[0][0] <= shown:
                    self._unread.popleft()
        if self._rows or self._unread:
            self._timer = asyncio.get_running_loop().call_later(LOOKED_S, self._look)
        else:
            self._empty()

    def _look_into(self) -> None:
        """An answer is taken away once its rows are there: other threads read as well."""
        with self._looking:
            rows, unread = self._rows, self._unread
            while unread:
                lsn, data = unread[0]
                with contextlib.suppress(msgspec.MsgspecError):  # then the file shows it later
                    for key, row in _rows.decode(data).items():
                        known = rows.get(key)
                        if known is None or known[0] < lsn:
                            rows[key] = (lsn, row)
                unread.popleft()
