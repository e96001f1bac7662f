"""The state as a whole: ``node.state``. Its log, rolling back, waiting for others, values."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Final

from shard_node.shared.backend import ASK_TIMEOUT_S, WRITE_TIMEOUT_S, Tx
from shard_node.shared.changes import ValueChanged
from shard_node.shared.log import LOG_LIMIT_MAX, LogPage, page_of
from shard_node.shared.sinks import Sink
from shard_node.shared.watch import Unwatch, Watcher, Watching
from shard_node.state import arguments
from shard_node.state.errors import BadValue
from shard_node.state.keys import Table, key_of
from shard_node.state.ops import KINDS, kind_of
from shard_node.state.plain import check_plain
from shard_node.state.rollback import Rollback
from shard_node.state.rows import read
from shard_node.state.values import DeleteValue, SetValue, Value

LOG_LIMIT: Final = 100
_FILTERS: Final = ("kind", "user", "account")
_FILTER_HINT: Final = "an operation's name, several, or {'kind': ..., 'user': ID, 'account': NAME}"

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

        ``filter`` is the name of an operation ("Transfer", in any case), several, or a map of
        ``kind``, ``user`` (who did it or whom it is about) and ``account``. Raises BadValue.
        """
        arguments.limit(limit, LOG_LIMIT_MAX)
        start = 0 if after is None else arguments.place(after, "after")
        kinds, user, account = _read_filter(filter)
        found = await self._sink.backend.read_log(
            start, limit, newest=after is None, kinds=kinds, user=user, account=account
        )
        return page_of(found)

    def rollback(
        self, tx_id: int, reason: str, *, user: int = 0, force: bool = False
    ) -> Awaitable[Tx]:
        """Undo a transaction; of a rollback: do it again.

        ``force`` overwrites what is newer, and the result's ``"overwrote"`` names it. Raises
        ReasonRequired, UnknownTransaction, AlreadyUndone, NotUndoable, UndoConflict.
        """
        arguments.needed_reason(reason, "a rollback")
        op = Rollback(arguments.transaction_id(tx_id), arguments.flag(force, "force"))
        return self._sink.do(op, user=user, reason=reason)

    async def sync(self, lsn: int = 0, *, timeout_s: float = ASK_TIMEOUT_S) -> int:
        """Wait until reads of this process show the transaction ``lsn``, whoever made it; 0:
        all that is committed now. Returns the last lsn that they show at least.

        Raises RequestTimeout, BrokerUnavailable, BadValue.
        """
        arguments.place(lsn, "lsn")
        arguments.timeout(timeout_s)
        backend = self._sink.backend
        found = await backend.mark(lsn, timeout_s=timeout_s)
        if not lsn and found.lsn:
            found = await backend.mark(found.lsn, timeout_s=timeout_s)
        return found.lsn

    # --- named values, as ``shardctl state get|set|delete``

    def get(self, name: str, default: Any = None) -> Any:
        """A named value, as this process knows it."""
        row = read(Value, self._sink.backend.get(_key(name)))
        return default if row is None else row.value

    def version(self, name: str) -> int:
        """How often it was set, for ``if_version``; 0 where there is none."""
        row = read(Value, self._sink.backend.get(_key(name)))
        return 0 if row is None else row.version

    async def fetch(self, name: str, default: Any = None) -> Any:
        """A named value, as the broker has it now."""
        (data,) = await self._sink.backend.fetch((_key(name),))
        row = read(Value, data)
        return default if row is None else row.value

    def set(
        self,
        name: str,
        value: Any,
        *,
        if_version: int | None = None,
        idempotency_key: str | int | None = None,
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> Awaitable[Tx]:
        """Keep plain data under a name. Raises BadName, BadValue, VersionConflict, TooLarge."""
        _key(name)
        check_plain(value, name)
        arguments.if_version(if_version)
        return self._sink.do(
            SetValue(name, value, if_version),
            idempotency_key=idempotency_key,
            timeout_s=timeout_s,
        )

    def delete(self, name: str, *, if_version: int | None = None) -> Awaitable[Tx]:
        """Delete a named value. Raises NotThere, VersionConflict."""
        _key(name)
        return self._sink.do(DeleteValue(name, arguments.if_version(if_version)))

    def watch(self, handler: Watcher, name: str | None = None) -> Unwatch:
        """Call ``handler`` with each ValueChanged, of one name or of all."""
        wanted = {} if name is None else {"name": arguments.name_of(name, "name")}
        return self._watching(ValueChanged, handler, wanted)


def _key(name: str) -> bytes:
    return key_of(Table.VALUE, arguments.name_of(name, "name"))


def _read_filter(filter: Filter | None) -> tuple[tuple[str, ...], int, str]:
    if filter is None:
        return (), 0, ""
    if isinstance(filter, str):
        return _kinds((filter,)), 0, ""
    if not isinstance(filter, Mapping):
        return _kinds(filter), 0, ""
    unknown = [name for name in filter if name not in _FILTERS]
    if unknown:
        raise BadValue(f"a filter has no {arguments.shown(unknown[0])}", hint=_FILTER_HINT)
    kind = filter.get("kind") or ()
    user, account = filter.get("user"), filter.get("account")
    return (
        _kinds((kind,) if isinstance(kind, str) else kind),
        0 if user is None else arguments.actor(user),
        "" if account is None else arguments.account(account),
    )


def _kinds(names: Any) -> tuple[str, ...]:
    if isinstance(names, bytes) or not isinstance(names, Iterable):
        raise BadValue(f"{arguments.shown(names)} is no filter", hint=_FILTER_HINT)
    found: list[str] = []
    for name in names:
        kind = kind_of(name) if isinstance(name, str) else None
        if kind is None:
            text = f"no operation is named {arguments.shown(name)}"
            raise BadValue(text, hint=", ".join(KINDS))
        found.append(kind)
    return tuple(found)
