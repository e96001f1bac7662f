"""The messages that exist: by channel, bounded, oldest forgotten first. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

MESSAGES_MAX: Final = 30_000
"""Messages remembered over all channels, chatter apart."""
CHATTER_MAX: Final = 10_000
"""Chatter of a load remembered: it drives out only older chatter. A bot that deferred its reply
finds it again after minutes under any load."""
NONCES_LOOKED_AT_MAX: Final = 100
PRESSABLE_LOOKED_AT_MAX: Final = 2_000
_BUTTONS: Final = frozenset({2})
_SELECTS: Final = frozenset({3, 5, 6, 7, 8})

Payload = dict[str, Any]


@dataclass(slots=True)
class Reaction:
    """One emoji under a message: its partial object and who put it there."""

    emoji: Payload
    user_ids: dict[int, None] = field(default_factory=dict)


@dataclass(slots=True)
class Entry:
    """One message. ``hidden`` is an ephemeral one, in no list; ``chatter`` asks nothing."""

    id: int
    channel_id: int
    guild_id: int | None
    payload: Payload
    hidden: bool = False
    chatter: bool = False
    pinned_at: str | None = None
    reactions: dict[str, Reaction] = field(default_factory=dict)


class Archive:
    """Messages by channel and id.

    >>> archive = Archive()
    >>> archive.add(Entry(5, 1, None, {"id": "5"}))
    >>> archive.find(1, 5).payload
    {'id': '5'}
    """

    def __init__(self, messages_max: int = MESSAGES_MAX, chatter_max: int = CHATTER_MAX) -> None:
        self._max = {False: messages_max, True: chatter_max}
        self._pools: dict[bool, dict[int, Entry]] = {False: {}, True: {}}
        self._channels: dict[int, dict[int, Entry]] = {}

    def __len__(self) -> int:
        return sum(len(pool) for pool in self._pools.values())

    def add(self, entry: Entry) -> None:
        """Remember a message; its id is larger than all before it in the channel."""
        pool = self._pools[entry.chatter]
        if len(pool) >= self._max[entry.chatter]:
            self.remove(next(iter(pool.values())))
        pool[entry.id] = entry
        self._channels.setdefault(entry.channel_id, {})[entry.id] = entry

    def find(self, channel_id: int, message_id: int) -> Entry | None:
        """A message of a channel, None when there is none (or it is forgotten)."""
        return self._channels.get(channel_id, {}).get(message_id)

    def remove(self, entry: Entry) -> None:
        """Forget a message."""
        del self._pools[entry.chatter][entry.id]
        channel = self._channels[entry.channel_id]
        del channel[entry.id]
        if not channel:
            del self._channels[entry.channel_id]

    def remove_channel(self, channel_id: int) -> None:
        """Forget a channel with all its messages."""
        for entry in list(self._channels.get(channel_id, {}).values()):
            self.remove(entry)

    def newest(self, channel_id: int) -> Iterator[Entry]:
        """A channel's messages, newest first, without the ephemeral ones."""
        entries = self._channels.get(channel_id, {})
        return (entry for entry in reversed(entries.values()) if not entry.hidden)

    def page(
        self, channel_id: int, limit: int, *, before: int | None = None, after: int | None = None
    ) -> list[Entry]:
        """Up to ``limit`` messages, newest first; ``after`` gives those next after it."""
        if after is not None:
            older_first = [e for e in self.newest(channel_id) if e.id > after][::-1]
            return older_first[:limit][::-1]
        found: list[Entry] = []
        for entry in self.newest(channel_id):
            if len(found) == limit:
                break
            if before is None or entry.id < before:
                found.append(entry)
        return found

    def with_nonce(self, channel_id: int, author_id: str, nonce: object) -> Entry | None:
        """The author's recent message that has this nonce (`enforce_nonce`)."""
        for looked_at, entry in enumerate(self.newest(channel_id)):
            if looked_at == NONCES_LOOKED_AT_MAX:
                break
            payload = entry.payload
            if payload.get("nonce") == nonce and payload["author"]["id"] == author_id:
                return entry
        return None

    def pressable(
        self,
        channel_ids: list[int],
        author_id: str,
        components: Callable[[Payload], list[Payload]],
    ) -> list[tuple[Entry, Payload]]:
        """(message, component) for each of ``components`` on the author's recent messages."""
        found: list[tuple[Entry, Payload]] = []
        for channel_id in channel_ids:
            for looked_at, entry in enumerate(self._newest_with_hidden(channel_id)):
                if looked_at == PRESSABLE_LOOKED_AT_MAX:
                    break
                if entry.payload["author"]["id"] == author_id:
                    found += [(entry, each) for each in components(entry.payload)]
        return found

    def _newest_with_hidden(self, channel_id: int) -> Iterator[Entry]:
        return reversed(self._channels.get(channel_id, {}).values())


def buttons(message: Payload) -> list[Payload]:
    """The buttons of a message that a user can press."""
    return _usable(message, _BUTTONS)


def selects(message: Payload) -> list[Payload]:
    """The selects of a message that a user can choose in."""
    return _usable(message, _SELECTS)


def _usable(message: Payload, kinds: frozenset[int]) -> list[Payload]:
    return [
        component
        for component in walk(message.get("components") or [])
        if component.get("type") in kinds
        and component.get("custom_id")
        and not component.get("disabled")
    ]


def walk(components: list[Payload]) -> Iterator[Payload]:
    """All components, outer before inner."""
    for component in components:
        yield component
        yield from walk(component.get("components") or [])
        for name in ("accessory", "component"):
            if isinstance(component.get(name), dict):
                yield component[name]
