"""Handlers that are methods of cogs."""

from __future__ import annotations

from typing import Any

import pytest
from disnake.ext.commands import Cog

import shard_node
from shard_node.bridge import cogs
from shard_node.peer.api import Peer


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
