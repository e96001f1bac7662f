"""``@shard_node.cooldown`` on commands of disnake: counted once, raising disnake's own error."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import disnake
import pytest
from disnake.ext import commands

import shard_node
from shard_node import lone
from shard_node.errors import BotLoadError
from tests.support.aio import async_test


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> lone.LoneNode:
    node = lone.LoneNode()
    monkeypatch.setattr(lone, "_current", node)
    return node


def context(author: int, guild: int | None = 1) -> Any:
    made = object.__new__(commands.Context)
    made.author = SimpleNamespace(id=author)  # type: ignore[assignment]
    made.message = SimpleNamespace(author=made.author)  # type: ignore[assignment]
    made.__dict__["guild"] = None if guild is None else SimpleNamespace(id=guild)
    return made


@async_test
async def test_a_bucket_is_a_user_s(alone: lone.LoneNode) -> None:
    calls: list[tuple[int, str]] = []

    @commands.command()
    @shard_node.cooldown(1, 3600, commands.BucketType.user)
    async def daily(ctx: commands.Context[Any], word: str = "x") -> None:
        calls.append((ctx.author.id, word))

    assert list(daily.params) == ["word"]
    await daily.callback(context(1), "a")
    await daily.callback(context(2))
    with pytest.raises(commands.CommandOnCooldown) as cooling:
        await daily.callback(context(1))
    assert calls == [(1, "a"), (2, "x")]
    assert 3590 < cooling.value.retry_after <= 3600
    assert cooling.value.type is commands.BucketType.user
    assert (cooling.value.cooldown.rate, cooling.value.cooldown.per) == (1, 3600)
    assert len(await alone.state.log(filter="AcquireCooldown")) == 2


@async_test
async def test_above_the_command_s_decorator_and_of_a_cog(alone: lone.LoneNode) -> None:
    class Shop(commands.Cog):
        @shard_node.cooldown(1, 30, lambda ctx: "one bucket")
        @commands.command()
        async def buy(self, ctx: commands.Context[Any], item: int) -> None:
            done.append(item)

    done: list[int] = []
    cog = Shop()
    assert "item" in cog.buy.params
    await cog.buy.callback(cog, context(1), 5)
    with pytest.raises(commands.CommandOnCooldown):
        await cog.buy.callback(cog, context(2), 6)
    assert done == [5]
    assert len(await alone.state.log()) == 0


@async_test
async def test_a_slash_command_keeps_its_options() -> None:
    bot = commands.InteractionBot(intents=disnake.Intents.none())
    try:

        @bot.slash_command()
        @shard_node.cooldown(1, 30, commands.BucketType.default)
        async def pay(
            inter: disnake.ApplicationCommandInteraction, to: disnake.User, amount: int
        ) -> None:
            """Pay."""

        assert [option.name for option in pay.body.options] == ["to", "amount"]
        inter: Any = object.__new__(disnake.ApplicationCommandInteraction)
        await pay.callback(inter=inter, to=None, amount=1)
        with pytest.raises(commands.CommandOnCooldown):
            await pay.callback(inter, None, 1)
    finally:
        await bot.close()


def test_what_is_no_command_is_refused() -> None:
    with pytest.raises(BotLoadError):
        shard_node.cooldown(1, 1)(5)
    with pytest.raises(BotLoadError):
        shard_node.cooldown(1, 1)(lambda ctx: None)


@pytest.mark.parametrize(("rate", "per_s"), [(0, 1), (1, 0), (1, float("inf")), ("1", 1)])
def test_a_rate_without_sense_is_refused_where_it_stands(rate: Any, per_s: Any) -> None:
    with pytest.raises(shard_node.BadValue):
        shard_node.cooldown(rate, per_s)
    with pytest.raises(shard_node.BadValue):
        shard_node.cooldown(1, 1, broker_down="perhaps")


@async_test
async def test_without_a_broker_a_long_one_raises_unless_it_is_to_count(
    alone: lone.LoneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(tx: Any, **also: Any) -> Any:
        raise shard_node.BrokerUnavailable("gone")

    @shard_node.cooldown(1, 3600)
    async def daily(ctx: commands.Context[Any]) -> int:
        return 1

    @shard_node.cooldown(1, 3600, broker_down="count")
    async def counted(ctx: commands.Context[Any]) -> int:
        return 1

    monkeypatch.setattr(alone._backend, "commit", gone)
    with pytest.raises(shard_node.BrokerUnavailable):
        await daily(context(1))
    assert await counted(context(1)) == 1
    with pytest.raises(commands.CommandOnCooldown):
        await counted(context(1))


@async_test
async def test_many_at_once_get_no_more_than_the_rate() -> None:
    @shard_node.cooldown(3, 3600, commands.BucketType.guild)
    async def command(ctx: commands.Context[Any]) -> int:
        return 1

    found = await asyncio.gather(
        *(command(context(user)) for user in range(20)), return_exceptions=True
    )
    assert found.count(1) == 3
