"""Forgetting a person: rows that are his, and which records of the log tell of him.

His are the rows whose keys begin with his id or with "user:ID", his memberships and
permissions in guilds, and cooldowns whose keys name his id. What his accounts held goes to a
sink, so that the sums stay true. What others wrote about him in their own rows is theirs.
A payload that mentions him is erased by whoever keeps the log (``traces.mentions``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import structs

from shard_node.state.context import Context
from shard_node.state.economy import SINK, SOURCE, Account, recount
from shard_node.state.errors import BadName
from shard_node.state.keys import (
    ID_MAX,
    PARTITIONS,
    Table,
    gone_key,
    key_of,
    parse_key,
    partition_of,
    prefix_of,
    text_prefix,
)
from shard_node.state.moderation import Ban
from shard_node.state.rows import Row

FORGOTTEN: Final = "forgotten"
"""The sink of what forgotten accounts held, and the source of what they owed."""


class Erased(Row, frozen=True):
    """A person was forgotten: when, and how many rows went."""

    at_ms: int = 0
    rows: int = 0


class ForgetUser(msgspec.Struct, array_like=True, frozen=True, tag="forget_user"):
    """Erase a person; ``keep_bans`` leaves the bans, without their reasons. Cannot be
    rolled back, and so is a transaction of its own."""

    user: int
    keep_bans: bool = False


def apply_forget(op: ForgetUser, context: Context) -> dict[str, Any]:
    """How many rows went. Raises BadName."""
    if not 0 < op.user <= ID_MAX:
        raise BadName(f"{op.user} is no user")
    context.final = True
    keys = [key for key in dict.fromkeys(_his(op.user, context)) if not _kept(op, key)]
    for key in keys:
        if key[1] == Table.ACCOUNT:
            _settle(context.get(Account, key), context)
        context.put_raw(key, None, own_way=True)
    for key, ban in list(_bans_naming(op.user, context)):
        context.put(key, ban, own_way=True)
    rows = sum(key[1] not in (Table.GONE, Table.OF_USER, Table.HISTORY) for key in keys)
    mark = key_of(Table.ERASED, op.user)
    context.put(mark, Erased(at_ms=context.at_ms, rows=rows), own_way=True)
    return {"rows": rows}


def belongs(name: str, user: int) -> bool:
    """Whether an account or another name is a user's: "user:ID", or beginning with "user:ID:"."""
    own = f"user:{user}"
    return name == own or name.startswith(own + ":")


def names(text: str, user: int) -> bool:
    """Whether a text has the user's id in it, as a number of its own."""
    return str(user) in text and _number(user).search(text) is not None


def _his(user: int, context: Context) -> Iterator[bytes]:
    scan = context.view.scan
    for table in (Table.USER, Table.BAN, Table.GONE):
        yield from (key for key, _ in scan(prefix_of(table, user)))
    for index, _ in scan(prefix_of(Table.OF_USER, user)):
        _, table_number, guild = parse_key(index)[1]
        key = key_of(Table(int(table_number)), guild, user)
        yield from (one for one in (key, gone_key(key)) if context.view.get(one) is not None)
        yield index
    for table in (Table.VALUE, Table.PREMIUM, Table.ACCOUNT, Table.GONE):
        yield from _named(table, "", user, context)
    yield from _named(Table.HISTORY, "", user, context)
    yield from _named(Table.HISTORY, "account:", user, context)
    for key in _table(Table.COOLDOWN, context):
        if names(str(parse_key(key)[1][0]), user):
            yield key


def _named(table: Table, before: str, user: int, context: Context) -> Iterator[bytes]:
    """Rows named "user:ID" or "user:ID:..."; they lie in his partition."""
    for key, _ in context.view.scan(text_prefix(partition_of(user), table, f"{before}user:{user}")):
        if belongs(str(parse_key(key)[1][0]).removeprefix(before), user):
            yield key


def _table(table: Table, context: Context) -> Iterator[bytes]:
    for partition in range(PARTITIONS):
        yield from (key for key, _ in context.view.scan(bytes((partition, table))))


def _kept(op: ForgetUser, key: bytes) -> bool:
    return op.keep_bans and key[1] == Table.BAN


def _bans_naming(user: int, context: Context) -> Iterator[tuple[bytes, Ban]]:
    """Bans that he imposed, or that were kept: without what they tell of him."""
    for key in _table(Table.BAN, context):
        ban = context.get(Ban, key)
        if ban is None:
            continue
        by = 0 if ban.by == user else ban.by
        reason = "" if parse_key(key)[1][0] == user or names(ban.reason, user) else ban.reason
        if (by, reason) != (ban.by, ban.reason):
            yield key, structs.replace(ban, by=by, reason=reason)


def _settle(account: Account | None, context: Context) -> None:
    balance = 0 if account is None else account.balance
    if balance:
        recount(context, SINK if balance > 0 else SOURCE, FORGOTTEN, abs(balance))


@lru_cache(maxsize=8)
def _number(user: int) -> re.Pattern[str]:
    return re.compile(rf"(?<![0-9]){user}(?![0-9])")
