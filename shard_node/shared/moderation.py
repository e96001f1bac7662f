"""Bans, recorded in one order for the whole fleet: ``node.moderation``.

A scope is ``"global"`` or a guild's id. Nothing here bans anybody on Discord: who does that
listens to BanChanged.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime

import msgspec

from shard_node.shared.backend import Tx
from shard_node.shared.changes import BanChanged
from shard_node.shared.log import LOG_LIMIT_MAX, LogPage, page_of
from shard_node.shared.sinks import Sink
from shard_node.shared.watch import Unwatch, Watcher, Watching
from shard_node.state import arguments, moderation
from shard_node.state.keys import Table, parse_key, prefix_of
from shard_node.state.rows import read

HISTORY_LIMIT = 50


class BanInfo(msgspec.Struct, frozen=True):
    """A ban that stands. ``by`` is a user's id, 0 for nobody; ``since`` and ``until`` are
    seconds since the epoch, ``until`` None for ever."""

    scope: int | str
    reason: str
    by: int
    since: float
    until: float | None


class Moderation:
    """Bans. Changes raise StateError's children, and BrokerUnavailable, RequestTimeout or
    QueueFull (retryable)."""

    def __init__(self, sink: Sink, watching: Watching) -> None:
        self._sink, self._watching = sink, watching

    def ban(
        self,
        user_id: int,
        scope: int | str,
        reason: str,
        until: datetime | float | None = None,
        *,
        by: int = 0,
    ) -> Awaitable[Tx]:
        """Ban a user until ``until`` (a datetime with a zone, or seconds since the epoch; None:
        for ever). ``by`` is who does it. Raises BadName, BadValue, ReasonRequired."""
        arguments.needed_reason(reason, "a ban")
        moderation.ban_key(user_id, scope)
        until_ms = self._sink.backend.clock.until_ms(until) or moderation.FOREVER_MS
        op = moderation.BanUser(user_id, scope, reason, until_ms)
        return self._sink.do(op, user=by, reason=reason)

    def unban(
        self, user_id: int, scope: int | str, reason: str = "", *, by: int = 0
    ) -> Awaitable[Tx]:
        """Lift a ban. Raises BadName, NotThere."""
        moderation.ban_key(user_id, scope)
        op = moderation.UnbanUser(user_id, scope, arguments.reason(reason))
        return self._sink.do(op, user=by, reason=reason)

    def is_banned(self, user_id: int, scope: int | str = moderation.EVERYWHERE) -> bool:
        """Whether the user is banned there, as this process knows it: in a guild by its own ban
        or by a global one."""
        return self.get(user_id, scope) is not None

    def get(self, user_id: int, scope: int | str = moderation.EVERYWHERE) -> BanInfo | None:
        """The ban that keeps the user out, as this process knows it."""
        backend = self._sink.backend
        for where, key in _keys(user_id, scope).items():
            found = self._info(where, backend.get(key))
            if found is not None:
                return found
        return None

    async def fetch(self, user_id: int, scope: int | str = moderation.EVERYWHERE) -> BanInfo | None:
        """As ``get``, as the broker has it now."""
        keys = _keys(user_id, scope)
        rows = await self._sink.backend.fetch(tuple(keys.values()))
        found = (self._info(where, row) for where, row in zip(keys, rows, strict=True))
        return next((ban for ban in found if ban is not None), None)

    async def history(
        self, user_id: int, *, after: int | None = None, limit: int = HISTORY_LIMIT
    ) -> LogPage:
        """The newest bans and unbans of a user, oldest first; with ``after``, the first ones
        behind that record of the log (0: from the beginning). What was trimmed from the log is
        not there. Raises BadName, BadValue.
        """
        arguments.id_of(user_id, "user_id")
        arguments.limit(limit, LOG_LIMIT_MAX)
        start = 0 if after is None else arguments.place(after, "after")
        backend = self._sink.backend
        prefix = prefix_of(Table.HISTORY, f"user:{user_id}")
        lsns = [int(parse_key(key)[1][1]) async for key, _ in backend.fetch_all(prefix)]
        log = await backend.read_log(0, 1, newest=True)
        there = [lsn for lsn in lsns if lsn > start and lsn >= log.first]
        wanted = there[-limit:] if after is None else there[:limit]
        found = [page_of(await backend.read_log(lsn - 1, 1)) for lsn in wanted]
        # One that is trimmed meanwhile is answered with the next one that is left.
        records = [page[0] for lsn, page in zip(wanted, found, strict=True) if _is(page, lsn)]
        read_to = wanted[-1] if wanted else start
        return LogPage(records, read_to, log.first, log.last, len(wanted) < len(there))

    def watch(self, handler: Watcher, user_id: int | None = None) -> Unwatch:
        """Call ``handler`` with each BanChanged, of one user or of all."""
        wanted = {} if user_id is None else {"user": arguments.id_of(user_id, "user_id")}
        return self._watching(BanChanged, handler, wanted)

    def _info(self, scope: int | str, data: bytes | None) -> BanInfo | None:
        clock, ban = self._sink.backend.clock, read(moderation.Ban, data)
        if ban is None or not moderation.stands(ban, clock.at_ms()):
            return None
        forever = ban.until_ms == moderation.FOREVER_MS
        until = None if forever else clock.wall_s(ban.until_ms)
        return BanInfo(scope, ban.reason, ban.by, ban.since_ms / 1000, until)


def _keys(user_id: int, scope: int | str) -> dict[int | str, bytes]:
    """Where the bans lie that keep him out there, a global one first. Raises BadName."""
    key = moderation.ban_key(user_id, scope)
    return {moderation.EVERYWHERE: moderation.ban_key(user_id, moderation.EVERYWHERE)} | {
        scope: key
    }


def _is(page: LogPage, lsn: int) -> bool:
    return bool(page) and page[0].id == lsn
