"""Which records of the log somebody asked for. Pure."""

from __future__ import annotations

from shard_node.state.log import Entry
from shard_node.state.undo import Give


def matches(entry: Entry, kinds: tuple[str, ...], user: int, account: str) -> bool:
    """Whether a record has one of the kinds, was done for the user, moved the account's money."""
    if kinds and not set(kinds) & set(entry.kinds):
        return False
    if not user and not account:
        return True
    payload = entry.payload()
    if payload is None:
        return False
    about = (getattr(op, "user", 0) for op in payload.ops)
    if user and user not in (payload.actor.user, *about):
        return False
    return not account or any(
        isinstance(undo, Give) and undo.account == account for undo in payload.undo
    )
