"""The primitives of the shared state, on a node, on a client, or in a transaction."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from shard_node.shared.backend import WRITE_TIMEOUT_S
from shard_node.shared.cooldowns import Cooldowns
from shard_node.shared.economy import Economy
from shard_node.shared.feeds import Interests
from shard_node.shared.guild_config import GuildConfig
from shard_node.shared.members import Members
from shard_node.shared.moderation import Moderation
from shard_node.shared.permissions import Permissions
from shard_node.shared.premium import Premium
from shard_node.shared.sinks import Sink
from shard_node.shared.state import SharedState
from shard_node.shared.users import Users
from shard_node.shared.watch import Watching

if TYPE_CHECKING:
    from shard_node.shared.transaction import Transaction

C = TypeVar("C")


class Primitives:
    """All of them, made when they are used first."""

    def __init__(self, sink: Sink, watching: Watching) -> None:
        self._sink, self._watching = sink, watching
        self.interests = Interests()

    def transaction(
        self,
        *,
        user: int = 0,
        reason: str = "",
        idempotency_key: str | int | None = None,
        timeout_s: float = WRITE_TIMEOUT_S,
    ) -> Transaction:
        """Several operations, all or nothing, in one record of the log: ``async with``.

        ``user`` and ``reason`` say on whose behalf and why. With an ``idempotency_key`` it
        happens once, however often it is committed; a key holds for at least the last 65,536
        transactions of the fleet.
        """
        from shard_node.shared.transaction import Transaction

        return Transaction(
            self._sink.backend,
            user=user,
            reason=reason,
            idempotency_key=idempotency_key,
            timeout_s=timeout_s,
        )

    def feed(
        self,
        *,
        members: Iterable[str] = (),
        users: Iterable[str] = (),
        permissions: Iterable[str] = (),
    ) -> None:
        """Keep these fields of what Discord's events tell in ``members``, ``users`` and (of
        roles) ``permissions``, from now on, for all shards to read.

        Of members: nick, roles, permissions (in the whole guild), avatar, joined_at,
        timeout_at, pending; of users: name, global_name, avatar, bot; of roles: name,
        permissions, position, color. The bot needs the intents for the events. What a guild that
        comes no longer has goes too, unless it has fields of the bot's own. Raises BadValue.
        """
        self.interests.declare(members, users, permissions)

    def guild_config(self, guild_id: int, kind: type[C] = dict) -> GuildConfig[C]:  # type: ignore[assignment]
        """A guild's configuration: ``kind`` is a msgspec.Struct or a dataclass whose fields
        have defaults; ``dict`` takes any field. Raises BadName, BadValue."""
        return GuildConfig(self._sink, self._watching, guild_id, kind)

    @cached_property
    def state(self) -> SharedState:
        """The log, rolling back, waiting for others, named values."""
        return SharedState(self._sink, self._watching)

    @cached_property
    def members(self) -> Members:
        """Members of guilds."""
        return Members(self._sink, self._watching)

    @cached_property
    def permissions(self) -> Permissions:
        """Permissions of roles and users in guilds."""
        return Permissions(self._sink, self._watching)

    @cached_property
    def users(self) -> Users:
        """Users."""
        return Users(self._sink, self._watching)

    @cached_property
    def premium(self) -> Premium:
        """Who has premium."""
        return Premium(self._sink, self._watching)

    @cached_property
    def cooldowns(self) -> Cooldowns:
        """Cooldowns across all shards."""
        return Cooldowns(self._sink)

    @cached_property
    def economy(self) -> Economy:
        """Money."""
        return Economy(self._sink)

    @cached_property
    def moderation(self) -> Moderation:
        """Bans."""
        return Moderation(self._sink, self._watching)
