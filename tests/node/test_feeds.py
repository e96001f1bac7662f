"""Discord's events into the shared state: declared fields only, what changed only."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import shard_node
from shard_node.bridge.feeds import Feeds
from tests.node.shared_states import API, api
from tests.peer.nodes import until
from tests.support.aio import async_test

pytestmark = pytest.mark.parametrize("kind", API)
GUILD, USER, ROLE = 11, 22, 33


class State:
    """Of disnake's ConnectionState what the feeds take hold of."""

    def __init__(self) -> None:
        self.parsers: dict[str, Any] = dict.fromkeys(
            (
                "GUILD_CREATE", "GUILD_MEMBER_ADD", "GUILD_MEMBER_UPDATE", "GUILD_MEMBER_REMOVE",
                "GUILD_ROLE_CREATE", "GUILD_ROLE_UPDATE", "GUILD_ROLE_DELETE",
                "ENTITLEMENT_CREATE", "ENTITLEMENT_UPDATE", "ENTITLEMENT_DELETE",
            ),
            lambda data: None,
        )  # fmt: skip

    def _get_guild(self, _id: int) -> None:
        return None


def member(nick: str | None = None, *, roles: tuple[int, ...] = (), name: str = "u") -> Any:
    return {
        "guild_id": str(GUILD),
        "user": {"id": str(USER), "username": name, "global_name": None, "avatar": None},
        "nick": nick,
        "roles": list(map(str, roles)),
        "joined_at": "2026-01-01T00:00:00+00:00",
        "communication_disabled_until": None,
    }


def role(name: str, permissions: int) -> Any:
    return {"id": str(ROLE), "name": name, "permissions": str(permissions), "color": 1}


@async_test
async def test_members_users_and_roles(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        state = State()
        Feeds(node, state)
        say = state.parsers
        say["GUILD_MEMBER_UPDATE"](member("nobody asked"))
        node.feed(members=("nick", "roles", "joined_at"), users="name")
        node.feed(permissions=("name", "permissions"))
        say["GUILD_MEMBER_ADD"](member("a", roles=(5, 4)))
        await until(lambda: node.users.get(USER))
        joined_at = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
        assert node.members.get(GUILD, USER) == {
            "nick": "a", "roles": [4, 5], "joined_at": joined_at,
        }  # fmt: skip
        assert node.users.get(USER) == {"name": "u"}
        say["GUILD_MEMBER_UPDATE"](member("a", roles=(4, 5)))
        say["GUILD_MEMBER_UPDATE"](member("b", roles=(4, 5)))
        await until(lambda: node.members.version(GUILD, USER) == 2)
        last = (await node.state.log(limit=1))[0]
        assert last.ops[0]["fields"] == {"nick": "b"}
        say["GUILD_ROLE_CREATE"]({"guild_id": str(GUILD), "role": role("mods", 8)})
        await until(lambda: node.permissions.get(GUILD, ROLE))
        assert node.permissions.get(GUILD, ROLE) == {"name": "mods", "permissions": 8}
        say["GUILD_ROLE_DELETE"]({"guild_id": str(GUILD), "role_id": str(ROLE)})
        say["GUILD_MEMBER_REMOVE"](member())
        await until(lambda: node.members.get(GUILD, USER) is None)
        await until(lambda: node.permissions.get(GUILD, ROLE) is None)


@async_test
async def test_a_guild_brings_what_changed_meanwhile(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        state = State()
        Feeds(node, state)
        node.feed(members=["nick"], permissions=["permissions"])
        guild = {"id": str(GUILD), "roles": [role("x", 4)], "members": [member("n")]}
        state.parsers["GUILD_CREATE"]({"id": "1", "unavailable": True})
        state.parsers["GUILD_CREATE"](guild)
        await until(lambda: node.members.get(GUILD, USER))
        assert node.permissions.get(GUILD, ROLE) == {"permissions": 4}
        before = len(await node.state.log())
        state.parsers["GUILD_CREATE"](guild)
        await asyncio.sleep(0.05)
        assert len(await node.state.log()) == before


@async_test
async def test_entitlements_are_premium(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        state, who = State(), f"user:{USER}"
        Feeds(node, state)
        node.premium.tier_of_sku[7] = "gold"
        entitlement: dict[str, Any] = {
            "id": "99", "sku_id": "7", "user_id": str(USER), "ends_at": None, "deleted": False,
        }  # fmt: skip
        state.parsers["ENTITLEMENT_CREATE"](entitlement)
        await until(lambda: node.premium.is_active(who, "gold"))
        assert node.premium.tiers(who) == {"gold": None}
        ends = datetime.fromtimestamp(time.time() + 3600, UTC)
        state.parsers["ENTITLEMENT_UPDATE"](entitlement | {"ends_at": ends.isoformat()})
        await until(lambda: node.premium.tiers(who).get("gold") is not None)
        assert node.premium.tiers(who)["gold"] == pytest.approx(ends.timestamp(), abs=5)
        state.parsers["ENTITLEMENT_DELETE"](entitlement)
        await until(lambda: not node.premium.is_active(who))
        state.parsers["ENTITLEMENT_CREATE"](
            {"id": "98", "sku_id": "8", "guild_id": str(GUILD), "ends_at": None}
        )
        await until(lambda: node.premium.is_active(f"guild:{GUILD}", "sku:8"))


@async_test
async def test_a_field_that_no_event_has_is_refused(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        for wrong in ({"members": ["nik"]}, {"users": "roles"}, {"permissions": ["nick"]}):
            with pytest.raises(shard_node.BadValue):
                node.feed(**wrong)
