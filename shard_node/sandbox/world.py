"""The sandbox's world: guilds, channels, members and users, deterministic from a seed.

A guild is built when it is first asked for, so thousands of guilds cost nothing until they
are sent. Guild number k was made at ``base + k * GUILD_STRIDE_MS``: the stride is a prime, so
consecutive guilds fall on the shards in turn for every shard count below it. What belongs to
a guild was made within the stride after it, so an identifier leads back to its guild without
a table.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from shard_node.sandbox import payloads
from shard_node.sandbox.config import SandboxConfig
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.snowflake import EPOCH_MS, TIME_SHIFT, Snowflakes, mix, snowflake

GUILD_STRIDE_MS = 104_729
"""Time between two guilds' creation: the 10,000th prime."""

USER_STRIDE_MS = 7_919
"""Time between two users' creation: the 1,000th prime."""

_YEAR_MS = 31_557_600_000
_GUILD_BASE_MS = 2 * _YEAR_MS
_USER_BASE_MS = _YEAR_MS // 2
_APPLICATION_BASE_MS = _YEAR_MS
USERS_MIN = 1_000

_CHANNEL_AT, _ROLE_AT, _EMOJI_AT = 1, 64, 128
_JOINED_AFTER_MS = 60_000
_CHANNELS: tuple[tuple[str, int], ...] = (
    ("Text", payloads.CATEGORY),
    ("general", payloads.TEXT),
    ("commands", payloads.TEXT),
    ("random", payloads.TEXT),
    ("Voice", payloads.VOICE),
)
_ROLES: tuple[tuple[str, int, int], ...] = (
    ("Member", 0, 0x95A5A6),
    ("Moderator", 1 << 1 | 1 << 2 | 1 << 13, 0x2ECC71),
)
_ADJECTIVES = ("amber", "brisk", "calm", "dusky", "early", "fair", "grand", "hazel", "ivory")
_NOUNS = ("anchor", "bridge", "cove", "delta", "ember", "fjord", "grove", "harbor")
_STATUSES = ("online", "idle", "dnd", "offline")


@dataclass(slots=True)
class SandboxGuild:
    """One guild, mutable: the REST routes and the players change it in place.

    Maps are keyed by integer identifier and hold Discord's raw objects.
    """

    id: int
    name: str
    owner_id: int
    joined_at: str
    roles: dict[int, Payload]
    channels: dict[int, Payload]
    members: dict[int, Payload]
    emojis: dict[int, Payload]
    presences: dict[int, Payload]
    bans: dict[int, Payload] = field(default_factory=dict)
    voice_states: dict[int, Payload] = field(default_factory=dict)
    threads: dict[int, Payload] = field(default_factory=dict)

    def place(self, channel_id: int) -> Payload | None:
        """A channel or thread."""
        return self.channels.get(channel_id) or self.threads.get(channel_id)

    def text_channels(self) -> list[int]:
        """Identifiers of the channels that take messages."""
        return [i for i, channel in self.channels.items() if channel["type"] == payloads.TEXT]

    def summary(self) -> Payload:
        """The guild object as REST gives it: no members, channels or presences."""
        payload = payloads.guild(
            self.id,
            self.name,
            self.owner_id,
            joined_at=self.joined_at,
            member_count=len(self.members),
        )
        payload["roles"] = list(self.roles.values())
        payload["emojis"] = list(self.emojis.values())
        return payload

    def payload(self) -> Payload:
        """The whole guild as GUILD_CREATE carries it to a bot with every intent."""
        return self.create_payload(members=self.members, presences=self.presences)

    def create_payload(
        self, *, members: dict[int, Payload], presences: dict[int, Payload], large: bool = False
    ) -> Payload:
        """GUILD_CREATE with the members and presences that a session may see."""
        payload = self.summary()
        payload["channels"] = list(self.channels.values())
        payload["members"] = list(members.values())
        payload["presences"] = list(presences.values())
        payload["voice_states"] = list(self.voice_states.values())
        payload["threads"] = list(self.threads.values())
        payload["large"] = large
        return payload


