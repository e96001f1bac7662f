"""The example bot's shared state on a real fleet: from shards on different nodes, over the
broker's death."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import shard_node
from shard_node import sync
from shard_node.shared.changes import GuildConfigChanged
from tests.support.fleet import Fleet
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The example bot, 4 shards on 2 nodes."""
    with Fleet(tmp_path_factory.mktemp("shared"), "shared") as fleet:
        fleet.start()
        yield fleet


@pytest.fixture(scope="module")
def guilds(fleet: Fleet) -> dict[str, str]:
    """A guild of each node's."""
    node_of = {shard["id"]: shard["node"] for shard in fleet.status()["shards"]}
    return {node_of[guild["shard"]]: guild["id"] for guild in fleet.control("guilds")}


@pytest.fixture
def client(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[sync.SyncClient]:
    for name in ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "SHARDCTL_FLEET"):
        monkeypatch.setenv(name, fleet.env[name])
    with sync.connect() as node:
        yield node


def say(fleet: Fleet, guild: str, *words: str) -> str:
    """What the bot answers to a command in the guild, in its own name."""
    done = fleet.run("invoke", guild, *words, "--json")
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return " ".join(reply["content"] for reply in found["replies"])


def test_money_is_the_same_on_every_node(
    fleet: Fleet, guilds: dict[str, str], client: sync.SyncClient
) -> None:
    a, b = guilds["a"], guilds["b"]
    assert say(fleet, a, "daily") == "100 coins. You have 100."
    assert say(fleet, b, "balance") == "You have 100 coins."
    assert say(fleet, b, "daily").startswith("Again in ")
    record = client.state.log(filter="Deposit")[-1]
    assert record.node == "a"
    account = record.ops[0]["account"]
    assert client.economy.balance(account) == 100
    client.economy.transfer(account, "shop", 30)
    assert say(fleet, b, "balance") == "You have 70 coins."


def test_a_change_of_a_configuration_is_in_everybodys_hands(
    fleet: Fleet, guilds: dict[str, str], client: sync.SyncClient
) -> None:
    heard: list[Any] = []
    client.on(GuildConfigChanged, lambda message: heard.append(message.body))
    guild = guilds["a"]
    assert say(fleet, guild, "config") == "prefix '!', greeting ''"
    assert say(fleet, guild, "config", "prefix=?") == "prefix '?', greeting ''"
    wait_for("the change", lambda: heard)
    assert (heard[0].guild, heard[0].changed) == (int(guild), {"prefix": "?"})
    client.guild_config(int(guild)).update(greeting="hello")
    assert say(fleet, guild, "config") == "prefix '?', greeting 'hello'"


def test_the_broker_s_death_loses_nothing(
    fleet: Fleet, guilds: dict[str, str], client: sync.SyncClient
) -> None:
    before = client.state.sync()
    for number in range(20):
        client.economy.deposit("till", 1, idempotency_key=f"till {number}")
        if number == 10:
            fleet.kill("broker")
    client.economy.deposit("till", 1, idempotency_key="till 3")
    assert client.economy.balance("till") == 20
    assert len(client.economy.history("till")) == 20
    assert client.state.sync() == before + 20
    assert say(fleet, guilds["b"], "balance").startswith("You have ")
    with pytest.raises(shard_node.InsufficientFunds):
        client.economy.transfer("till", "shop", 21)


def test_a_ban_is_known_on_the_other_node(
    fleet: Fleet, guilds: dict[str, str], client: sync.SyncClient
) -> None:
    client.moderation.ban(80351110224678912, "global", "spam")
    assert client.moderation.is_banned(80351110224678912, int(guilds["b"]))
