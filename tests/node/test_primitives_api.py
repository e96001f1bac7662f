"""Configurations, members, premium, bans, cooldowns, values, transactions: alone and behind a
broker."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import shard_node
from tests.node.shared_states import API, api
from tests.peer.nodes import until
from tests.support.aio import async_test

pytestmark = pytest.mark.parametrize("kind", API)

GUILD, OTHER, USER = 81384788765712384, 81384788765712385, 80351110224678912


class Level(msgspec.Struct):
    name: str = "new"
    xp: int = 0


class MyConfig(msgspec.Struct):
    prefix: str = "!"
    levels: list[Level] = []
    limits: dict[int, int] = {}
    since: datetime | None = None
    note: str | None = None


@dataclass
class Plain:
    prefix: str = "!"
    roles: list[int] = field(default_factory=list)


# --- configurations


@async_test
async def test_a_configuration_is_typed_and_partial(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        cfg = node.guild_config(GUILD, MyConfig)
        assert (cfg.get(), cfg.version) == (MyConfig(), 0)
        await cfg.update(prefix="?")
        when = datetime(2026, 1, 2, tzinfo=UTC)
        await cfg.update(levels=[Level("a", 3)], limits={7: 8}, since=when, if_version=1)
        found = cfg.get()
        assert found == MyConfig("?", [Level("a", 3)], {7: 8}, when)
        assert cfg.version == 2
        assert await cfg.fetch() == found
        assert node.guild_config(GUILD, Plain).get() == Plain("?")
        assert node.guild_config(GUILD).get()["prefix"] == "?"
        await cfg.reset("prefix")
        assert cfg.get().prefix == "!"
        await cfg.delete()
        assert cfg.get() == MyConfig()
        assert node.guild_config(OTHER, MyConfig).get() == MyConfig()


@async_test
async def test_what_fits_no_configuration_is_refused(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        cfg = node.guild_config(GUILD, MyConfig)
        await cfg.update(prefix="?")
        with pytest.raises(shard_node.BadValue, match="no field 'prefx'") as unknown:
            await cfg.update(prefx="?")
        assert "prefix" in unknown.value.hint
        with pytest.raises(shard_node.BadValue, match="prefix"):
            await cfg.update(prefix=5)
        with pytest.raises(shard_node.BadValue):
            await cfg.update(note=object())
        with pytest.raises(shard_node.BadValue):
            await cfg.update()
        with pytest.raises(shard_node.VersionConflict) as conflict:
            await cfg.update(prefix="x", if_version=7)
        assert conflict.value.details == {"found": 1, "expected": 7}
        with pytest.raises(shard_node.BadName):
            node.guild_config(-1, MyConfig)
        with pytest.raises(shard_node.BadValue, match="default"):
            node.guild_config(GUILD, msgspec.defstruct("NoDefault", [("a", int)]))
        with pytest.raises(shard_node.BadValue):
            node.guild_config(GUILD, int)
        with pytest.raises(shard_node.TooLarge):
            await cfg.update(note="x" * 70_000)
        assert (cfg.version, len(await node.state.log())) == (1, 1)


@async_test
async def test_a_change_is_told_once_with_what_changed(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        heard: list[shard_node.GuildConfigChanged] = []
        watched: list[Any] = []
        node.on(shard_node.GuildConfigChanged, lambda message: heard.append(message.body))
        stop = node.guild_config(OTHER, MyConfig).watch(watched.append)
        cfg = node.guild_config(GUILD, MyConfig)
        await cfg.update(prefix="?", note="x")
        await cfg.update(note="y")
        await cfg.update(note="y")
        await cfg.reset("note")
        await cfg.delete()
        await node.guild_config(OTHER, MyConfig).update(prefix="o")
        await until(lambda: len(heard) == 5)
        assert [(c.guild, c.changed, c.removed) for c in heard] == [
            (GUILD, {"prefix": "?", "note": "x"}, ()),
            (GUILD, {"note": "y"}, ()),
            (GUILD, {}, ("note",)),
            (GUILD, {}, ()),
            (OTHER, {"prefix": "o"}, ()),
        ]
        assert [(c.old_version, c.new_version) for c in heard[:4]] == [
            (0, 1),
            (1, 2),
            (2, 3),
            (3, 0),
        ]
        assert [change.guild for change in watched] == [OTHER]
        stop()
        await node.guild_config(OTHER, MyConfig).update(prefix="p")
        await until(lambda: len(heard) == 6)
        assert len(watched) == 1


# --- members, permissions, users


@async_test
async def test_sync_targets_have_one_shape(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        for target, ids in (
            (node.members, (GUILD, USER)),
            (node.permissions, (GUILD, USER)),
            (node.users, (USER,)),
        ):
            heard: list[Any] = []
            target.watch(heard.append, *ids[:1])
            assert (target.get(*ids), target.version(*ids)) == (None, 0)
            await target.update(*ids, nick="x", roles=[1, 2])
            await target.update(*ids, nick="y", if_version=1)
            assert target.get(*ids) == {"nick": "y", "roles": [1, 2]}
            assert await target.fetch(*ids) == target.get(*ids)
            await target.remove(*ids, fields=("roles",))
            assert target.get(*ids) == {"nick": "y"}
            with pytest.raises(shard_node.VersionConflict):
                await target.update(*ids, nick="z", if_version=1)
            await target.delete(*ids)
            assert target.get(*ids) is None
            with pytest.raises(shard_node.NotThere):
                await target.delete(*ids)
            with pytest.raises(shard_node.BadValue):
                await target.update(*ids, nick=float("nan"))
            with pytest.raises(shard_node.BadValue):
                target.get(*ids, 5)
            await until(lambda heard=heard: len(heard) == 4)
            assert heard[-1].new_version == 0


@async_test
async def test_a_member_s_change_is_member_update_as_well(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        heard: list[Any] = []
        node.on(shard_node.MemberUpdate, lambda message: heard.append(message.body))
        node.on(shard_node.UserUpdate, lambda message: heard.append(message.body))
        node.on(shard_node.GuildInfo, lambda message: heard.append(message.body))
        await node.members.update(GUILD, USER, own="field")
        await node.members.update(GUILD, USER, nick="x", roles=[5])
        await node.users.update(USER, name="someone")
        await node.permissions.update(GUILD, 9, name="mods", permissions=8)
        await until(lambda: len(heard) == 3)
        member, user, guild = heard
        assert (member.guild, member.user, member.changed.nick) == (GUILD, USER, "x")
        assert member.changed.roles == (5,)
        assert (user.user, user.changed.name) == (USER, "someone")
        assert guild.changed.roles[9].permissions == 8


# --- premium and bans


@async_test
async def test_premium_ends_and_is_taken(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        premium, who = node.premium, f"user:{USER}"
        assert not premium.is_active(who)
        until_at = datetime.now(UTC) + timedelta(days=1)
        await premium.grant(who, "gold", until_at)
        await premium.grant(who, "silver")
        assert premium.is_active(who) and premium.is_active(who, "gold")
        ends = premium.tiers(who)
        assert ends["gold"] == pytest.approx(until_at.timestamp(), abs=5)
        assert ends["silver"] is None
        assert await premium.fetch(who) == pytest.approx(ends, abs=1)
        await premium.revoke(who, "gold")
        assert not premium.is_active(who, "gold")
        await premium.revoke(who)
        with pytest.raises(shard_node.NotThere):
            await premium.revoke(who)
        with pytest.raises(shard_node.BadValue):
            await premium.grant(who, "gold", datetime(2020, 1, 1, tzinfo=UTC))
        with pytest.raises(shard_node.BadValue, match="zone"):
            await premium.grant(who, "gold", datetime(2990, 1, 1))
        with pytest.raises(shard_node.BadName):
            await premium.grant("nobody", "gold")
        await premium.grant(who, "short", time.time() + 0.2)
        assert premium.is_active(who)
        await until(lambda: not premium.is_active(who))


@async_test
async def test_bans_of_all_scopes(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        moderation = node.moderation
        heard: list[Any] = []
        moderation.watch(heard.append, USER)
        await moderation.ban(USER, GUILD, "spam", by=5)
        assert moderation.is_banned(USER, GUILD)
        assert not moderation.is_banned(USER, OTHER)
        assert not moderation.is_banned(USER)
        await moderation.ban(USER, "global", "raid", time.time() + 3600)
        assert moderation.is_banned(USER, OTHER)
        found = moderation.get(USER, OTHER)
        assert found is not None and (found.scope, found.reason) == ("global", "raid")
        assert found.until == pytest.approx(time.time() + 3600, abs=5)
        assert await moderation.fetch(USER, OTHER) is not None
        await moderation.unban(USER, "global", "appeal")
        assert not moderation.is_banned(USER, OTHER)
        with pytest.raises(shard_node.NotThere):
            await moderation.unban(USER, "global")
        for reason in ("", "  ", "x" * 600):
            with pytest.raises(shard_node.ReasonRequired):
                await moderation.ban(USER, "global", reason)
        with pytest.raises(shard_node.BadName):
            await moderation.ban(USER, "everywhere", "x")
        kinds = [record.kinds[0] for record in await moderation.history(USER)]
        assert kinds == ["BanUser", "BanUser", "UnbanUser"]
        assert [r.id for r in await moderation.history(USER, after=1, limit=1)] == [2]
        await until(lambda: len(heard) == 3)
        assert [change.scope for change in heard] == [GUILD, "global", "global"]


@async_test
async def test_the_pages_of_a_history_end(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        for number in range(5):
            await node.moderation.ban(USER, "global", f"{number}")
            await node.economy.deposit("a", 1)
        for history, name in ((node.moderation.history, USER), (node.economy.history, "a")):
            found: list[int] = []
            after, pages = 0, 0
            while pages < 9:
                page = await history(name, after=after, limit=2)
                found, after, pages = [*found, *(r.id for r in page)], page.read_to, pages + 1
                if not page.more:
                    break
            assert (found, pages) == ([1, 3, 5, 7, 9] if name == USER else [2, 4, 6, 8, 10], 3)
        last = await node.moderation.history(USER, after=9)
        assert (list(last), last.more, last.read_to) == ([], False, 9)
        newest = await node.moderation.history(USER, limit=2)
        assert ([r.id for r in newest], newest.more) == ([7, 9], True)
        assert (newest.first, newest.last) == (1, 10)
        nobody = await node.moderation.history(OTHER)
        assert (list(nobody), nobody.more) == ([], False)


# --- cooldowns


@async_test
async def test_a_cooldown_in_a_transaction_is_undecided(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        async with node.transaction() as tx:
            use = await tx.cooldowns.acquire("daily", 2, 3600)
            for look in (bool, lambda use: use.remaining, lambda use: use.retry_after_s):
                with pytest.raises(shard_node.BadValue, match="not decided") as undecided:
                    look(use)
                assert undecided.value.hint
            tx.economy.deposit("a", 5)
        assert use and (use.remaining, use.lsn, use.retry_after_s) == (1, tx.id, 0.0)
        assert await node.cooldowns.acquire("daily", 2, 3600)
        with pytest.raises(shard_node.Throttled) as throttled:
            async with node.transaction() as refused:
                late = refused.cooldowns.acquire("daily", 2, 3600)
                refused.economy.deposit("a", 5)
        assert throttled.value.details["retry_after_s"] > 3500
        with pytest.raises(shard_node.BadValue):
            bool(late)
        assert (node.economy.balance("a"), refused.id) == (5, 0)


@async_test
async def test_a_short_cooldown_is_in_no_transaction(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        await node.cooldowns.acquire("k", 1, 60)
        async with node.transaction() as tx:
            with pytest.raises(shard_node.BadValue, match="short") as short:
                tx.cooldowns.acquire("k", 1, 60)
            assert "before the transaction" in short.value.hint
            tx.state.set("a", 1)
        assert not await node.cooldowns.acquire("k", 1, 60)


@async_test
async def test_a_short_cooldown_is_cleared(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        await node.cooldowns.acquire("k", 1, 30)
        assert not await node.cooldowns.acquire("k", 1, 30)
        await node.cooldowns.clear("k")
        assert await node.cooldowns.acquire("k", 1, 30)
        with pytest.raises(shard_node.NotThere):
            await node.cooldowns.clear("other")


@async_test
async def test_what_is_used_up_stays_so_without_a_broker(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with api(kind, tmp_path) as node:
        for key in ("daily", "weekly"):
            await node.cooldowns.acquire(key, 1 + (key == "weekly"), 86_400)
        backend = node._sink.backend

        async def gone(tx: Any, **also: Any) -> Any:
            raise shard_node.BrokerUnavailable("gone")

        monkeypatch.setattr(backend, "commit", gone)
        for up in (False, True):  # known to be gone, or not yet
            monkeypatch.setattr(type(backend), "up", up)
            refused = await node.cooldowns.acquire("daily", 1, 86_400)
            assert not refused and 86_000 < refused.retry_after_s <= 86_400
            assert not await node.cooldowns.acquire("daily", 1, 86_400, broker_down="count")
            for unknown in ("weekly", "new"):
                with pytest.raises(shard_node.BrokerUnavailable):
                    await node.cooldowns.acquire(unknown, 2, 86_400)
            with pytest.raises(shard_node.BrokerUnavailable):
                await node.cooldowns.acquire("daily", 1, 86_400, broker_down="raise")
            assert await node.cooldowns.acquire(f"short {up}", 1, 30)
            assert not await node.cooldowns.acquire(f"short {up}", 1, 30)
            assert await node.cooldowns.acquire(f"counted {up}", 1, 90, broker_down="count")


@async_test
async def test_cooldowns_long_and_short(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        for per_s in (30.0, 3600.0):
            key = f"k{per_s}"
            first = await node.cooldowns.acquire(key, 2, per_s)
            assert isinstance(first, shard_node.Allowed) and first.remaining == 1
            assert bool(first.lsn) == (per_s > 60)
            assert await node.cooldowns.acquire(key, 2, per_s)
            third = await node.cooldowns.acquire(key, 2, per_s)
            assert not third and isinstance(third, shard_node.RetryAfter)
            assert per_s - 5 < third.retry_after_s <= per_s
        await node.cooldowns.clear("k3600.0")
        assert await node.cooldowns.acquire("k3600.0", 2, 3600)
        for rate, per in ((0, 1), (1, 0), (1, -1), (1, float("nan")), (1.5, 1), ("1", 1)):
            with pytest.raises(shard_node.BadValue):
                await node.cooldowns.acquire("x", rate, per)  # type: ignore[arg-type]
        with pytest.raises(shard_node.BadName):
            await node.cooldowns.acquire("", 1, 1)


# --- the state as a whole


@async_test
async def test_values_and_the_log(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        state = node.state
        assert state.get("motd", "none") == "none"
        await state.set("motd", {"text": "hello", "n": [1, None]})
        assert state.get("motd") == {"text": "hello", "n": [1, None]}
        assert (await state.fetch("motd"), state.version("motd")) == (state.get("motd"), 1)
        tx = await state.set("motd", "new", if_version=1)
        with pytest.raises(shard_node.VersionConflict):
            await state.set("motd", "x", if_version=1)
        await state.rollback(tx.id, "wrong", user=USER)
        assert state.get("motd") == {"text": "hello", "n": [1, None]}
        await state.delete("motd")
        records = await state.log(after=0)
        assert [r.kinds[0] for r in records] == ["SetValue", "SetValue", "Rollback", "DeleteValue"]
        assert (records[2].undoes, records[2].reason, records[2].user) == (tx.id, "wrong", USER)
        assert [r.id for r in await state.log(filter="Rollback")] == [3]
        assert [r.id for r in await state.log(filter=("rollback", "DELETEVALUE"))] == [3, 4]
        assert [r.id for r in await state.log(filter={"user": USER})] == [3]
        page = await state.log(after=1, limit=2)
        assert ([r.id for r in page], page.more, page.read_to) == ([2, 3], True, 3)
        assert [r.id for r in await state.log(limit=1)] == [4]
        assert await state.sync(4) == 4
        for wrong in ("Nothing", {"what": 1}, ["Transfer", "X"]):
            with pytest.raises(shard_node.BadValue):
                await state.log(filter=wrong)


@async_test
async def test_what_cannot_be_rolled_back(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        one = await node.state.set("a", 1)
        two = await node.state.set("a", 2)
        with pytest.raises(shard_node.ReasonRequired):
            await node.state.rollback(one.id, " ")
        for unknown in (0, 99, -1):
            with pytest.raises(shard_node.UnknownTransaction):
                await node.state.rollback(unknown, "why")
        with pytest.raises(shard_node.UndoConflict) as conflict:
            await node.state.rollback(one.id, "why")
        assert conflict.value.details["conflicts"] == [two.id]
        forced = await node.state.rollback(one.id, "why", force=True)
        assert forced.results[0]["overwrote"] == [two.id]
        assert node.state.get("a") is None


@async_test
async def test_a_transaction_is_one_record_or_none(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        await node.economy.deposit("a", 10)
        async with node.transaction(user=USER, reason="shop") as tx:
            tx.economy.transfer("a", "shop", 4)
            await tx.members.update(GUILD, USER, bought=True)
            await tx.guild_config(GUILD, MyConfig).update(prefix="?")
            assert node.economy.balance("a") == 10
        assert (tx.id, len(tx.results), node.economy.balance("a")) == (2, 3, 6)
        (record,) = await node.state.log(after=1)
        assert (record.user, record.reason, len(record.ops)) == (USER, "shop", 3)
        with pytest.raises(shard_node.InsufficientFunds):
            async with node.transaction() as refused:
                refused.members.update(GUILD, USER, bought=False)
                refused.economy.transfer("a", "shop", 7)
        assert node.members.get(GUILD, USER) == {"bought": True}
        with pytest.raises(ZeroDivisionError):
            async with node.transaction() as broken:
                broken.economy.transfer("a", "shop", 1)
                raise ZeroDivisionError
        async with node.transaction() as nothing:
            pass
        assert (nothing.id, node.economy.balance("a")) == (0, 6)
        with pytest.raises(shard_node.BadValue):
            nothing.economy.deposit("a", 1)
        await node.state.rollback(tx.id, "returned")
        assert node.members.get(GUILD, USER) is None
        assert node.economy.balance("a") == 10
