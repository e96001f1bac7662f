"""Checks the fields of a trouble request. Pure."""

from __future__ import annotations

from typing import Any

from shard_node.sandbox.session import Deafness, Target

Args = dict[str, Any]


class TroubleError(ValueError):
    """The request cannot be done; the message says why, ``exists`` what could be meant."""

    def __init__(self, message: str, exists: list[Any] | None = None) -> None:
        super().__init__(message)
        self.exists = exists


class NothingFound(TroubleError):
    """The request names a session or guild that there is not."""


def flag(args: Args, name: str) -> bool:
    """A boolean field; missing is False."""
    value = args.get(name, False)
    if not isinstance(value, bool):
        msg = f"{name} is {value!r}; it must be true or false"
        raise TroubleError(msg)
    return value


def optional_integer(args: Args, name: str, low: int, high: int) -> int | None:
    """An integer field within bounds; missing and null are None."""
    value = args.get(name)
    if value is None:
        return None
    if type(value) is not int or not low <= value <= high:
        msg = f"{name} is {value!r}; it must be an integer between {low} and {high}"
        raise TroubleError(msg)
    return value


def integer(args: Args, name: str, low: int, high: int, default: int | None = None) -> int:
    """An integer field within bounds; without a default it must be there."""
    value = optional_integer(args, name, low, high)
    value = default if value is None else value
    if value is None:
        msg = f"{name} is missing; it must be an integer between {low} and {high}"
        raise TroubleError(msg)
    return value


def optional_number(args: Args, name: str, high: float) -> float | None:
    """A number of seconds from 0 to ``high``; missing and null are None."""
    value = args.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
        msg = f"{name} is {value!r}; it must be a number between 0 and {high:g}"
        raise TroubleError(msg)
    return float(value)


def number(args: Args, name: str, high: float) -> float:
    """As `optional_number`, but it must be there."""
    value = optional_number(args, name, high)
    if value is None:
        msg = f"{name} is missing; it must be a number between 0 and {high:g}"
        raise TroubleError(msg)
    return value


def target(args: Args, shards_max: int) -> Target:
    """Which sessions are meant."""
    return Target(
        shard=optional_integer(args, "shard", 0, shards_max - 1),
        num_shards=optional_integer(args, "num_shards", 1, shards_max),
    )


def deafness(args: Args) -> Deafness:
    """What a deaf session is not sent."""
    events = args.get("events")
    if events is not None:
        if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
            msg = "events must be null or a list of event names such as MESSAGE_CREATE"
            raise TroubleError(msg)
        events = frozenset(event.upper() for event in events)
    return Deafness(events, lost=flag(args, "lost"), sticky=flag(args, "sticky"))


def identifiers(args: Args, name: str) -> list[int] | None:
    """A list of identifiers, each once; missing and null are None."""
    given = args.get(name)
    if given is None:
        return None
    if not isinstance(given, list) or not all(str(item).isdecimal() for item in given):
        msg = f"{name} must be a list of identifiers"
        raise TroubleError(msg)
    return list(dict.fromkeys(int(item) for item in given))
