"""Which process an event belongs to: the holder of its shard, or one that lingers. Pure.

A process that has given its shards up told what waits in it; an interaction that belongs to a
message that it sent is its own, of other events those who wait for them there get a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from msgspec import structs

from shard_node.wire.lingering import WAITERS, WHOLE, Waits

SILENT_MAX_S: Final = 60.0
"""An owner that has told nothing for so long is gone."""

_COMPONENT: Final = 3
_SUBMIT: Final = 5
_BUTTON: Final = 2
_ANY: Final = 0

KINDS: Final[Mapping[str, frozenset[str]]] = {
    "MESSAGE_CREATE": frozenset({"message"}),
    "MESSAGE_UPDATE": frozenset({"message_edit", "raw_message_edit"}),
    "MESSAGE_DELETE": frozenset({"message_delete", "raw_message_delete"}),
    "MESSAGE_DELETE_BULK": frozenset({"bulk_message_delete", "raw_bulk_message_delete"}),
    "MESSAGE_REACTION_ADD": frozenset({"reaction_add", "raw_reaction_add"}),
    "MESSAGE_REACTION_REMOVE": frozenset({"reaction_remove", "raw_reaction_remove"}),
    "MESSAGE_REACTION_REMOVE_ALL": frozenset({"reaction_clear", "raw_reaction_clear"}),
    "MESSAGE_REACTION_REMOVE_EMOJI": frozenset(
        {"reaction_clear_emoji", "raw_reaction_clear_emoji"}
    ),
    "MESSAGE_POLL_VOTE_ADD": frozenset({"poll_vote_add", "raw_poll_vote_add"}),
    "MESSAGE_POLL_VOTE_REMOVE": frozenset({"poll_vote_remove", "raw_poll_vote_remove"}),
    "TYPING_START": frozenset({"typing", "raw_typing"}),
}
"""Events that belong to messages, with what disnake calls them for those who wait."""


class Own(Protocol):
    """What the holder itself knows."""

    def component(self, kind: int, message: int, custom_id: str) -> bool:
        """Whether a view of its own is there for this component."""
        ...

    def modal(self, user: int, custom_id: str) -> bool:
        """Whether it has shown this modal."""
        ...


class Route(NamedTuple):
    """An event goes to ``owner``: WHOLE, or as a copy for WAITERS."""

    owner: str
    mode: str


class _Entry:
    """What one owner told last."""

    __slots__ = ("channels", "components", "heard_at", "kinds", "modals", "sent", "waits")

    def __init__(self, waits: Waits, now: float) -> None:
        self.waits, self.heard_at = waits, now
        self.components = frozenset(waits.components)
        self.modals = frozenset(waits.modals)
        self.sent = frozenset(waits.sent)
        self.channels = frozenset(waits.channels)
        self.kinds = frozenset(waits.kinds)


class Affinity:
    """All that lingers for the shards of one holder. Where two owners claim an
    interaction, the one that came last has it: it is the younger process."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def put(self, waits: Waits, now: float) -> bool:
        """Take note. False: an addition to what was never told, tell all of it."""
        known = self._entries.get(waits.owner)
        if waits.over:
            self._entries.pop(waits.owner, None)
        elif waits.whole:
            self._entries[waits.owner] = _Entry(waits, now)
        elif known is None:
            return False
        else:
            self._entries[waits.owner] = _Entry(_sum(known.waits, waits), now)
        return True

    def forget(self, owner: str) -> bool:
        """It is gone. Whether it was known."""
        return self._entries.pop(owner, None) is not None

    def silent(self, now: float) -> list[str]:
        """Owners that have told nothing for SILENT_MAX_S; they are forgotten."""
        gone = [
            owner for owner, entry in self._entries.items() if now - entry.heard_at > SILENT_MAX_S
        ]
        for owner in gone:
            del self._entries[owner]
        return gone

    def living(self, shard: int | None = None) -> tuple[Waits, ...]:
        """What is known; with ``shard``, of those that had it."""
        return tuple(
            entry.waits
            for entry in self._entries.values()
            if shard is None or shard in entry.waits.shards
        )

    def of(self, event: str, data: Any, own: Own) -> tuple[Route, ...]:
        """Where an event goes: at most one Route that is WHOLE, or any number of copies.
        Raises KeyError, TypeError or ValueError for what is no such event."""
        if event == "INTERACTION_CREATE":
            return self._interaction(data, own)
        kinds = KINDS.get(event)
        if kinds is None:
            return ()
        return tuple(
            Route(owner, WAITERS)
            for owner, entry in reversed(self._entries.items())
            if entry.kinds & kinds and _belongs(entry, data)
        )

    # --- interactions

    def _interaction(self, data: Any, own: Own) -> tuple[Route, ...]:
        if data["type"] == _COMPONENT:
            found = self._component(data, own)
        elif data["type"] == _SUBMIT:
            found = self._submit(data, own)
        else:
            found = ""
        return (Route(found, WHOLE),) if found else ()

    def _component(self, data: Any, own: Own) -> str:
        """The message decides; a custom_id alone only where the holder does not know it."""
        custom_id, kind = data["data"]["custom_id"], data["data"]["component_type"]
        message, ids = _message(data)
        kinds = {"message_interaction", "interaction"}
        kinds.add("button_click" if kind == _BUTTON else "dropdown")
        youngest = list(reversed(self._entries.items()))
        for owner, entry in youngest:
            if message and (message, custom_id) in entry.components:
                return owner
            named = (_ANY, custom_id) in entry.components
            if ids & entry.sent and (named or entry.kinds & kinds):
                return owner
        if own.component(kind, message, custom_id):
            return ""
        return next(
            (owner for owner, entry in youngest if (_ANY, custom_id) in entry.components), ""
        )

    def _submit(self, data: Any, own: Own) -> str:
        custom_id, user = data["data"]["custom_id"], _user(data)
        _, ids = _message(data)
        kinds = {"modal_submit", "interaction"}
        youngest = list(reversed(self._entries.items()))
        for owner, entry in youngest:
            named = (user, custom_id) in entry.modals
            if ids & entry.sent and (named or entry.kinds & kinds):
                return owner
        if own.modal(user, custom_id):
            return ""
        for owner, entry in youngest:
            if (user, custom_id) in entry.modals:
                return owner
            if (_ANY, custom_id) in entry.modals and entry.kinds & kinds:
                return owner
        return ""


