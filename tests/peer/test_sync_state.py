"""The shared state from code that does not await."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

import shard_node
from shard_node import sync
from tests.node.shared_states import StateBroker
from tests.support.waiting import wait_for


class MyConfig(msgspec.Struct):
    prefix: str = "!"


def test_every_primitive_blocks(tmp_path: Path) -> None:
    with (
        StateBroker(f"ipc://{tmp_path}/b.sock") as broker,
        sync.connect(endpoint=broker.endpoint) as node,
    ):
        node.state.sync()
        heard: list[Any] = []
        node.on(shard_node.GuildConfigChanged, lambda message: heard.append(message.body))
        assert node.economy.deposit("a", 5).id == 1
        assert node.economy.balance("a") == 5
        with pytest.raises(shard_node.InsufficientFunds):
            node.economy.transfer("a", "b", 6)
        cfg = node.guild_config(7, MyConfig)
        cfg.update(prefix="?")
        assert (cfg.get().prefix, cfg.version) == ("?", 1)
        wait_for("the change", lambda: heard)
        node.members.update(7, 8, nick="x")
        node.users.update(8, name="y")
        node.permissions.update(7, 9, name="z")
        assert node.members.get(7, 8) == {"nick": "x"}
        node.premium.grant("user:8", "gold")
        assert node.premium.is_active("user:8")
        node.moderation.ban(8, "global", "spam")
        assert node.moderation.is_banned(8)
        assert node.cooldowns.acquire("k", 1, 30)
        assert not node.cooldowns.acquire("k", 1, 30)
        with node.transaction(reason="both") as tx:
            tx.economy.transfer("a", "b", 2)
            tx.users.update(8, name="w")
        assert node.state.log(after=tx.id - 1)[0].reason == "both"
        with pytest.raises(ZeroDivisionError), node.transaction() as broken:
            broken.economy.transfer("a", "b", 1)
            raise ZeroDivisionError
        assert node.economy.balance("a") == 3
        with pytest.raises(AttributeError):
            node.economy.nothing(1)
