"""Users that do things in guilds: interactions, messages and changes.

How an answer is recognised:

- Interactions (`interactors`): the callback (`interactions`).
- Messages that ask (``asks``): a message of the bot that replies to it
  (``message_reference``), or whose content repeats the question's id. The default content is
  ``!ping {id}``; ``{id}`` in a given content is replaced by the message's own id. A message of
  the bot that does neither answers nothing and is counted in ``messages_unasked``.

Events other than interactions carry ``sandbox_nonce`` and are audited through witnesses.
Interactions are audited through REST alone and carry none.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from shard_node.sandbox import changes, payloads
from shard_node.sandbox import intents as intent
from shard_node.sandbox.archive import Entry
from shard_node.sandbox.changes import Event
from shard_node.sandbox.crowd import Crowd
from shard_node.sandbox.gestures import Unplayable
from shard_node.sandbox.interactors import Interactors
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.rest.compose import note_last_message
from shard_node.sandbox.state import SandboxState
from shard_node.sandbox.world import SandboxGuild

ASKING: Final = "!ping {id}"
CHATTER: Final = "nothing to see here"
STATUSES: Final = ("online", "idle", "dnd", "offline")
_COLOR_MAX: Final = 0xFFFFFF

Args = dict[str, Any]


class Players:
    """Everybody but the bot. One act a call; the arguments of a kind are read from ``args``."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._dice = random.Random(state.config.seed)
        self._crowd = Crowd(state.world, self._dice)
        self.interactors = Interactors(state, self._dice, self._crowd)

    def play(self, kind: str, guild_id: int | None, args: Args) -> bool:
        """Do it once; False when no session's intents ask for the event.

        Raises Unplayable, and KeyError for a guild that the bot is not in.
        """
        act = _KINDS.get(kind)
        if act is None:
            raise Unplayable(f"there is no kind {kind!r}", f"there are: {', '.join(_KINDS)}")
        chosen = self._crowd.any_guild() if guild_id is None else guild_id
        return act(self, self._state.world.guild(chosen), args)

    # -- Messages

    def message(self, guild: SandboxGuild, args: Args) -> bool:
        """``content`` and ``asks`` (true) are optional."""
        user_id, channel_id = self._crowd.any_user(guild), self._crowd.any_channel(guild)
        return self._say(user_id, channel_id, guild, args)

    def direct(self, guild: SandboxGuild, args: Args) -> bool:
        """A direct message of a member; ``content`` and ``asks`` (true) are optional."""
        user_id = self._crowd.any_user(guild)
        channel = self._state.memory.open_direct(user_id)
        return self._say(user_id, int(channel["id"]), None, args)

    def _say(self, user_id: int, channel_id: int, guild: SandboxGuild | None, args: Args) -> bool:
        state, asks = self._state, bool(args.get("asks", True))
        identifier = state.world.snowflakes.next()
        content = str(args.get("content") or (ASKING if asks else CHATTER))
        payload = payloads.message(
            identifier,
            channel_id,
            state.world.user(user_id),
            content.replace("{id}", str(identifier)),
            guild_id=guild.id if guild else None,
            member_payload=guild.members[user_id] if guild else None,
        )
        guild_id = guild.id if guild else None
        state.memory.archive.add(Entry(identifier, channel_id, guild_id, payload, chatter=not asks))
        note_last_message(state, channel_id, guild_id, identifier)
        if not self._tell([("MESSAGE_CREATE", payload)], guild_id):
            return False
        if asks:
            state.audit.messages.ask(identifier, state.now())
        return True

    # -- Changes

    def member(self, guild: SandboxGuild, args: Args) -> bool:
        """``action``: update (a nick), add or remove."""
        action = args.get("action", "update")
        if action == "add":
            return self._tell(self._join(guild), guild.id)
        user_id = self._crowd.any_user(guild)
        if action == "remove":
            return self._tell(changes.remove_member(guild, user_id), guild.id)
        _check_action(action, ("update", "add", "remove"))
        nick = {"nick": f"nick {self._dice.randint(1, 9999)}"}
        return self._tell(changes.update_member(guild, user_id, nick), guild.id)

    def _join(self, guild: SandboxGuild) -> list[Event]:
        world = self._state.world
        strangers = [u for u in world.user_ids() if u not in guild.members and u not in guild.bans]
        if not strangers:
            raise Unplayable(f"everybody is in guild {guild.id} already")
        joined_at = payloads.timestamp(self._state.clock.wall_ms())
        return changes.add_member(guild, world.user(self._dice.choice(strangers)), joined_at)

    def role(self, guild: SandboxGuild, args: Args) -> bool:
        """``action``: update (a colour), create or delete."""
        action = args.get("action", "update")
        _check_action(action, ("update", "create", "delete"))
        color = {"color": self._dice.randint(0, _COLOR_MAX)}
        if action == "create":
            identifier = self._state.world.snowflakes.next()
            return self._tell(changes.create_role(guild, identifier, color), guild.id)
        free = [r for r, role in guild.roles.items() if r != guild.id and not role["managed"]]
        if not free:
            raise Unplayable(f"guild {guild.id} has no role to {action}")
        chosen = self._dice.choice(free)
        if action == "delete":
            return self._tell(changes.delete_role(guild, chosen), guild.id)
        return self._tell(changes.update_role(guild, chosen, color), guild.id)

    def presence(self, guild: SandboxGuild, args: Args) -> bool:
        """``status``: online, idle, dnd or offline; drawn when it is missing."""
        status = args.get("status") or self._dice.choice(STATUSES)
        _check_action(status, STATUSES)
        return self._tell(
            changes.set_presence(guild, self._crowd.any_user(guild), status), guild.id
        )

    # -- Telling, audited

    def _tell(self, events: list[Event], guild_id: int | None) -> bool:
        wanted = [self._tell_one(event, data, guild_id) for event, data in events]
        return all(wanted)

    def _tell_one(self, event: str, data: Payload, guild_id: int | None) -> bool:
        """Dispatch with a nonce. What reaches nobody was sent all the same, unless the
        sessions that there are never asked for it."""
        state = self._state
        nonce = state.audit.new_nonce(guild_id)
        data = {**data, "sandbox_nonce": nonce}
        reached = state.hub.dispatch(event, data, guild_id=guild_id)
        if reached or self._is_wanted(event, data, guild_id):
            state.audit.event_sent(nonce, state.now())
            return True
        state.audit.counters["events_unwanted"] += 1
        return False

    def _is_wanted(self, event: str, data: Payload, guild_id: int | None) -> bool:
        """Where no session is, the bot's latest IDENTIFY says what it would have asked for."""
        hub = self._state.hub
        asked = [s.intents for s in hub.sessions.values() if s.owns(guild_id)]
        if not asked and hub.latest_intents is not None:
            asked = [hub.latest_intents]
        direct, bot_id = guild_id is None, self._state.world.bot_id
        return not asked or any(
            intent.receives(bits, event, data, direct=direct, bot_id=bot_id) for bits in asked
        )


def _check_action(action: object, allowed: tuple[str, ...]) -> None:
    if action not in allowed:
        raise Unplayable(f"{action!r} is not possible", f"there are: {', '.join(allowed)}")


_KINDS: Final[dict[str, Callable[[Players, SandboxGuild, Args], bool]]] = {
    "slash": lambda players, *act: players.interactors.slash(*act),
    "autocomplete": lambda players, *act: players.interactors.autocomplete(*act),
    "button": lambda players, *act: players.interactors.button(*act),
    "select": lambda players, *act: players.interactors.select(*act),
    "modal": lambda players, *act: players.interactors.modal(*act),
    "message": Players.message,
    "dm": Players.direct,
    "member": Players.member,
    "role": Players.role,
    "presence": Players.presence,
}
KINDS: Final = tuple(_KINDS)
