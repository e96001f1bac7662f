"""Handlers that are methods of cogs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import disnake
import pytest
from disnake.ext import commands as ext
from disnake.ext.commands import Cog

import shard_node
from shard_node.bridge import cogs
from shard_node.peer.api import Peer
from shard_node.wire.targets import Node
from tests.peer.nodes import make, running, until
from tests.peer.stand_in import StandIn
from tests.support.aio import async_test


class Trades(Cog):
    @shard_node.listen("trade")
    @shard_node.listen("barter")
    async def heard(self, message: Any) -> None: ...

    @shard_node.serve("price")
    def price(self, message: Any) -> int:
        return 1


def test_a_reload_does_not_double_a_handler() -> None:
    peer = Peer(1)
    old = Trades()
    cogs.bind(peer, old)
    cogs.bind(peer, old)
    handlers = peer._plane.handlers
    assert {t: len(h) for t, h in handlers.events.items()} == {"trade": 1, "barter": 1}
    cogs.unbind(peer, old)
    assert not handlers.events and not handlers.services
    new = Trades()
    cogs.bind(peer, new)
    assert handlers.services["price"].call == new.price
    cogs.unbind(peer, old)
    assert handlers.services["price"].call == new.price


def test_a_cog_that_cannot_be_bound_leaves_nothing() -> None:
    peer = Peer(1)
    peer.serve("price", lambda message: 2)
    with pytest.raises(ValueError, match="served already"):
        cogs.bind(peer, Trades())
    assert not peer._plane.handlers.events
    assert len(peer._plane.handlers.services) == 1


# --- with disnake's own loading

EXTENSION = """
import shard_node
from disnake.ext import commands

class Trades(commands.Cog):
    version = {version}

    def __init__(self, bot):
        self.got = bot.got

    @shard_node.listen("trade")
    async def heard(self, message):
        self.got.append((self.version, message.body))

    @shard_node.serve("price")
    def price(self, message):
        return self.version

    @commands.command()
    async def trade(self, ctx): ...

def setup(bot):
    {first}
    bot.add_cog(Trades(bot))
"""


class Shop:
    """A bot's folder with one extension, ``shop``."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "shop.py"

    def write(self, version: int, first: str = "pass") -> None:
        self._file.write_text(EXTENSION.format(version=version, first=first))
        importlib.invalidate_caches()


def bot() -> Any:
    made = ext.Bot(command_prefix=ext.when_mentioned, intents=disnake.Intents.none())
    made.got = []  # type: ignore[attr-defined]
    return made


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setattr(Cog, "_inject", Cog._inject)
    monkeypatch.setattr(Cog, "_eject", Cog._eject)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    monkeypatch.syspath_prepend(tmp_path)
    yield Shop(tmp_path)
    sys.modules.pop("shop", None)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(f"ipc://{tmp_path}/b.sock") as stand_in:
        yield stand_in


@async_test
async def test_an_extension_that_is_loaded_reloaded_and_unloaded(
    shop: Shop, broker: StandIn
) -> None:
    a, b = make(broker.endpoint, "a"), make(broker.endpoint, "b")
    cogs.install(a)
    made = bot()
    async with running(a, b):
        shop.write(1)
        made.load_extension("shop")
        assert await b.request(Node("a"), "price") == 1
        await b.send(Node("a"), "trade", "x")
        shop.write(2)
        made.reload_extension("shop")
        assert await b.request(Node("a"), "price") == 2
        await b.send(Node("a"), "trade", "y")
        assert made.got == [(1, "x"), (2, "y")]
        await until(lambda: broker.topics.get(b"a#1") == ("trade",))
        made.unload_extension("shop")
        with pytest.raises(shard_node.NoHandler):
            await b.request(Node("a"), "price")
        with pytest.raises(shard_node.NoHandler):
            await b.send(Node("a"), "trade", "z")
        await until(lambda: broker.topics.get(b"a#1") == ())


@async_test
async def test_a_reload_that_fails_leaves_the_old_handlers(shop: Shop) -> None:
    peer = Peer(1)
    cogs.install(peer)
    made = bot()
    shop.write(1)
    made.load_extension("shop")
    shop.write(2, first="raise RuntimeError")
    with pytest.raises(ext.ExtensionFailed):
        made.reload_extension("shop")
    handlers = peer._plane.handlers
    assert [len(held) for held in handlers.events.values()] == [1]
    assert handlers.services["price"].call(None) == 1


@async_test
async def test_a_cog_that_disnake_refuses_leaves_no_handler(shop: Shop) -> None:
    peer = Peer(1)
    cogs.install(peer)
    made = bot()

    @made.command()
    async def trade(ctx: Any) -> None: ...

    shop.write(1)
    with pytest.raises(ext.ExtensionFailed, match="trade"):
        made.load_extension("shop")
    assert not peer._plane.handlers.events and not peer._plane.handlers.services


@async_test
async def test_a_cog_whose_name_is_served_leaves_nothing_in_the_bot(shop: Shop) -> None:
    peer = Peer(1)
    peer.serve("price", lambda message: 9)
    cogs.install(peer)
    made = bot()
    shop.write(1)
    with pytest.raises(ext.ExtensionFailed, match="served already"):
        made.load_extension("shop")
    assert made.get_command("trade") is None and not made.cogs
    assert not peer._plane.handlers.events
    peer.unserve("price", peer._plane.handlers.services["price"].call)
    made.load_extension("shop")
    assert peer._plane.handlers.services["price"].call(None) == 1


@async_test
async def test_a_cog_that_takes_the_place_of_another(shop: Shop) -> None:
    peer = Peer(1)
    cogs.install(peer)
    made = bot()
    first, second = Trades(), Trades()
    made.add_cog(first)
    made.add_cog(second, override=True)
    handlers = peer._plane.handlers
    assert handlers.services["price"].call == second.price
    assert {topic: len(held) for topic, held in handlers.events.items()} == {
        "trade": 1,
        "barter": 1,
    }
    made.remove_cog("Trades")
    assert not handlers.events and not handlers.services
