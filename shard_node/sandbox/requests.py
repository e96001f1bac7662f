"""Checks the ``d`` of what a client sends. Pure.

Every function raises ValueError, TypeError, KeyError, AttributeError or OverflowError for what
cannot be decoded (close code 4002), or `Refused` with a code of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from shard_node.sandbox.codes import Close, Refused
from shard_node.sandbox.payloads import Payload

LARGE_THRESHOLD_MIN: Final = 50
LARGE_THRESHOLD_MAX: Final = 250
STATUSES: Final = frozenset({"online", "dnd", "idle", "invisible", "offline"})


@dataclass(frozen=True, slots=True)
class Identify:
    """What an IDENTIFY asks for."""

    token: str
    shard: int
    num_shards: int
    intents: int
    large_threshold: int = LARGE_THRESHOLD_MIN
    presence: Payload | None = None


@dataclass(frozen=True, slots=True)
class Resume:
    """What a RESUME asks for; ``seq`` None comes from a client that saw nothing."""

    token: str
    session_id: str
    seq: int | None


@dataclass(frozen=True, slots=True)
class VoiceRequest:
    """An op 4; ``channel_id`` None leaves."""

    guild_id: int
    channel_id: int | None
    self_mute: bool
    self_deaf: bool


def seq(data: Any) -> int | None:
    """A sequence number or null."""
    return None if data is None else _integer(data)


def identify(data: Any) -> Identify:
    """An IDENTIFY. Missing ``shard`` is the only shard of one."""
    if not isinstance(data["properties"], dict):
        msg = "properties is no object"
        raise TypeError(msg)
    shard, num_shards = _shard(data.get("shard"))
    large = _integer(data.get("large_threshold", LARGE_THRESHOLD_MIN))
    return Identify(
        token=_text(data["token"]),
        shard=shard,
        num_shards=num_shards,
        intents=_integer(data["intents"]),
        large_threshold=max(LARGE_THRESHOLD_MIN, min(large, LARGE_THRESHOLD_MAX)),
        presence=None if data.get("presence") is None else presence(data["presence"]),
    )


def _shard(given: Any) -> tuple[int, int]:
    if given is None:
        return 0, 1
    shard, num_shards = given
    if type(shard) is not int or type(num_shards) is not int or not 0 <= shard < num_shards:
        raise Refused(Close.INVALID_SHARD)
    return shard, num_shards


def resume(data: Any) -> Resume:
    """A RESUME."""
    return Resume(_text(data["token"]), _text(data["session_id"]), seq(data["seq"]))


def presence(data: Any) -> Payload:
    """A presence update."""
    activities = data.get("activities") or []
    if data["status"] not in STATUSES or not isinstance(activities, list):
        msg = "not a presence"
        raise ValueError(msg)
    return {
        "status": data["status"],
        "activities": activities,
        "since": data.get("since"),
        "afk": bool(data.get("afk", False)),
    }


def voice(data: Any) -> VoiceRequest:
    """A voice state update."""
    channel_id = data["channel_id"]
    return VoiceRequest(
        guild_id=int(data["guild_id"]),
        channel_id=None if channel_id is None else int(channel_id),
        self_mute=bool(data.get("self_mute", False)),
        self_deaf=bool(data.get("self_deaf", False)),
    )


def soundboard(data: Any) -> list[int]:
    """The guilds of a request for soundboard sounds."""
    return [int(guild_id) for guild_id in data["guild_ids"]]


def _integer(value: Any) -> int:
    if type(value) is not int:
        msg = "not an integer"
        raise TypeError(msg)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        msg = "not a string"
        raise TypeError(msg)
    return value
