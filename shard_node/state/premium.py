"""Premium: who has which tiers until when, by log time.

Tiers stand beside each other: each has its own end, so that one entitlement does not cut
another short. Granting a tier that is active moves its end only ahead; to shorten it, revoke
it and grant it anew (in one transaction, where nobody may see the gap).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import structs

from shard_node.state.context import Context
from shard_node.state.errors import BadName, BadValue, NotThere
from shard_node.state.keys import ID_MAX, Table, key_of
from shard_node.state.rows import Row

FOREVER_MS: Final = 0
END_MAX_MS: Final = (1 << 63) - 1
TIERS_MAX: Final = 32
"""Tiers that one subject has at a time."""
TIER_MAX_CHARS: Final = 64
SUBJECTS: Final = ("user", "guild")
SUBJECTS_CACHED: Final = 16_384
SUBJECT_HINT: Final = "it is f'user:{user.id}' or f'guild:{guild.id}'"
TIER_HINT: Final = "name it with 1 to 64 printable characters, such as 'gold'"


class Grant(msgspec.Struct, array_like=True, frozen=True):
    """A tier: from when, until when (0: for ever), and where it came from."""

    since_ms: int
    until_ms: int
    source: str = ""


class Premium(Row, frozen=True):
    """The tiers of a subject; those that have ended go with the next change."""

    grants: dict[str, Grant] = msgspec.field(default_factory=dict)


class GrantPremium(msgspec.Struct, array_like=True, frozen=True, tag="grant_premium"):
    """Give ``subject`` ("user:ID", "guild:ID") a tier until ``until_ms`` of log time, or for
    ``for_ms`` more than it has; neither: for ever. ``source`` says where it came from."""

    subject: str
    tier: str
    until_ms: int = FOREVER_MS
    for_ms: int = 0
    source: str = ""


class RevokePremium(msgspec.Struct, array_like=True, frozen=True, tag="revoke_premium"):
    """Take a tier away; "": all of them."""

    subject: str
    tier: str = ""


def apply_grant(op: GrantPremium, context: Context) -> dict[str, Any]:
    """Until when it is, 0 for ever. Raises BadName, BadValue."""
    key = subject_key(op.subject)
    _check_grant(op, context.at_ms)
    grants = active(context.get(Premium, key), context.at_ms)
    old = grants.get(op.tier)
    until_ms = _until(op, old, context.at_ms)
    if old is None:
        grants[op.tier] = Grant(context.at_ms, until_ms, op.source)
    else:
        grants[op.tier] = structs.replace(old, until_ms=until_ms, source=op.source or old.source)
    if len(grants) > TIERS_MAX:
        raise BadValue(f"{op.subject} has {TIERS_MAX} tiers; that is the limit")
    if old != grants[op.tier]:
        context.put(key, Premium(grants=grants))
    return {"until_ms": until_ms}


def apply_revoke(op: RevokePremium, context: Context) -> dict[str, Any]:
    """The tiers that were taken. Raises BadName, NotThere."""
    key = subject_key(op.subject)
    grants = active(context.get(Premium, key), context.at_ms)
    taken = [tier for tier in grants if op.tier in ("", tier)]
    if not taken:
        raise NotThere(f"{op.subject} has no premium {op.tier}".rstrip(), subject=op.subject)
    left = {tier: grant for tier, grant in grants.items() if tier not in taken}
    if left:
        context.put(key, Premium(grants=left))
    else:
        context.delete(key)
    return {"tiers": taken}


def active(row: Premium | None, at_ms: int) -> dict[str, Grant]:
    """The tiers that have not ended at this log time."""
    grants = {} if row is None else row.grants
    return {
        tier: grant
        for tier, grant in grants.items()
        if grant.until_ms == FOREVER_MS or grant.until_ms > at_ms
    }


def is_active(row: Premium | None, at_ms: int, tier: str = "") -> bool:
    """Whether the tier (any, for "") is active at this log time."""
    now = active(row, at_ms)
    return tier in now if tier else bool(now)


def check_tier(tier: str, source: str = "") -> None:
    """Raises BadValue for a tier, or a source, that is none."""
    if not isinstance(tier, str) or not 0 < len(tier) <= TIER_MAX_CHARS or not tier.isprintable():
        raise BadValue(
            f"{str(tier)[:40]!r} is no tier: 1 to {TIER_MAX_CHARS} characters", hint=TIER_HINT
        )
    if not isinstance(source, str) or len(source) > TIER_MAX_CHARS:
        hint = "it is a short word for where the grant came from"
        raise BadValue(f"a source has at most {TIER_MAX_CHARS} characters", hint=hint)


def subject_key(subject: str) -> bytes:
    """Where a subject's tiers lie. Raises BadName."""
    if not isinstance(subject, str):
        raise BadName(f"{str(subject)[:40]!r} is no subject", hint=SUBJECT_HINT)
    return _key(subject)


@lru_cache(SUBJECTS_CACHED)
def _key(subject: str) -> bytes:
    kind, _, number = subject.partition(":")
    good = kind in SUBJECTS and number.isascii() and number.isdecimal() and len(number) <= 20
    if not good or str(int(number)) != number or int(number) > ID_MAX:
        raise BadName(f"{subject[:40]!r} is no subject", hint=SUBJECT_HINT)
    return key_of(Table.PREMIUM, subject)


def _check_grant(op: GrantPremium, at_ms: int) -> None:
    check_tier(op.tier, op.source)
    if op.until_ms and op.for_ms:
        raise BadValue("a grant has an end or a length, not both")
    if op.until_ms != FOREVER_MS and not at_ms < op.until_ms <= END_MAX_MS:
        raise BadValue(f"until {op.until_ms} ms: that is over already", at_ms=at_ms)
    if not 0 <= op.for_ms <= END_MAX_MS:
        raise BadValue(f"{op.for_ms} ms is no length")


def _until(op: GrantPremium, old: Grant | None, at_ms: int) -> int:
    if old is not None and old.until_ms == FOREVER_MS:
        return FOREVER_MS
    if op.for_ms:
        return min(END_MAX_MS, op.for_ms + (at_ms if old is None else old.until_ms))
    if op.until_ms == FOREVER_MS or old is None:
        return op.until_ms
    return max(op.until_ms, old.until_ms)
