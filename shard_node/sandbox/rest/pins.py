"""Pinned messages, by the paths of 2025 and by the old ones.

Source: Discord documentation, "Message: Get Channel Pins".
"""

from __future__ import annotations

from typing import Final

from shard_node.sandbox import payloads
from shard_node.sandbox.archive import Entry
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.rest import compose
from shard_node.sandbox.rest.call import Call, Reply, Route

PINS_SHOWN_MAX: Final = 50


def list_pins(call: Call) -> Payload:
    """GET: the latest 50, newest message first, each with its moment."""
    pinned = _pinned(call)
    items = [
        {"pinned_at": entry.pinned_at, "message": compose.rest_view(entry.payload)}
        for entry in pinned[:PINS_SHOWN_MAX]
    ]
    return {"items": items, "has_more": len(pinned) > PINS_SHOWN_MAX}


def list_pins_of_old(call: Call) -> list[Payload]:
    """GET, the old path: the messages alone."""
    return [compose.rest_view(entry.payload) for entry in _pinned(call)[:PINS_SHOWN_MAX]]


def pin(call: Call) -> Reply:
    """PUT: MESSAGE_UPDATE and CHANNEL_PINS_UPDATE."""
    return _set(call, payloads.timestamp(call.state.clock.wall_ms()))


def unpin(call: Call) -> Reply:
    """DELETE: the same events."""
    return _set(call, None)


def _set(call: Call, pinned_at: str | None) -> Reply:
    entry = call.message()
    if (entry.pinned_at is None) is not (pinned_at is None):
        entry.pinned_at = pinned_at
        entry.payload["pinned"] = pinned_at is not None
        told: Payload = {"channel_id": str(entry.channel_id), "last_pin_timestamp": pinned_at}
        if entry.guild_id is not None:
            told["guild_id"] = str(entry.guild_id)
        events = [("MESSAGE_UPDATE", entry.payload), ("CHANNEL_PINS_UPDATE", told)]
        call.dispatch(events, entry.guild_id)
    return Reply()


def _pinned(call: Call) -> list[Entry]:
    channel, _ = call.channel()
    newest = call.state.memory.archive.newest(int(channel["id"]))
    return [entry for entry in newest if entry.pinned_at is not None]


_NEW: Final = "/channels/{channel}/messages/pins"
_OLD: Final = "/channels/{channel}/pins"
ROUTES: Final = (
    Route("GET", _NEW, list_pins),
    Route("PUT", _NEW + "/{message}", pin),
    Route("DELETE", _NEW + "/{message}", unpin),
    Route("GET", _OLD, list_pins_of_old),
    Route("PUT", _OLD + "/{message}", pin),
    Route("DELETE", _OLD + "/{message}", unpin),
)
