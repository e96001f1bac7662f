"""Bans: of a user, everywhere or in one guild, for ever or until a log time.

They are recorded here, in order; who carries them out on Discord listens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from shard_node.state.context import REASON_MAX_CHARS, Context, remember
from shard_node.state.errors import BadName, BadValue, NotThere, ReasonRequired
from shard_node.state.keys import ID_MAX, Part, Table, key_of, parse_key, prefix_of
from shard_node.state.rows import Row, read
from shard_node.state.views import Reads

EVERYWHERE: Final = "global"
FOREVER_MS: Final = 0
END_MAX_MS: Final = (1 << 63) - 1
SCOPE_HINT: Final = f"it is {EVERYWHERE!r} or a guild's id, a whole number"
USER_HINT: Final = "it is a user's id, a whole number: user.id"


class Ban(Row, frozen=True):
    """Why, by whom (0: nobody), since when, until when (0: for ever)."""

    reason: str = ""
    by: int = 0
    since_ms: int = 0
    until_ms: int = FOREVER_MS


class BanUser(msgspec.Struct, array_like=True, frozen=True, tag="ban"):
    """Ban a user in ``scope``: "global", or a guild's id. A ban that stands is replaced."""

    user: int
    scope: int | str
    reason: str
    until_ms: int = FOREVER_MS


class UnbanUser(msgspec.Struct, array_like=True, frozen=True, tag="unban"):
    """Lift a ban."""

    user: int
    scope: int | str
    reason: str = ""


def apply_ban(op: BanUser, context: Context) -> dict[str, Any]:
    """The ban's version. Raises BadName, BadValue, ReasonRequired."""
    key = ban_key(op.user, op.scope)
    if not 0 < len(op.reason.strip()) <= REASON_MAX_CHARS:
        raise ReasonRequired("a ban needs a reason")
    if op.until_ms != FOREVER_MS and not context.at_ms < op.until_ms <= END_MAX_MS:
        raise BadValue(f"until {op.until_ms} ms: that is over already", at_ms=context.at_ms)
    row = Ban(reason=op.reason, by=context.user, since_ms=context.at_ms, until_ms=op.until_ms)
    version = context.put(key, row)
    remember(context, f"user:{op.user}")
    return {"version": version}


def apply_unban(op: UnbanUser, context: Context) -> dict[str, Any]:
    """Raises BadName, ReasonRequired for one that is too long, NotThere where no ban stands."""
    key = ban_key(op.user, op.scope)
    if len(op.reason) > REASON_MAX_CHARS:
        raise ReasonRequired(f"a reason has at most {REASON_MAX_CHARS} characters")
    if not stands(context.get(Ban, key), context.at_ms):
        text = f"user {op.user} is not banned in {op.scope}"
        raise NotThere(text, user=op.user, scope=op.scope)
    context.delete(key)
    remember(context, f"user:{op.user}")
    return {}


def ban_key(user: int, scope: int | str) -> bytes:
    """Where a ban lies. Raises BadName."""
    if scope != EVERYWHERE and not _is_id(scope):
        raise BadName(f"{str(scope)[:40]!r} is no scope", hint=SCOPE_HINT)
    if not _is_id(user):
        raise BadName(f"{str(user)[:40]!r} is no user", hint=USER_HINT)
    return key_of(Table.BAN, user, scope)


def _is_id(value: object) -> bool:
    return type(value) is int and 0 < value <= ID_MAX


def stands(ban: Ban | None, at_ms: int) -> bool:
    """Whether a ban holds at this log time."""
    return ban is not None and (ban.until_ms == FOREVER_MS or ban.until_ms > at_ms)


def is_banned(view: Reads, user: int, guild: int, at_ms: int) -> Ban | None:
    """The ban that keeps a user out of a guild (0: out of all of them) at this log time."""
    for scope in (EVERYWHERE, guild) if guild else (EVERYWHERE,):
        ban = read(Ban, view.get(ban_key(user, scope)))
        if stands(ban, at_ms):
            return ban
    return None


def bans(view: Reads, user: int, at_ms: int) -> Iterator[tuple[Part, Ban]]:
    """A user's bans that stand at this log time, by scope."""
    for key, data in view.scan(prefix_of(Table.BAN, user)):
        ban = read(Ban, data)
        if ban is not None and stands(ban, at_ms):
            yield parse_key(key)[1][1], ban


def history(view: Reads, what: str) -> Iterator[int]:
    """Transactions of a user's moderation ("user:ID")."""
    for key, _ in view.scan(prefix_of(Table.HISTORY, what)):
        lsn = parse_key(key)[1][1]
        if isinstance(lsn, int):
            yield lsn
