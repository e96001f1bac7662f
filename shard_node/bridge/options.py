"""The options of a slash command, from words to what Discord would have sent.

Discord's documentation, Application Commands, "Application Command Option Type".
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import disnake
from disnake import OptionType

from shard_node.wire.bodies import ErrorBody
from shard_node.wire.categories import Option as Given

SAFE_INTEGER_MAX: Final = 2**53
LISTED_MAX: Final = 25
_TRUTH: Final = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip
_MENTION: Final = re.compile(r"<(?:@[!&]?|#)([0-9]{1,20})>|([0-9]{1,20})")

FindMember = Callable[[int], Awaitable[tuple[dict[str, Any], dict[str, Any]] | None]]
"""A user's and a member's payload by id; None for nobody in the guild."""


class Refusal(Exception):
    """What was asked cannot be done as it was asked; ``body`` says why."""

    def __init__(self, body: ErrorBody) -> None:
        super().__init__(body.message)
        self.body = body


def refused(text: str, hint: str = "", code: str = "E_BAD_OPTION") -> Refusal:
    """An option that cannot be, or what else ``code`` says."""
    return Refusal(ErrorBody(code, text, hint))


class Bound(NamedTuple):
    """Options as an interaction carries them, and the objects they name."""

    options: list[dict[str, Any]]
    resolved: dict[str, dict[str, Any]]


async def bind(
    command: str,
    declared: Iterable[disnake.Option],
    given: Mapping[str, Given],
    guild: disnake.Guild,
    find: FindMember,
) -> Bound:
    """Check and convert ``given``. Raises Refusal naming what exists."""
    known = {option.name: option for option in declared}
    how = usage(command, known.values())
    for name in given:
        if name not in known:
            raise refused(f"/{command} has no option {name!r}{_instead(name, known)}", how)
    missing = [name for name, option in known.items() if option.required and name not in given]
    if missing:
        raise refused(f"/{command} needs {', '.join(missing)}", how)
    bound = Bound([], {})
    for name, value in given.items():
        converted = await _convert(known[name], value, guild, find, bound.resolved)
        kind = known[name].type.value
        bound.options.append({"name": name, "type": kind, "value": converted})
    return bound


def usage(command: str, declared: Iterable[disnake.Option]) -> str:
    """How a command is called."""
    words = [
        f"{option.name}={option.type.name.upper()}"
        if option.required
        else f"[{option.name}={option.type.name.upper()}]"
        for option in declared
    ]
    return f"usage: /{' '.join([command, *words])}"


def _instead(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; it has {', '.join(names)}" if names else "; it has none"


async def _convert(
    option: disnake.Option,
    value: Given,
    guild: disnake.Guild,
    find: FindMember,
    resolved: dict[str, dict[str, Any]],
) -> Any:
    kind = option.type
    if kind in _SCALARS:
        return _chosen(option, value)
    if kind is OptionType.attachment:
        raise refused(f"{option.name}: a file can only be given in Discord")
    text = str(value).strip()
    if kind is OptionType.channel:
        return _channel(option, text, guild, resolved)
    if kind is OptionType.role:
        return _role(option, text, guild, resolved)
    user = await _user(text, guild, find, resolved)
    if user is None and kind is OptionType.mentionable:
        return _role(option, text, guild, resolved)
    if user is None:
        raise refused(f"{option.name}: {text!r} is nobody in {guild.name}", "give a user's id")
    return user


# --- numbers, words, truth


def _chosen(option: disnake.Option, value: Given) -> Any:
    for choice in option.choices:
        if value == choice.value or str(value) in (choice.name, str(choice.value)):
            return choice.value
    if option.choices:
        names = ", ".join(repr(choice.name) for choice in option.choices)
        raise refused(f"{option.name}: {value!r} is none of {names}")
    converted = _SCALARS[option.type](value)
    if converted is None:
        raise refused(f"{option.name}: {value!r} is no {option.type.name}")
    _check_range(option, converted)
    return converted


def _check_range(option: disnake.Option, value: Any) -> None:
    text = isinstance(value, str)
    low, high = (
        (option.min_length, option.max_length) if text else (option.min_value, option.max_value)
    )
    size = len(value) if text else value
    what = f"{size} characters are" if text else f"{value} is"
    if low is not None and size < low:
        raise refused(f"{option.name}: {what} less than {low}")
    if high is not None and size > high:
        raise refused(f"{option.name}: {what} more than {high}")


def _string(value: Given) -> str | None:
    return value if isinstance(value, str) else None


def _integer(value: Given) -> int | None:
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            return None
    fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) < SAFE_INTEGER_MAX
    return int(value) if fits else None


def _number(value: Given) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def _boolean(value: Given) -> bool | None:
    return value if isinstance(value, bool) else _TRUTH.get(str(value).lower())


_SCALARS: Final[dict[OptionType, Callable[[Given], Any]]] = {
    OptionType.string: _string,
    OptionType.integer: _integer,
    OptionType.number: _number,
    OptionType.boolean: _boolean,
}


# --- members, channels, roles


def id_in(text: str) -> int | None:
    """The id that a mention or a number is; None for a name."""
    match = _MENTION.fullmatch(text)
    return int(match[1] or match[2]) if match else None


async def _user(
    text: str, guild: disnake.Guild, find: FindMember, resolved: dict[str, dict[str, Any]]
) -> str | None:
    number = id_in(text)
    if number is None:
        member = guild.get_member_named(text.removeprefix("@"))
        number = member.id if member is not None else None
    found = await find(number) if number is not None else None
    if found is None:
        return None
    user, payload = found
    resolved.setdefault("users", {})[str(number)] = user
    resolved.setdefault("members", {})[str(number)] = payload
    return str(number)


def _channel(
    option: disnake.Option, text: str, guild: disnake.Guild, resolved: dict[str, dict[str, Any]]
) -> str:
    channels = [*guild.channels, *guild.threads]
    channel = _named(option.name, text.removeprefix("#"), channels, "channel")
    if option.channel_types and channel.type not in option.channel_types:
        allowed = ", ".join(sorted(kind.name for kind in option.channel_types))
        raise refused(f"{option.name}: #{channel.name} is a {channel.type.name}, not {allowed}")
    resolved.setdefault("channels", {})[str(channel.id)] = channel_payload(channel)
    return str(channel.id)


def channel_payload(channel: Any) -> dict[str, Any]:
    """A channel as an interaction has it; disnake takes the rest from its cache."""
    return {"id": str(channel.id), "type": channel.type.value, "name": channel.name}


def _role(
    option: disnake.Option, text: str, guild: disnake.Guild, resolved: dict[str, dict[str, Any]]
) -> str:
    role = _named(option.name, text.removeprefix("@"), guild.roles, "role")
    resolved.setdefault("roles", {})[str(role.id)] = {
        "id": str(role.id),
        "name": role.name,
        "permissions": str(role.permissions.value),
        "position": role.position,
        "colors": {
            "primary_color": role.color.value,
            "secondary_color": role._secondary_color,
            "tertiary_color": role._tertiary_color,
        },
        "hoist": role.hoist,
        "icon": role._icon,
        "unicode_emoji": role._emoji,
        "managed": role.managed,
        "mentionable": role.mentionable,
        "flags": role._flags,
    }
    return str(role.id)


def _named(option: str, text: str, candidates: Iterable[Any], what: str) -> Any:
    """The one of these with this id or name."""
    found = list(candidates)
    number = id_in(text)
    same = [c for c in found if c.id == number] or [c for c in found if c.name == text]
    if len(same) == 1:
        return same[0]
    if same:
        ids = ", ".join(str(candidate.id) for candidate in same[:LISTED_MAX])
        raise refused(f"{option}: {len(same)} of the guild's {what}s are called {text!r}: {ids}")
    names = ", ".join(candidate.name for candidate in found[:LISTED_MAX])
    raise refused(f"{option}: the guild has no {what} {text!r}", f"there are: {names}")
