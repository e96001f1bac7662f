"""What a route's handler gets and gives: one call, its ids looked up, its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from shard_node.sandbox import faults
from shard_node.sandbox.archive import Entry
from shard_node.sandbox.changes import Event
from shard_node.sandbox.faults import ApiError, invalid_field
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.state import SandboxState
from shard_node.sandbox.world import SandboxGuild

_ID_MAX: Final = (1 << 64) - 1
_YES: Final = ("1", "true")


class Upload(NamedTuple):
    """One file of a multipart body; what is in it is counted and thrown away."""

    field: str
    filename: str
    content_type: str
    size_bytes: int


@dataclass(frozen=True)
class Reply:
    """An answer with a status or body of its own; ``json`` None is an empty body."""

    status: int = 204
    json: Any = None
    raw: bytes = b""
    content_type: str = "application/json"


@dataclass(slots=True)
class Call:
    """One request: path parameters, query, JSON body, files, and the state."""

    state: SandboxState
    params: Mapping[str, str]
    query: Mapping[str, str]
    now: float
    body: Any = None
    files: list[Upload] = field(default_factory=list)
    reason: str | None = None

    # -- What the request names

    def id(self, name: str) -> int:
        """A path parameter as an identifier; ``@me`` is the bot. Raises 50035."""
        text = self.params[name]
        if text == "@me":
            return self.state.world.application_id
        return parse_id(name, text)

    def form(self) -> dict[str, Any]:
        """The body as an object; no body is an empty one."""
        if self.body is None:
            return {}
        if not isinstance(self.body, dict):
            raise invalid_field("_", "DICT_TYPE_CONVERT", "Only dictionaries may be used")
        return self.body

    def items(self) -> list[Any]:
        """The body as a list."""
        if not isinstance(self.body, list):
            raise invalid_field("_", "LIST_TYPE_CONVERT", "Only iterables may be used")
        return self.body

    def flag(self, name: str) -> bool:
        """A query parameter that is on or off."""
        return self.query.get(name, "").lower() in _YES

    def limit(self, default: int, most: int) -> int:
        """Query parameter ``limit`` between 1 and ``most``. Raises 50035."""
        text = self.query.get("limit", str(default))
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise invalid_field(
                "limit", "NUMBER_TYPE_RANGE", f"int value should be between 1 and {most}."
            )
        return int(text)

    def query_id(self, name: str) -> int | None:
        """A query parameter that holds an identifier."""
        text = self.query.get(name)
        return None if text is None else parse_id(name, text)

    # -- What it finds

    def guild(self) -> SandboxGuild:
        """The guild of the path. Raises 10004."""
        try:
            return self.state.world.guild(self.id("guild"))
        except KeyError:
            raise ApiError(faults.UNKNOWN_GUILD) from None

    def member(self, guild: SandboxGuild) -> tuple[int, Payload]:
        """Id and raw member of the path's user in a guild. Raises 10007, 10013."""
        user_id = self.id("user")
        member = guild.members.get(user_id)
        if member is None:
            self.user(user_id)
            raise ApiError(faults.UNKNOWN_MEMBER)
        return user_id, member

    def user(self, user_id: int) -> Payload:
        """A user's public object. Raises 10013."""
        try:
            return self.state.world.user(user_id)
        except KeyError:
            raise ApiError(faults.UNKNOWN_USER) from None

    def channel(self) -> tuple[Payload, int | None]:
        """The channel of the path and its guild (None: direct). Raises 10003."""
        channel_id = self.id("channel")
        guild_id = self.state.world.guild_of_channel(channel_id)
        place = None if guild_id is None else self.state.world.guild(guild_id).place(channel_id)
        if place is not None:
            return place, guild_id
        direct = self.state.memory.direct(channel_id)
        if direct is None:
            raise ApiError(faults.UNKNOWN_CHANNEL)
        return direct, None

    def message(self) -> Entry:
        """The message of the path. Raises 10003, 10008."""
        channel, _ = self.channel()
        entry = self.state.memory.archive.find(int(channel["id"]), self.id("message"))
        if entry is None or entry.hidden:
            raise ApiError(faults.UNKNOWN_MESSAGE)
        return entry

    # -- What it tells

    def dispatch(self, events: list[Event], guild_id: int | None) -> None:
        """Tell every session of what the request changed. Such events are not audited."""
        for event, data in events:
            self.state.hub.dispatch(event, data, guild_id=guild_id)


Handler = Callable[[Call], Any]


class Route(NamedTuple):
    """One row of the REST surface. ``exempt``: the global limit leaves it alone."""

    method: str
    path: str
    handler: Handler
    needs_token: bool = True
    exempt: bool = False


def parse_id(name: str, text: object) -> int:
    """A snowflake from outside. Raises 50035."""
    if not isinstance(text, str | int) or not str(text).isdecimal() or int(text) > _ID_MAX:
        raise invalid_field(name, "NUMBER_TYPE_COERCE", f'Value "{text}" is not snowflake.')
    return int(text)
