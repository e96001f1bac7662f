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
from shard_node.shared.log import LogPage, page_of
from shard_node.shared.sinks import Sink
from shard_node.shared.watch import Unwatch, Watcher, Watching
from shard_node.state import moderation
from shard_node.state.context import REASON_MAX_CHARS
from shard_node.state.errors import ReasonRequired
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
        if not 0 < len(reason.strip()) <= REASON_MAX_CHARS:
            raise ReasonRequired("a ban needs a reason")
        moderation.ban_key(user_id, scope)
        until_ms = self._sink.backend.clock.until_ms(until) or moderation.FOREVER_MS
        op = moderation.BanUser(user_id, scope, reason, until_ms)
        return self._sink.do(op, user=by, reason=reason)

    def unban(
        self, user_id: int, scope: int | str, reason: str = "", *, by: int = 0
    ) -> Awaitable[Tx]:
        """Lift a ban. Raises BadName, NotThere."""
        moderation.ban_key(user_id, scope)
        op = moderation.UnbanUser(user_id, scope, reason)
        return self._sink.do(op, user=by, reason=reason)

    def is_banned(self, user_id: int, scope: int | str = moderation.EVERYWHERE) -> bool:
        """Whether the user is banned there, as this process knows it: in a guild by its own ban
        or by a global one."""
        return self.get(user_id, scope) is not None

    def get(self, user_id: int, scope: int | str = moderation.EVERYWHERE) -> BanInfo | None:
        """The ban that keeps the user out, as this process knows it."""
        backend = self._sink.backend
        for where in dict.fromkeys((moderation.EVERYWHERE, scope)):
            found = self._info(where, backend.get(moderation.ban_key(user_id, where)))
            if found is not None:
                return found
        return None

    async def fetch(self, user_id: int, scope: int | str = moderation.EVERYWHERE) -> BanInfo | None:
        """As ``get``, as the broker has it now."""
        scopes = tuple(dict.fromkeys((moderation.EVERYWHERE, scope)))
        keys = [moderation.ban_key(user_id, where) for where in scopes]
        rows = await self._sink.backend.fetch(keys)
        found = (self._info(where, row) for where, row in zip(scopes, rows, strict=True))
        return next((ban for ban in found if ban is not None), None)

    async def history(self, user_id: int, *, after: int = 0, limit: int = HISTORY_LIMIT) -> LogPage:
        """The newest bans and unbans of a user, oldest first; with ``after``, the first ones
        behind that record of the log."""
        backend = self._sink.backend
        prefix = prefix_of(Table.HISTORY, f"user:{user_id}")
        lsns = [int(parse_key(key)[1][1]) async for key, _ in backend.fetch_all(prefix)]
        wanted = [lsn for lsn in lsns if lsn > after]
        wanted = wanted[:limit] if after else wanted[-limit:]
        pages = [page_of(await backend.read_log(lsn - 1, 1)) for lsn in wanted]
        records = [record for page in pages for record in page if record.id in wanted]
        read_to = records[-1].id if records else after
        first, last = (pages[-1].first, pages[-1].last) if pages else (1, 0)
        return LogPage(records, read_to, first, last, len(wanted) < len(lsns))

    def watch(self, handler: Watcher, user_id: int | None = None) -> Unwatch:
        """Call ``handler`` with each BanChanged, of one user or of all."""
        wanted = {} if user_id is None else {"user": user_id}
        return self._watching(BanChanged, handler, wanted)

    def _info(self, scope: int | str, data: bytes | None) -> BanInfo | None:
        clock, ban = self._sink.backend.clock, read(moderation.Ban, data)
        if ban is None or not moderation.stands(ban, clock.at_ms()):
            return None
        forever = ban.until_ms == moderation.FOREVER_MS
        until = None if forever else clock.wall_s(ban.until_ms)
        return BanInfo(scope, ban.reason, ban.by, ban.since_ms / 1000, until)
