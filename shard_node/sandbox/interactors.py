"""Users that interact: slash commands, autocompletion, buttons, selects, modals.

Audited through REST alone (`interactions`); these events carry no nonce.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from shard_node.sandbox import components, gestures
from shard_node.sandbox.archive import Entry, buttons, selects
from shard_node.sandbox.components import Filler
from shard_node.sandbox.crowd import Crowd
from shard_node.sandbox.gestures import Options, Unplayable
from shard_node.sandbox.interactions import Interaction, make_token
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.rest.compose import rest_view
from shard_node.sandbox.state import SandboxState
from shard_node.sandbox.world import SandboxGuild

_SECRET_BITS: Final = 512

Args = dict[str, Any]


class Interactors:
    """One interaction a call. Methods are named like the kinds of play."""

    def __init__(self, state: SandboxState, dice: random.Random, crowd: Crowd) -> None:
        self._state = state
        self._dice = dice
        self._crowd = crowd

    # -- Commands

    def slash(self, guild: SandboxGuild, args: Args) -> bool:
        """``name`` ("config set" names a subcommand) and ``options`` are optional."""
        path = _path(args)
        command = self._dice.choice(self._commands(guild, path[:1]))
        options = Options(guild, self._dice, args.get("options") or {})
        filled = options.of(command.get("options") or [], path[1:])
        data = gestures.slash_data(command, filled, options.resolved)
        return self._in_any_channel(guild, gestures.SLASH, data, str(command["name"]))

    def autocomplete(self, guild: SandboxGuild, args: Args) -> bool:
        """Type in an option that autocompletes; ``name`` and ``options`` as for slash."""
        path = _path(args)
        options = Options(guild, self._dice, args.get("options") or {})
        typing = [
            (command, typed)
            for command in self._commands(guild, path[:1])
            if (typed := options.typed(command.get("options") or [], path[1:])) is not None
        ]
        if not typing:
            raise Unplayable("no such slash command has an option that autocompletes")
        command, typed = self._dice.choice(typing)
        data = gestures.slash_data(command, typed, {})
        return self._in_any_channel(guild, gestures.AUTOCOMPLETE, data, str(command["name"]))

    def _commands(self, guild: SandboxGuild, names: list[str]) -> list[Payload]:
        """The slash commands of this name, or all. Raises Unplayable when there is none."""
        commands = self._state.memory.registry.slash_commands(guild.id)
        fitting = [c for c in commands if not names or c["name"] == names[0]]
        if fitting:
            return fitting
        if not commands:
            raise Unplayable(
                "the bot has registered no slash command",
                "wait until it has synced its commands",
            )
        known = ", ".join(sorted(command["name"] for command in commands))
        raise Unplayable(f"there is no slash command {names[0]!r}", f"there are: {known}")

    def _in_any_channel(self, guild: SandboxGuild, kind: int, data: Payload, name: str) -> bool:
        user_id, channel_id = self._crowd.any_user(guild), self._crowd.any_channel(guild)
        return self._interact(guild, channel_id, user_id, kind, data, name=name)

    # -- Components

    def button(self, guild: SandboxGuild, args: Args) -> bool:
        """Press one of the buttons on the bot's messages; ``custom_id`` picks by prefix."""
        entry, button = self._usable(guild, args, buttons, "button")
        return self._press(guild, entry, gestures.button_data(button))

    def select(self, guild: SandboxGuild, args: Args) -> bool:
        """Choose in a select on the bot's messages; ``custom_id`` and ``values`` are optional."""
        entry, select = self._usable(guild, args, selects, "select")
        options = Options(guild, self._dice, {})
        values = Filler(options, self._dice).picked(select, args.get("values"))
        return self._press(guild, entry, components.select_data(select, values, options.resolved))

    def _usable(
        self,
        guild: SandboxGuild,
        args: Args,
        kind: Callable[[Payload], list[Payload]],
        word: str,
    ) -> tuple[Entry, Payload]:
        bot_id, wanted = self._state.world.bot_id, str(args.get("custom_id") or "")
        archive = self._state.memory.archive
        found = [
            (entry, component)
            for entry, component in archive.pressable(list(guild.channels), bot_id, kind)
            if str(component["custom_id"]).startswith(wanted)
        ]
        if not found:
            raise Unplayable(
                f"there is no such {word} on a message of the bot in guild {guild.id}",
                f"play a slash command that sends {word}s first",
            )
        return self._dice.choice(found)

    def _press(self, guild: SandboxGuild, entry: Entry, data: Payload) -> bool:
        user_id, kind = self._crowd.any_user(guild), gestures.COMPONENT
        return self._interact(guild, entry.channel_id, user_id, kind, data, source=entry)

    def modal(self, guild: SandboxGuild, args: Args) -> bool:
        """Submit the latest modal that the bot has shown; ``custom_id`` picks by prefix,
        ``options`` has values by custom_id."""
        memory, wanted = self._state.memory, str(args.get("custom_id") or "")
        shown = memory.modals.take(guild.id, wanted)
        if shown is None:
            raise Unplayable(
                f"the bot shows no such modal in guild {guild.id}",
                "play a slash command that answers with one first",
            )
        opener, modal = shown
        options = Options(guild, self._dice, {})
        filler = Filler(options, self._dice)
        filled = filler.submitted(modal["components"], args.get("options") or {})
        data = components.modal_data(modal, filled, options.resolved)
        source = None
        if opener.source_id is not None:
            source = memory.archive.find(opener.channel_id, opener.source_id)
        kind = gestures.SUBMIT
        user_id = opener.user_id if opener.user_id in guild.members else None
        if user_id is None:
            raise Unplayable(f"the user who saw the modal has left guild {guild.id}")
        return self._interact(guild, opener.channel_id, user_id, kind, data, source=source)

    # -- The interaction itself

    def _interact(
        self,
        guild: SandboxGuild,
        channel_id: int,
        user_id: int,
        kind: int,
        data: Payload,
        *,
        name: str = "",
        source: Entry | None = None,
    ) -> bool:
        state = self._state
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
        return True


def _path(args: Args) -> list[str]:
    return str(args.get("name") or "").split()
