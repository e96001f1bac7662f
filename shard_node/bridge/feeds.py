"""Discord's events into the shared state: members, users, roles, entitlements.

Only the fields that a bot declared (``node.feed``), and of those only what changed, become
transactions; every shard can read them then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple

from disnake import Permissions

from shard_node.bridge.entitlements import Entitlements
from shard_node.bridge.reports import and_then
from shard_node.errors import ShardNodeError
from shard_node.shared.feeds import member_fields, role_fields, user_fields
from shard_node.shared.primitives import Primitives
from shard_node.shared.records import Records
from shard_node.state.errors import NotThere, OpIdReused, StateError

_log = logging.getLogger(__name__)

WAITING_MAX: Final = 50_000
"""Records whose changes wait to be told; beyond, the oldest are dropped and counted."""
AT_ONCE: Final = 128
"""Changes of one transaction."""
REASON: Final = "told by Discord"
_ONLY_ROLES: Final = frozenset({"name", "position", "color"})
"""Fields that tell a role's record from that of a user's permissions."""


class Waiting(NamedTuple):
    """What becomes of a record. ``anew``: what was there goes first; ``fields`` None: it stays
    away then."""

    anew: bool
    fields: dict[str, Any] | None


Change = tuple[Records, tuple[int, ...], Waiting]


class Feeds:
    """Watches the events of one bot for ``node``. ``state`` is disnake's ConnectionState."""

    def __init__(self, node: Primitives, state: Any) -> None:
        self._node, self._state = node, state
        self.dropped = 0
        self.entitlements = Entitlements(node)
        self._waiting: dict[tuple[Records, tuple[int, ...]], Waiting] = {}
        self._worker: asyncio.Task[None] | None = None
        for event, seen in self._seen().items():
            if event in state.parsers:
                state.parsers[event] = and_then(state.parsers[event], seen)

    def _seen(self) -> dict[str, Callable[[Any], None]]:
        return {
            "GUILD_CREATE": self._guild,
            "GUILD_MEMBERS_CHUNK": self._members,
            "GUILD_MEMBER_ADD": self._member,
            "GUILD_MEMBER_UPDATE": self._member,
            "GUILD_MEMBER_REMOVE": self._member_gone,
            "GUILD_ROLE_CREATE": self._role,
            "GUILD_ROLE_UPDATE": self._role,
            "GUILD_ROLE_DELETE": self._role_gone,
            "ENTITLEMENT_CREATE": self._entitlement,
            "ENTITLEMENT_UPDATE": self._entitlement,
            "ENTITLEMENT_DELETE": self._entitlement_gone,
        }

    # --- events

    def _guild(self, data: Any) -> None:
        """Everything that the guild brings along: what changed while nobody looked."""
        if data.get("unavailable") or not self._node.interests:
            return
        guild_id = int(data["id"])
        for role in data.get("roles", ()):
            self._role_of(guild_id, role)
        for member in data.get("members", ()):
            self._member_of(guild_id, member)
        self._stale(guild_id, data)

    def _members(self, data: Any) -> None:
        """Of a large guild they come later."""
        for member in data.get("members", ()):
            self._member_of(int(data["guild_id"]), member)

    def _member(self, data: Any) -> None:
        self._member_of(int(data["guild_id"]), data)

    def _member_of(self, guild_id: int, data: Any) -> None:
        wants, user = self._node.interests, data["user"]
        if wants.members:
            fields = member_fields(data, wants.members)
            if "permissions" in wants.members:
                fields |= self._permissions(guild_id, data.get("roles", ()), int(user["id"]))
            self._changed(self._node.members, (guild_id, int(user["id"])), fields)
        if wants.users:
            self._changed(self._node.users, (int(user["id"]),), user_fields(user, wants.users))

    def _member_gone(self, data: Any) -> None:
        if self._node.interests.members:
            ids = (int(data["guild_id"]), int(data["user"]["id"]))
            self._put(self._node.members, ids, None)

    def _role(self, data: Any) -> None:
        guild_id = int(data["guild_id"])
        self._role_of(guild_id, data["role"])
        if "permissions" in self._node.interests.members:
            self._members_of_role(guild_id, int(data["role"]["id"]))

    def _role_of(self, guild_id: int, role: Any) -> None:
        fields = role_fields(role, self._node.interests.permissions)
        self._changed(self._node.permissions, (guild_id, int(role["id"])), fields)

    def _role_gone(self, data: Any) -> None:
        if self._node.interests.permissions:
            ids = (int(data["guild_id"]), int(data["role_id"]))
            self._put(self._node.permissions, ids, None)

    def _members_of_role(self, guild_id: int, role_id: int) -> None:
        """Their permissions follow from their roles."""
        guild = self._state._get_guild(guild_id)
        for member in () if guild is None else guild.members:
            roles = [role.id for role in member.roles]
            if role_id in roles:
                fields = self._permissions(guild_id, roles, member.id)
                self._changed(self._node.members, (guild_id, member.id), fields)

    def _permissions(self, guild_id: int, roles: Any, user_id: int) -> dict[str, Any]:
        """In the whole guild (Discord, Topics: Permissions, "computing base permissions")."""
        guild = self._state._get_guild(guild_id)
        if guild is None:
            return {}
        held = [guild.default_role, *(guild.get_role(int(role)) for role in roles)]
        bits = 0
        for role in held:
            bits |= 0 if role is None else role.permissions.value
        if guild.owner_id == user_id or Permissions(bits).administrator:
            bits = Permissions.all().value
        return {"permissions": bits}

    # --- entitlements

    def _entitlement(self, data: Any) -> None:
        self.entitlements.put(data, gone=False)

    def _entitlement_gone(self, data: Any) -> None:
        self.entitlements.put(data, gone=True)

    # --- what a guild no longer has

    def _stale(self, guild_id: int, data: Any) -> None:
        """Roles, and members where all came along, that went while nobody looked. A record with
        a field that no event feeds is somebody's own, and stays."""
        wants, node = self._node.interests, self._node
        roles = {int(role["id"]) for role in data.get("roles", ())}
        if roles and wants.permissions & _ONLY_ROLES:
            self._gone(node.permissions, guild_id, roles, wants.permissions, _ONLY_ROLES)
        members = {int(member["user"]["id"]) for member in data.get("members", ())}
        if wants.members and 0 < data.get("member_count", 0) <= len(members):
            self._gone(node.members, guild_id, members, wants.members, wants.members)

    def _gone(
        self,
        target: Records,
        guild_id: int,
        there: set[int],
        wanted: frozenset[str],
        needed: frozenset[str],
    ) -> None:
        try:
            kept = list(target.of(guild_id))
        except ShardNodeError:  # not readable yet
            return
        for (_, one), fields in kept:
            if one not in there and fields.keys() <= wanted and fields.keys() & needed:
                self._put(target, (guild_id, one), None)

    # --- on their way

    def _changed(self, target: Records, ids: tuple[int, ...], fields: dict[str, Any]) -> None:
        if fields:
            self._put(target, ids, fields)

    def _put(self, target: Records, ids: tuple[int, ...], fields: dict[str, Any] | None) -> None:
        """What waits for the same record goes with it."""
        key = (target, ids)
        waits = self._waiting.pop(key, None)
        if waits is None and len(self._waiting) >= WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1
        if waits is not None and fields is not None:
            fields = (waits.fields or {}) | fields
        self._waiting[key] = Waiting(fields is None or (waits is not None and waits.anew), fields)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._waiting:
            keys = list(islice(self._waiting, AT_ONCE))
            count = len(keys)
            changes = [(*key, self._waiting.pop(key)) for key in keys]
            try:
                await self._tell(changes)
            except StateError:  # one spoils the others: each by itself
                for change in changes:
                    await _quietly(partial(self._alone, change))
            except ShardNodeError as error:
                _log.warning("%d changes of Discord's are not in the state: %s", count, error)
            except Exception:
                _log.exception("changes of Discord's could not be told")

    async def _alone(self, change: Change) -> None:
        try:
            await self._tell([change])
        except NotThere:  # somebody deleted it first
            target, ids, (_, fields) = change
            if fields:
                await self._tell([(target, ids, Waiting(False, fields))])

    async def _tell(self, changes: list[Change]) -> None:
        """Those that are changes, as one transaction."""
        async with self._node.transaction(reason=REASON) as tx:
            for target, ids, (anew, fields) in changes:
                known = _known(target, ids)
                into = getattr(tx, target.name)
                if anew and known is not None:
                    into.delete(*ids)
                    known = None
                new = {
                    n: v
                    for n, v in (fields or {}).items()
                    if known is None or n not in known or known[n] != v
                }
                if new:
                    into.update(*ids, **new)


def _known(target: Records, ids: tuple[int, ...]) -> dict[str, Any] | None:
    try:
        return target.get(*ids)
    except ShardNodeError:  # not readable yet: the whole change is told
        return {}


async def _quietly(tell: Callable[[], Any]) -> None:
    """A change that cannot be told is logged and harms no event."""
    try:
        await tell()
    except (NotThere, OpIdReused):  # another shard's node told it first
        pass
    except ShardNodeError as error:
        _log.warning("a change of Discord's did not get into the state: %s", error)
    except Exception:
        _log.exception("a change of Discord's could not be read")
