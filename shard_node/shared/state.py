"""The state as a whole: ``node.state``. Its log, rolling back, waiting for others, values."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Final

from shard_node.shared.backend import ASK_TIMEOUT_S, WRITE_TIMEOUT_S, Tx
from shard_node.shared.changes import ValueChanged
from shard_node.shared.log import LogPage, page_of
from shard_node.shared.sinks import Sink
from shard_node.shared.watch import Unwatch, Watcher, Watching
from shard_node.state.context import REASON_MAX_CHARS
from shard_node.state.errors import BadValue, ReasonRequired, UnknownTransaction
from shard_node.state.keys import Table, key_of
from shard_node.state.ops import APPLY
from shard_node.state.plain import check_plain
from shard_node.state.rollback import Rollback
from shard_node.state.rows import read
from shard_node.state.values import DeleteValue, SetValue, Value

LOG_LIMIT: Final = 100
LOG_LIMIT_MAX: Final = 1000
KINDS: Final = {kind.__name__: kind for kind in APPLY}
"""Operations by name, as records of the log and filters have them."""

Filter = str | Iterable[str] | Mapping[str, Any]


class SharedState:
    """The state. What is awaited raises StateError's children, and BrokerUnavailable,
    RequestTimeout or QueueFull (retryable)."""

    def __init__(self, sink: Sink, watching: Watching) -> None:
        self._sink, self._watching = sink, watching

    async def log(
        self,
        after: int | None = None,
        filter: Filter | None = None,
        *,
        limit: int = LOG_LIMIT,
    ) -> LogPage:
        """Records of the log after the lsn ``after``, or the newest ones, at most ``limit``.

        ``filter`` is the name of an operation ("Transfer"), several, or a map of ``kind``,
        ``user`` (who did it or whom it is about) and ``account``. Raises BadValue.
        """
        if not 1 <= limit <= LOG_LIMIT_MAX:
            raise BadValue(f"limit={limit}; it is 1 to {LOG_LIMIT_MAX}")
        kinds, user, account = _read_filter(filter)
        found = await self._sink.backend.read_log(
            after or 0, limit, newest=after is None, kinds=kinds, user=user, account=account
        )
        return page_of(found)

    def rollback(
        self, tx_id: int, reason: str, *, user: int = 0, force: bool = False
    ) -> Awaitable[Tx]:
        """Undo a transaction; of a rollback: do it again.

        ``force`` overwrites what is newer, and the result's ``"overwrote"`` names it. Raises
        ReasonRequired, UnknownTransaction, AlreadyUndone, NotUndoable, UndoConflict.
        """
        if not 0 < len(reason.strip()) <= REASON_MAX_CHARS:
            raise ReasonRequired("a rollback needs a reason")
        if type(tx_id) is not int or tx_id < 1:
            raise UnknownTransaction(f"there is no transaction {tx_id}")
        return self._sink.do(Rollback(tx_id, force), user=user, reason=reason)

    async def sync(self, lsn: int = 0, *, timeout_s: float = ASK_TIMEOUT_S) -> int:
        """Wait until reads of this process show the transaction ``lsn``, whoever made it; 0:
        all that is committed now. Returns the last lsn that they show at least.

        Raises RequestTimeout or BrokerUnavailable.
        """
        backend = self._sink.backend
        found = await backend.mark(lsn, timeout_s=timeout_s)
        if not lsn and found.lsn:
            found = await backend.mark(found.lsn, timeout_s=timeout_s)
        return found.lsn

    # --- named values, as ``shardctl state get|set|delete``

    def get(self, name: str, default: Any = None) -> Any:
        """A named value, as this process knows it."""
        row = read(Value, self._sink.backend.get(key_of(Table.VALUE, name)))
        return default if row is None else row.value

    def version(self, name: str) -> int:
        """How often it was set, for ``if_version``; 0 where there is none."""
        row = read(Value, self._sink.backend.get(key_of(Table.VALUE, name)))
        return 0 if row is None else row.version

    async def fetch(self, name: str, default: Any = None) -> Any:
        """A named value, as the broker has it now."""
        (data,) = await self._sink.backend.fetch((key_of(Table.VALUE, name),))
        row = read(Value, data)
        return default if row is None else row.value

    def set(
        self,
        name: str,
        value: Any,
        *,
        if_version: int | None = None,
        idempotency_key: str | None = None,
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> Awaitable[Tx]:
        """Keep plain data under a name. Raises BadName, BadValue, VersionConflict, TooLarge."""
        key_of(Table.VALUE, name)
        check_plain(value, name)
        return self._sink.do(
            SetValue(name, value, if_version),
            idempotency_key=idempotency_key,
            timeout_s=timeout_s,
        )

    def delete(self, name: str, *, if_version: int | None = None) -> Awaitable[Tx]:
        """Delete a named value. Raises NotThere, VersionConflict."""
        key_of(Table.VALUE, name)
        return self._sink.do(DeleteValue(name, if_version))

    def watch(self, handler: Watcher, name: str | None = None) -> Unwatch:
        """Call ``handler`` with each ValueChanged, of one name or of all."""
        wanted = {} if name is None else {"name": name}
        return self._watching(ValueChanged, handler, wanted)


def _read_filter(filter: Filter | None) -> tuple[tuple[str, ...], int, str]:
    if filter is None:
        return (), 0, ""
    if isinstance(filter, str):
        return _kinds((filter,)), 0, ""
    if not isinstance(filter, Mapping):
        return _kinds(filter), 0, ""
    unknown = set(filter) - {"kind", "user", "account"}
    if unknown:
        raise BadValue(f"a filter has kind, user and account, not {', '.join(sorted(unknown))}")
    kind = filter.get("kind") or ()
    user, account = filter.get("user") or 0, filter.get("account") or ""
    if type(user) is not int or not isinstance(account, str):
        raise BadValue(f"a filter's user is an id and its account a name, not {filter!r}")
    return _kinds((kind,) if isinstance(kind, str) else kind), user, account


def _kinds(names: Iterable[str]) -> tuple[str, ...]:
    found = tuple(names)
    for name in found:
        if name not in KINDS:
            raise BadValue(f"no operation is named {name!r}", hint=", ".join(KINDS))
    return found
