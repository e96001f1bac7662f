"""What disnake keeps of its guilds, compared object by object, attribute by attribute."""

from __future__ import annotations

import datetime
import enum
import weakref
from array import array
from collections.abc import Iterable
from typing import Any

_BACK = frozenset({"_state", "guild", "_guild", "_parent", "__weakref__", "_client"})
"""Attributes that lead back up."""
_PLAIN = (str, int, float, bool, bytes, type(None), datetime.datetime, datetime.timedelta)


def compare(one: Any, other: Any) -> list[str]:
    """How the guilds of two connection states differ; empty where they are equal."""
    return differences(pictures(one), pictures(other))


def pictures(state: Any) -> dict[int, Any]:
    """The guilds of a connection state, by id."""
    return {guild.id: picture(guild) for guild in state.guilds}


def differences(one: dict[int, Any], other: dict[int, Any]) -> list[str]:
    """How the guilds in ``pictures`` differ; empty where they are equal."""
    found: list[str] = []
    _differ("guilds", one, other, found)
    return found


def picture(thing: Any) -> dict[str, Any]:
    """Every attribute of an object of disnake's, in all of its classes."""
    found: dict[str, Any] = {"": type(thing).__name__}
    for name in _attributes(thing):
        if name not in _BACK and not name.startswith("_cs_") and hasattr(thing, name):
            found[name] = _value(getattr(thing, name), inside=name)
    return found


def _attributes(thing: Any) -> Iterable[str]:
    for base in type(thing).__mro__:
        slots = base.__dict__.get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots
    yield from getattr(thing, "__dict__", ())


def _value(value: Any, inside: str) -> Any:
    if isinstance(value, (enum.Enum, *_PLAIN)):
        return value
    if isinstance(value, dict):
        return {key: _value(one, inside) for key, one in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, list | tuple | array):
        return [_value(one, inside) for one in value]
    if isinstance(value, weakref.ref):
        return None
    if not type(value).__module__.startswith("disnake"):
        return repr(value)
    return picture(value)


def _differ(where: str, one: Any, other: Any, differences: list[str]) -> None:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            if key not in one or key not in other:
                differences.append(f"{where}.{key}: only {'right' if key in other else 'left'}")
            else:
                _differ(f"{where}.{key}", one[key], other[key], differences)
    elif one != other:
        differences.append(f"{where}: {one!r} != {other!r}")
