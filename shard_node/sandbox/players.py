"""Users that do things in guilds: slash commands, buttons, messages and changes.

How an answer is recognised:

- Slash commands and buttons: the interaction's callback (`interactions`).
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

from shard_node.sandbox import changes, gestures, payloads
from shard_node.sandbox import intents as intent
from shard_node.sandbox.archive import Entry
from shard_node.sandbox.changes import Event
from shard_node.sandbox.gestures import Unplayable
from shard_node.sandbox.interactions import Interaction, make_token
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.rest.compose import note_last_message, rest_view
from shard_node.sandbox.state import SandboxState
from shard_node.sandbox.world import SandboxGuild

ASKING: Final = "!ping {id}"
CHATTER: Final = "nothing to see here"
STATUSES: Final = ("online", "idle", "dnd", "offline")
_COLOR_MAX: Final = 0xFFFFFF
_SECRET_BITS: Final = 512
_MEMBER_CACHE_MAX: Final = 4096

Args = dict[str, Any]


class Players:
    """Everybody but the bot. One act a call; the arguments of a kind are read from ``args``."""

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._dice = random.Random(state.config.seed)
        self._users_of: dict[int, tuple[int, list[int]]] = {}

    def play(self, kind: str, guild_id: int | None, args: Args) -> bool:
        """Do it once; False when no session's intents ask for the event.

        Raises Unplayable, and KeyError for a guild that the bot is not in.
        """
        act = _KINDS.get(kind)
        if act is None:
            raise Unplayable(f"there is no kind {kind!r}", f"there are: {', '.join(_KINDS)}")
        chosen = self._any_guild() if guild_id is None else guild_id
        return act(self, self._state.world.guild(chosen), args)

    def _any_guild(self) -> int:
        ids = self._state.world.guild_ids()
        if not ids:
            raise Unplayable("the bot is in no guild", "shardctl sandbox add-guilds 1")
        return self._dice.choice(ids)

    def _any_user(self, guild: SandboxGuild) -> int:
        """A member that is not the bot; the list is rebuilt when the members have changed."""
        count, users = self._users_of.get(guild.id, (-1, []))
        if count != len(guild.members):
            users = [u for u in guild.members if u != self._state.world.application_id]
            if len(self._users_of) >= _MEMBER_CACHE_MAX:
                self._users_of.clear()
            self._users_of[guild.id] = (len(guild.members), users)
        if not users:
            raise Unplayable(f"guild {guild.id} has no member but the bot")
        chosen = self._dice.choice(users)
        if chosen in guild.members:
            return chosen
        del self._users_of[guild.id]
        return self._any_user(guild)

    def _any_channel(self, guild: SandboxGuild) -> int:
        channels = guild.text_channels()
        if not channels:
            raise Unplayable(f"guild {guild.id} has no text channel")
        return self._dice.choice(channels)

    # -- Interactions

    def slash(self, guild: SandboxGuild, args: Args) -> bool:
        """``name`` ("config set" names a subcommand) and ``options`` are optional."""
        name = str(args.get("name") or "")
        path = name.split()
        command = self._command(guild, path[0] if path else None)
        options = gestures.Options(guild, self._dice, args.get("options") or {})
        filled = options.of(command.get("options") or [], path[1:])
        data = gestures.slash_data(command, filled, options.resolved)
        channel_id = self._any_channel(guild)
        self._interact(guild, channel_id, gestures.SLASH, data, name=str(command["name"]))
        return True

    def _command(self, guild: SandboxGuild, name: str | None) -> Payload:
        commands = self._state.memory.registry.slash_commands(guild.id)
        fitting = [c for c in commands if name is None or c["name"] == name]
        if fitting:
            return self._dice.choice(fitting)
        if not commands:
            raise Unplayable(
                "the bot has registered no slash command",
                "wait until it has synced its commands",
            )
        names = ", ".join(sorted(command["name"] for command in commands))
        raise Unplayable(f"there is no slash command {name!r}", f"there are: {names}")

    def button(self, guild: SandboxGuild, args: Args) -> bool:
        """Press one of the buttons on the bot's messages; ``custom_id`` picks by prefix."""
        bot_id = self._state.world.bot_id
        wanted = str(args.get("custom_id") or "")
        found = [
            (entry, button)
            for entry, button in self._state.memory.archive.pressable(list(guild.channels), bot_id)
            if str(button["custom_id"]).startswith(wanted)
        ]
        if not found:
            raise Unplayable(
                f"there is no such button on a message of the bot in guild {guild.id}",
                "play a slash command that sends buttons first",
            )
        entry, button = self._dice.choice(found)
        data = gestures.button_data(button)
        self._interact(guild, entry.channel_id, gestures.COMPONENT, data, source=entry)
        return True

    def _interact(
        self,
        guild: SandboxGuild,
        channel_id: int,
        kind: int,
        data: Payload,
        *,
        name: str = "",
        source: Entry | None = None,
    ) -> None:
        state, user_id = self._state, self._any_user(guild)
        identifier, now = state.world.snowflakes.next(), state.now()
        token = make_token(identifier, f"{self._dice.getrandbits(_SECRET_BITS):x}")
        payload = gestures.interaction(
            identifier,
            token,
            kind,
            data,
            application_id=state.world.application_id,
            guild=guild,
            channel_id=channel_id,
            user_id=user_id,
        )
        if source is not None:
            payload["message"] = rest_view(source.payload)
        source_id = None if source is None else source.id
        opened = Interaction(
            identifier, token, kind, guild.id, channel_id, user_id, now, source_id, name
        )
        state.audit.interactions.open(opened, now)
        state.hub.dispatch("INTERACTION_CREATE", payload, guild_id=guild.id)

    # -- Messages

    def message(self, guild: SandboxGuild, args: Args) -> bool:
        """``content`` and ``asks`` (true) are optional."""
        user_id, channel_id = self._any_user(guild), self._any_channel(guild)
        return self._say(user_id, channel_id, guild, args)

    def direct(self, guild: SandboxGuild, args: Args) -> bool:
        """A direct message of a member; ``content`` and ``asks`` (true) are optional."""
        user_id = self._any_user(guild)
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
        user_id = self._any_user(guild)
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
        return self._tell(changes.set_presence(guild, self._any_user(guild), status), guild.id)

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
    "slash": Players.slash,
    "button": Players.button,
    "message": Players.message,
    "dm": Players.direct,
    "member": Players.member,
    "role": Players.role,
    "presence": Players.presence,
}
KINDS: Final = tuple(_KINDS)
