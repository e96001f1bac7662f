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


@async_test
async def test_many_events_are_few_transactions(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        state = State()
        Feeds(node, state)
        node.feed(members=("nick", "roles"), users=("name",))
        members = [member("n") | {"user": {"id": str(n), "username": "u"}} for n in range(1, 301)]
        guild = {"id": str(GUILD), "roles": [], "members": members}
        state.parsers["GUILD_CREATE"](guild)
        await until(lambda: node.users.get(300))
        assert len(await node.state.log()) <= 6
        before = (await node.state.log(limit=1))[0].id
        for number in range(50):
            state.parsers["GUILD_MEMBER_UPDATE"](member(f"nick {number}"))
        await until(lambda: (node.members.get(GUILD, USER) or {}).get("nick") == "nick 49")
        records = await node.state.log(after=before)
        assert len(records) == 1
        assert [op["fields"] for op in records[0].ops] == [{"nick": "nick 49"}]


@async_test
async def test_members_of_a_large_guild_come_in_chunks(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        state = State()
        state.parsers["GUILD_MEMBERS_CHUNK"] = lambda data: None
        Feeds(node, state)
        node.feed(members=("nick",))
        chunk = {"guild_id": str(GUILD), "members": [member("a")]}
        state.parsers["GUILD_MEMBERS_CHUNK"](chunk)
        await until(lambda: node.members.get(GUILD, USER) == {"nick": "a"})


@async_test
async def test_what_a_guild_no_longer_has_goes_and_ones_own_stays(
    kind: str, tmp_path: Path
) -> None:
    async with api(kind, tmp_path) as node:
        state = State()
        Feeds(node, state)
        node.feed(members=("nick",), permissions=("name", "permissions"))
        await node.permissions.update(GUILD, 1, name="gone", permissions=1)
        await node.permissions.update(GUILD, 2, permissions=1)
        await node.permissions.update(GUILD, 3, name="mine", permissions=1, note="x")
        await node.permissions.update(GUILD + 1, 1, name="other", permissions=1)
        await node.members.update(GUILD, 5, nick="left")
        await node.members.update(GUILD, 6, nick="left", note="x")
        guild = {
            "id": str(GUILD), "roles": [role("x", 4)], "members": [member("n")], "member_count": 2,
        }  # fmt: skip
        state.parsers["GUILD_CREATE"](guild)
        await until(lambda: node.permissions.get(GUILD, 1) is None)
        assert node.members.get(GUILD, 5)
        state.parsers["GUILD_CREATE"](guild | {"member_count": 1})
        await until(lambda: node.members.get(GUILD, 5) is None)
        assert node.members.get(GUILD, 6)
        assert node.members.get(GUILD, USER)
        for guild_id, target in ((GUILD, 2), (GUILD, 3), (GUILD + 1, 1), (GUILD, ROLE)):
            assert node.permissions.get(guild_id, target)


@async_test
async def test_one_change_that_cannot_be_spoils_no_other(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        state = State()
        Feeds(node, state)
        node.feed(members=("nick",), users=("name",))
        state.parsers["GUILD_MEMBER_UPDATE"](member("x" * (100 << 10), name="good"))
        await until(lambda: node.users.get(USER) == {"name": "good"})
        assert node.members.get(GUILD, USER) is None


def slowly(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits take a moment, as a disk does, so that events come while one is on its way."""
    backend = node._sink.backend
    commit = backend.commit

    async def later(tx: Any, **also: Any) -> Any:
        await asyncio.sleep(0.01)
        return await commit(tx, **also)

    monkeypatch.setattr(backend, "commit", later)


async def told(feeds: Feeds) -> None:
    """All that came is in the state, or was refused."""
    workers = (feeds._worker, feeds.entitlements._worker)
    await until(lambda: all(worker is None or worker.done() for worker in workers))


@async_test
async def test_events_while_one_is_on_its_way(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Discord said last is what stays, whatever was told when it came."""
    async with api(kind, tmp_path) as node:
        state = State()
        feeds = Feeds(node, state)
        node.feed(members=["nick"])
        slowly(node, monkeypatch)
        joined, changed, left = (
            state.parsers[f"GUILD_MEMBER_{name}"] for name in ("ADD", "UPDATE", "REMOVE")
        )
        joined(member("A"))
        await told(feeds)
        changed(member("B"))
        await asyncio.sleep(0)  # it is on its way
        changed(member("A"))
        await told(feeds)
        assert node.members.get(GUILD, USER) == {"nick": "A"}
        await node.members.update(GUILD, USER, own="x")
        left(member())
        joined(member("B"))
        await told(feeds)
        assert node.members.get(GUILD, USER) == {"nick": "B"}
        left(member())
        await asyncio.sleep(0)
        joined(member("B"))
        await told(feeds)
        assert node.members.get(GUILD, USER) == {"nick": "B"}
        joined(member("C"))
        left(member())
        await told(feeds)
        assert node.members.get(GUILD, USER) is None


def entitlement(number: int = 99, ends_in_s: float | None = None, **also: Any) -> Any:
    ends = None
    if ends_in_s is not None:
        ends = datetime.fromtimestamp(time.time() + ends_in_s, UTC).isoformat()
    return {
        "id": str(number), "sku_id": "7", "user_id": str(USER), "ends_at": ends, "deleted": False
    } | also  # fmt: skip


@async_test
async def test_an_entitlement_ends_its_own_tier_only(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        state, who = State(), f"user:{USER}"
        feeds = Feeds(node, state)
        node.premium.tier_of_sku[7] = "gold"
        given, changed, gone = (
            state.parsers[f"ENTITLEMENT_{name}"] for name in ("CREATE", "UPDATE", "DELETE")
        )
        await node.premium.grant(who, "gold", source="a prize")
        for event in (given, changed, gone):
            event(entitlement())
            await told(feeds)
        assert node.premium.source(who, "gold") == "a prize"
        assert node.premium.tiers(who) == {"gold": None}
        await node.premium.revoke(who)
        given(entitlement(1, 3600))
        await told(feeds)
        given(entitlement(2, 7200))
        await told(feeds)
        assert node.premium.source(who, "gold") == "entitlement:2"
        gone(entitlement(1))
        changed(entitlement(1, 10))
        await told(feeds)
        assert node.premium.tiers(who)["gold"] == pytest.approx(time.time() + 7200, abs=5)
        changed(entitlement(2, 60))
        await told(feeds)
        assert node.premium.tiers(who)["gold"] == pytest.approx(time.time() + 60, abs=5)
        changed(entitlement(2, -1))
        await told(feeds)
        assert not node.premium.is_active(who)


@async_test
async def test_a_revoked_tier_is_given_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event counts, also one that says what was said before."""
    async with api(kind, tmp_path) as node:
        state, who = State(), f"user:{USER}"
        feeds = Feeds(node, state)
        slowly(node, monkeypatch)
        given, gone = (state.parsers[f"ENTITLEMENT_{name}"] for name in ("CREATE", "DELETE"))
        for _ in range(2):
            given(entitlement())
            await told(feeds)
            assert node.premium.is_active(who, "sku:7")
            await node.premium.revoke(who)
        given(entitlement())
        await asyncio.sleep(0)  # it is on its way
        gone(entitlement())
        await told(feeds)
        assert not node.premium.is_active(who)
        before = len(await node.state.log())
        given(entitlement())
        await told(feeds)
        given(entitlement())
        await told(feeds)
        assert len(await node.state.log()) == before + 1