def _belongs(entry: _Entry, data: Any) -> bool:
    if int(data.get("channel_id") or 0) in entry.channels:
        return True
    ids = {int(data.get("message_id") or data.get("id") or 0)}
    ids |= {int(one) for one in data.get("ids") or ()}
    ids.add(int((data.get("message_reference") or {}).get("message_id") or 0))
    return bool(ids & entry.sent)


def _message(data: Any) -> tuple[int, set[int]]:
    """The message of a component, and all that may stand for it: its id, and that of the
    interaction that it answers."""
    message = data.get("message")
    if not message:
        return _ANY, set()
    ids = {int(message["id"])}
    for name in ("interaction_metadata", "interaction"):
        answered = message.get(name)
        if answered:
            ids.add(int(answered["id"]))
            original = answered.get("original_response_message_id")  # of a followup
            if original:
                ids.add(int(original))
    return int(message["id"]), ids


def _user(data: Any) -> int:
    user = data["member"]["user"] if data.get("member") else data["user"]
    return int(user["id"])


def _sum(known: Waits, more: Waits) -> Waits:
    return structs.replace(
        known,
        **{
            field: tuple(dict.fromkeys((*getattr(known, field), *getattr(more, field))))
            for field in ("shards", "components", "modals", "sent", "channels", "kinds")
        },
    )
