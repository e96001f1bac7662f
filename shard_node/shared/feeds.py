"""What of Discord's events a bot wants in the shared state, and how to read it off them. Pure.

Payloads are Discord's own (Gateway, "Guild Member Update"; Resources: Guild Member, User,
Role, Entitlement); times become seconds since the epoch, snowflakes whole numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from shard_node.state.arguments import shown
from shard_node.state.errors import BadValue
from shard_node.wire.categories import MemberFields, RoleInfo, UserFields

MEMBER_NAMES: Final = MemberFields.__struct_fields__
USER_NAMES: Final = UserFields.__struct_fields__
ROLE_NAMES: Final = RoleInfo.__struct_fields__


class Interests:
    """The fields that are kept; empty: nothing of that kind."""

    def __init__(self) -> None:
        self.members: frozenset[str] = frozenset()
        self.users: frozenset[str] = frozenset()
        self.permissions: frozenset[str] = frozenset()

    def declare(
        self, members: Iterable[str], users: Iterable[str], permissions: Iterable[str]
    ) -> None:
        """Add fields. Raises BadValue for one that no event has."""
        self.members |= _known("members", members, MEMBER_NAMES)
        self.users |= _known("users", users, USER_NAMES)
        self.permissions |= _known("permissions", permissions, ROLE_NAMES)

    def __bool__(self) -> bool:
        return bool(self.members or self.users or self.permissions)


class Entitled(NamedTuple):
    """An entitlement: what ``premium`` knows it as. ``until`` None: for ever."""

    id: int
    subject: str
    sku: int
    until: float | None
    over: bool


def member_fields(data: Mapping[str, Any], wanted: Iterable[str]) -> dict[str, Any]:
    """What an event says of a member, but ``permissions``, which it does not."""
    return _read(data, wanted, _MEMBER)


def user_fields(data: Mapping[str, Any], wanted: Iterable[str]) -> dict[str, Any]:
    """What an event says of a user."""
    return _read(data, wanted, _USER)


def role_fields(data: Mapping[str, Any], wanted: Iterable[str]) -> dict[str, Any]:
    """What an event says of a role."""
    return _read(data, wanted, _ROLE)


def entitled(data: Mapping[str, Any], now: float) -> Entitled | None:
    """An entitlement event; None for one of nobody. ``now``: seconds since the epoch."""
    user, guild = data.get("user_id"), data.get("guild_id")
    if not user and not guild:
        return None
    subject = f"guild:{int(guild)}" if guild else f"user:{int(user)}"  # type: ignore[arg-type]
    until = _seconds(data.get("ends_at"))
    over = bool(data.get("deleted")) or (until is not None and until <= now)
    return Entitled(int(data["id"]), subject, int(data["sku_id"]), until, over)


def _known(what: str, names: Iterable[str], known: tuple[str, ...]) -> frozenset[str]:
    hint = f"they have {', '.join(known)}"
    if not isinstance(names, Iterable):
        raise BadValue(f"{what}={shown(names)} are no names of fields", hint=hint)
    found = (names,) if isinstance(names, str) else tuple(names)
    for name in found:
        if name not in known:
            raise BadValue(f"{what} have no {shown(name)}", hint=hint)
    return frozenset(found)


def _seconds(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _same(value: Any) -> Any:
    return value


_MEMBER: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "nick": ("nick", _same),
    "roles": ("roles", lambda roles: sorted(map(int, roles))),
    "avatar": ("avatar", _same),
    "joined_at": ("joined_at", _seconds),
    "timeout_at": ("communication_disabled_until", _seconds),
    "pending": ("pending", bool),
}
_USER: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "name": ("username", _same),
    "global_name": ("global_name", _same),
    "avatar": ("avatar", _same),
    "bot": ("bot", bool),
}
_ROLE: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "name": ("name", _same),
    "permissions": ("permissions", int),
    "position": ("position", int),
    "color": ("color", int),
}


def _read(
    data: Mapping[str, Any],
    wanted: Iterable[str],
    known: Mapping[str, tuple[str, Callable[[Any], Any]]],
) -> dict[str, Any]:
    found = {}
    for name in wanted:
        theirs, convert = known.get(name, ("", _same))
        if theirs in data:
            found[name] = convert(data[theirs])
    return found
