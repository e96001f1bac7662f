"""Payloads of what users do to a bot: slash commands with valid options, button presses. Pure.

Source: Discord documentation, "Interactions: Receiving and Responding" and "Application
Commands: Option Type".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeVar

from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.world import SandboxGuild

SLASH, COMPONENT, AUTOCOMPLETE, SUBMIT = 2, 3, 4, 5
BUTTON: Final = 2
SUB_COMMAND, SUB_GROUP, STRING, INTEGER, BOOLEAN = 1, 2, 3, 4, 5
USER, CHANNEL, ROLE, MENTIONABLE, NUMBER, ATTACHMENT = 6, 7, 8, 9, 10, 11
INTEGER_MAX_DEFAULT: Final = 100
ALL_PERMISSIONS: Final = str((1 << 50) - 1)
MEMBER_PERMISSIONS: Final = "2248473465835073"
UPLOAD_MAX_BYTES: Final = 10 << 20
_WORDS: Final = ("amber", "birch", "coral", "dune", "elm", "fern", "gale", "heath")
_TRIES_OF_OPTIONAL: Final = 0.5

T = TypeVar("T")


class Dice(Protocol):
    """What is used of `random.Random`."""

    def random(self) -> float: ...
    def randint(self, a: int, b: int) -> int: ...
    def choice(self, seq: Sequence[T]) -> T: ...


class Unplayable(ValueError):
    """What is asked cannot be done in this world; ``hint`` says what would help."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Options:
    """Valid values for one command's options, and the objects that they name (`resolved`)."""

    def __init__(self, guild: SandboxGuild, dice: Dice, given: dict[str, Any]) -> None:
        self._guild = guild
        self._dice = dice
        self._given = given
        self.resolved: dict[str, dict[str, Payload]] = {}

    def of(self, options: list[Payload], path: Sequence[str] = ()) -> list[Payload]:
        """Filled options; ``path`` names the subcommand to take, else one is drawn."""
        if options and options[0]["type"] in (SUB_COMMAND, SUB_GROUP):
            return [self._subcommand(options, path)]
        return [self._filled(option) for option in options if self._is_wanted(option)]

    def _subcommand(self, options: list[Payload], path: Sequence[str]) -> Payload:
        fitting = [o for o in options if not path or o["name"] == path[0]]
        if not fitting:
            names = ", ".join(option["name"] for option in options)
            raise Unplayable(f"there is no subcommand {path[0]!r}", f"there are: {names}")
        chosen = self._dice.choice(fitting)
        inner = self.of(chosen.get("options") or [], path[1:])
        return {"name": chosen["name"], "type": chosen["type"], "options": inner}

    def typed(self, options: list[Payload], path: Sequence[str] = ()) -> list[Payload] | None:
        """Options while a user types in one that autocompletes; None when none does."""
        for option in options:
            if option["type"] in (SUB_COMMAND, SUB_GROUP):
                fits = not path or option["name"] == path[0]
                inner = self.typed(option.get("options") or [], path[1:]) if fits else None
                if inner is not None:
                    return [{"name": option["name"], "type": option["type"], "options": inner}]
            elif option.get("autocomplete"):
                text = str(self._given.get(option["name"], self._dice.choice(_WORDS)[:2]))
                kind = option["type"]
                return [{"name": option["name"], "type": kind, "value": text, "focused": True}]
        return None

    def _is_wanted(self, option: Payload) -> bool:
        if option.get("required") or option["name"] in self._given:
            return True
        return self._dice.random() < _TRIES_OF_OPTIONAL

    def _filled(self, option: Payload) -> Payload:
        if option["name"] in self._given:
            value = _converted(option, self._given[option["name"]])
            self.name(option["type"], str(value))
        else:
            value = self._value(option)
        return {"name": option["name"], "type": option["type"], "value": value}

    def _value(self, option: Payload) -> Any:
        choices = option.get("choices")
        if choices:
            return self._dice.choice(choices)["value"]
        kind = option["type"]
        if kind in (STRING, BOOLEAN):
            return self.text(option) if kind == STRING else self._dice.random() < 0.5
        if kind in (INTEGER, NUMBER):
            return self._quantity(option)
        return self.thing(option)

    def text(self, option: Payload) -> str:
        """A text within an option's lengths."""
        most = option.get("max_length") or 6000
        text = self._dice.choice(_WORDS)[:most]
        return text.ljust(option.get("min_length") or 1, "x")

    def _quantity(self, option: Payload) -> float:
        low = option.get("min_value")
        high = option.get("max_value")
        low = min(0, high) if low is None and high is not None else low or 0
        high = low + INTEGER_MAX_DEFAULT if high is None else high
        if option["type"] == NUMBER:
            return round(low + (high - low) * self._dice.random(), 2)
        return self._dice.randint(int(low), int(high))

    def thing(self, option: Payload) -> str:
        """The id of something of an option's type, drawn and resolved."""
        kind = option["type"]
        if kind in (USER, MENTIONABLE):
            identifier = self._dice.choice(list(self._guild.members))
        elif kind == CHANNEL:
            identifier = self._dice.choice(self._channels(option.get("channel_types") or []))
        elif kind == ROLE:
            identifier = self._dice.choice(list(self._guild.roles))
        else:
            identifier = self._dice.randint(1 << 60, 1 << 61)
        self._resolve(kind, identifier)
        return str(identifier)

    def _channels(self, kinds: list[int]) -> list[int]:
        found = [
            identifier
            for identifier, channel in self._guild.channels.items()
            if not kinds or channel["type"] in kinds
        ]
        if not found:
            raise Unplayable(f"guild {self._guild.id} has no channel of types {kinds}")
        return found

    def name(self, kind: int, text: str) -> None:
        """Resolve what somebody named by its id. Raises Unplayable."""
        if kind in (USER, MENTIONABLE, CHANNEL, ROLE):
            try:
                self._resolve(kind, int(text))
            except (KeyError, ValueError):
                raise Unplayable(f"guild {self._guild.id} has nothing with id {text}") from None

    def _resolve(self, kind: int, identifier: int) -> None:
        key, guild = str(identifier), self._guild
        if kind in (USER, MENTIONABLE):
            member = guild.members[identifier]
            partial = {k: v for k, v in member.items() if k not in ("user", "deaf", "mute")}
            self._put("users", key, member["user"])
            self._put("members", key, {**partial, "permissions": MEMBER_PERMISSIONS})
        elif kind == CHANNEL:
            channel = guild.channels[identifier]
            self._put("channels", key, {**channel, "permissions": ALL_PERMISSIONS})
        elif kind == ROLE:
            self._put("roles", key, guild.roles[identifier])
        else:
            self._put("attachments", key, _attachment(key))

    def _put(self, kind: str, key: str, value: Payload) -> None:
        self.resolved.setdefault(kind, {})[key] = value