class World:
    """Everything that exists, and the bot's own identity and token."""

    def __init__(self, config: SandboxConfig, wall_ms: Callable[[], int]) -> None:
        self._seed = config.seed
        self._members_mean = config.members_per_guild
        self._users = max(USERS_MIN, 2 * config.members_per_guild)
        self._base_ms = _GUILD_BASE_MS + mix(config.seed, 1) % (_YEAR_MS // 12)
        self._token_generation = 0
        self._guild_ids: dict[int, None] = {}
        self._guilds: dict[int, SandboxGuild] = {}
        self._dm_channels: dict[int, Payload] = {}
        self._next_guild = 0
        self.wall_ms = wall_ms
        self.snowflakes = Snowflakes(wall_ms)
        self.application_id = snowflake(
            _APPLICATION_BASE_MS + mix(config.seed, 2) % _YEAR_MS, mix(config.seed, 3)
        )
        self.bot_user: Payload = payloads.bot_user(
            self.application_id, "sandbox-bot", _digest(config.seed, "avatar")[:32]
        )
        self.add_guilds(config.guilds)

    # -- Identity

    @property
    def bot_id(self) -> str:
        """The bot's user identifier as JSON carries it."""
        return str(self.application_id)

    @property
    def token(self) -> str:
        """A token of the real shape: base64 of the application, a moment, a signature."""
        digest = hashlib.sha256(f"{self._seed}:token:{self._token_generation}".encode()).digest()
        first = _base64(str(self.application_id).encode())
        moment = _base64(mix(self._seed, 4, self._token_generation).to_bytes(8, "big")[:4])
        return f"{first}.{moment}.{_base64(digest)[:38]}"

    def reset_token(self) -> None:
        """Void the token, as Discord does when the IDENTIFY budget is overspent."""
        self._token_generation += 1

    # -- Guilds

    def guild_ids(self) -> list[int]:
        """The guilds that the bot is in, oldest first."""
        return list(self._guild_ids)

    def __contains__(self, guild_id: int) -> bool:
        return guild_id in self._guild_ids

    def __len__(self) -> int:
        return len(self._guild_ids)

    def guild(self, guild_id: int) -> SandboxGuild:
        """A guild of the bot, built on first use. KeyError: the bot is not in it."""
        if guild_id not in self._guild_ids:
            raise KeyError(guild_id)
        found = self._guilds.get(guild_id)
        if found is None:
            found = self._guilds[guild_id] = self._build_guild(guild_id)
        return found

    def view(self, guild_id: int) -> SandboxGuild:
        """A guild to read only: one that nobody touched is built and not kept."""
        return self._guilds.get(guild_id) or self._build_guild(guild_id)

    def add_guilds(self, count: int) -> list[int]:
        """Put the bot in ``count`` new guilds; their identifiers."""
        first, self._next_guild = self._next_guild, self._next_guild + count
        added = [self._guild_id(number) for number in range(first, self._next_guild)]
        self._guild_ids.update(dict.fromkeys(added))
        return added

    def remove_guild(self, guild_id: int) -> None:
        """Take the bot out of a guild. KeyError: it is not in it."""
        del self._guild_ids[guild_id]
        self._guilds.pop(guild_id, None)

    def guild_of_channel(self, channel_id: int) -> int | None:
        """The guild that holds a channel; None for a direct message or nothing at all."""
        number = ((channel_id >> TIME_SHIFT) - self._base_ms) // GUILD_STRIDE_MS
        if 0 <= number < self._next_guild:
            guild_id = self._guild_id(number)
            if guild_id in self._guild_ids and self.guild(guild_id).place(channel_id):
                return guild_id
        return self._guild_of_new_channel(channel_id)

    def _guild_of_new_channel(self, channel_id: int) -> int | None:
        """Channels and threads made through REST lie in guilds that exist by then."""
        for guild_id, guild in self._guilds.items():
            if guild.place(channel_id):
                return guild_id
        return None

    def _guild_id(self, number: int) -> int:
        ms = self._base_ms + number * GUILD_STRIDE_MS
        return snowflake(ms, mix(self._seed, 5, number))

    def _build_guild(self, guild_id: int) -> SandboxGuild:
        number = ((guild_id >> TIME_SHIFT) - self._base_ms) // GUILD_STRIDE_MS
        joined_at = payloads.timestamp((guild_id >> TIME_SHIFT) + EPOCH_MS + _JOINED_AFTER_MS)
        roles = self._roles(guild_id)
        users = self._member_users(number)
        members = self._members(users, next(reversed(roles)), joined_at)
        creator = members[users[0]]["user"]
        emoji_id = _part(guild_id, _EMOJI_AT)
        return SandboxGuild(
            id=guild_id,
            name=self._guild_name(number),
            owner_id=users[0],
            joined_at=joined_at,
            roles=roles,
            channels=self._channels(guild_id),
            members=members,
            emojis={emoji_id: payloads.emoji(emoji_id, "sandbox", creator)},
            presences=self._presences(guild_id, users),
        )

    def _guild_name(self, number: int) -> str:
        bits = mix(self._seed, 6, number)
        adjective = _ADJECTIVES[bits % len(_ADJECTIVES)]
        return f"{adjective} {_NOUNS[(bits >> 8) % len(_NOUNS)]} {number}"

    def _roles(self, guild_id: int) -> dict[int, Payload]:
        roles = {
            guild_id: payloads.role(
                guild_id, "@everyone", permissions=payloads.EVERYONE_PERMISSIONS
            )
        }
        for index, (name, permissions, color) in enumerate(_ROLES):
            identifier = _part(guild_id, _ROLE_AT + index)
            roles[identifier] = payloads.role(
                identifier, name, position=index + 1, permissions=permissions, color=color
            )
        bot_role = _part(guild_id, _ROLE_AT + len(_ROLES))
        roles[bot_role] = payloads.role(
            bot_role,
            str(self.bot_user["username"]),
            position=len(_ROLES) + 1,
            permissions=payloads.ADMINISTRATOR,
            bot_id=self.application_id,
        )
        return roles

    def _channels(self, guild_id: int) -> dict[int, Payload]:
        category = _part(guild_id, _CHANNEL_AT)
        channels = {}
        for index, (name, kind) in enumerate(_CHANNELS):
            identifier = _part(guild_id, _CHANNEL_AT + index)
            parent = category if kind == payloads.TEXT else None
            channels[identifier] = payloads.channel(
                identifier, guild_id, name, kind=kind, position=index, parent_id=parent
            )
        return channels

    def _member_users(self, number: int) -> list[int]:
        """The users in a guild beside the bot; the first one owns it."""
        bits = mix(self._seed, 7, number)
        count = max(1, self._members_mean // 2 + bits % (self._members_mean + 1) - 1)
        first = (bits >> 16) % self._users
        return [self._user_id((first + step) % self._users) for step in range(count)]

    def _members(self, users: list[int], bot_role: int, joined_at: str) -> dict[int, Payload]:
        members = {
            user_id: payloads.member(self.user(user_id), roles=[], joined_at=joined_at)
            for user_id in users
        }
        members[self.application_id] = payloads.member(
            _public(self.bot_user), roles=[str(bot_role)], joined_at=joined_at
        )
        return members

    def _presences(self, guild_id: int, users: list[int]) -> dict[int, Payload]:
        online: dict[int, Payload] = {}
        for user_id in users:
            status = _STATUSES[mix(self._seed, 8, user_id) % len(_STATUSES)]
            if status != "offline":
                online[user_id] = payloads.presence(user_id, guild_id, status)
        return online

    # -- Users

    def user(self, user_id: int) -> Payload:
        """A user's public object. KeyError: nobody has this identifier."""
        if user_id == self.application_id:
            return _public(self.bot_user)
        number = ((user_id >> TIME_SHIFT) - _USER_BASE_MS) // USER_STRIDE_MS
        if not 0 <= number < self._users or self._user_id(number) != user_id:
            raise KeyError(user_id)
        avatar = _digest(self._seed, f"avatar:{number}")[:32] if number % 2 else None
        return payloads.user(user_id, f"user{number}", avatar=avatar)

    def user_ids(self) -> list[int]:
        """Everybody but the bot."""
        return [self._user_id(number) for number in range(self._users)]

    def user_of_dm(self, channel_id: int) -> int | None:
        """The user behind a channel of direct messages; None when it is not one."""
        number = ((channel_id >> TIME_SHIFT) - _USER_BASE_MS - 1) // USER_STRIDE_MS
        if not 0 <= number < self._users:
            return None
        user_id = self._user_id(number)
        return user_id if int(self.dm_channel(user_id)["id"]) == channel_id else None

    def dm_channel(self, user_id: int) -> Payload:
        """The channel of direct messages with a user. KeyError: nobody has this identifier."""
        found = self._dm_channels.get(user_id)
        if found is None:
            identifier = snowflake((user_id >> TIME_SHIFT) + 1, user_id)
            found = payloads.dm_channel(identifier, self.user(user_id))
            self._dm_channels[user_id] = found
        return found

    def _user_id(self, number: int) -> int:
        ms = _USER_BASE_MS + number * USER_STRIDE_MS
        return snowflake(ms, mix(self._seed, 9, number))


def _part(guild_id: int, offset_ms: int) -> int:
    """The identifier of something made a little after its guild."""
    return snowflake((guild_id >> TIME_SHIFT) + offset_ms, guild_id)


def _public(user: Payload) -> Payload:
    """A user without the fields that only its owner sees."""
    return payloads.user(
        int(user["id"]), user["username"], avatar=user["avatar"], bot=bool(user["bot"])
    )


def _digest(seed: int, label: str) -> str:
    return hashlib.sha256(f"{seed}:{label}".encode()).hexdigest()


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