def slash_data(command: Payload, options: list[Payload], resolved: dict[str, Any]) -> Payload:
    """``data`` of a slash command's interaction."""
    data: Payload = {"id": command["id"], "name": command["name"], "type": command["type"]}
    if "guild_id" in command:
        data["guild_id"] = command["guild_id"]
    if options:
        data["options"] = options
    if resolved:
        data["resolved"] = resolved
    return data


def button_data(button: Payload) -> Payload:
    """``data`` of a button press."""
    return {
        "custom_id": button["custom_id"],
        "component_type": BUTTON,
        "id": button.get("id", 1),
    }


def interaction(
    identifier: int,
    token: str,
    kind: int,
    data: Payload,
    *,
    application_id: int,
    guild: SandboxGuild,
    channel_id: int,
    user_id: int,
) -> Payload:
    """An interaction object as INTERACTION_CREATE carries it for a guild."""
    return {
        "id": str(identifier),
        "application_id": str(application_id),
        "type": kind,
        "data": data,
        "guild_id": str(guild.id),
        "guild": {"id": str(guild.id), "locale": "en-US", "features": []},
        "guild_locale": "en-US",
        "channel_id": str(channel_id),
        "channel": {**guild.channels[channel_id], "permissions": ALL_PERMISSIONS},
        "member": {**guild.members[user_id], "permissions": MEMBER_PERMISSIONS},
        "token": token,
        "version": 1,
        "locale": "en-US",
        "app_permissions": ALL_PERMISSIONS,
        "entitlements": [],
        "entitlement_sku_ids": [],
        "authorizing_integration_owners": {"0": str(guild.id)},
        "context": 0,
        "attachment_size_limit": UPLOAD_MAX_BYTES,
    }


def _converted(option: Payload, value: Any) -> Any:
    """A value that a person gave, perhaps as text, in the option's type."""
    kind = option["type"]
    try:
        if kind == BOOLEAN:
            return str(value).lower() in ("true", "1", "yes")
        if kind in (INTEGER, NUMBER):
            return int(value) if kind == INTEGER else float(value)
    except (TypeError, ValueError):
        raise Unplayable(f"option {option['name']!r} takes no {value!r}") from None
    return value if kind == ATTACHMENT else str(value)


def _attachment(identifier: str) -> Payload:
    url = f"https://cdn.discordapp.com/ephemeral-attachments/{identifier}/file.txt"
    return {
        "id": identifier,
        "filename": "file.txt",
        "size": 12,
        "content_type": "text/plain",
        "url": url,
        "proxy_url": url,
        "ephemeral": True,
    }
