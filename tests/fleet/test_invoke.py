"""Commands of a real bot, run for an operator and for another node, on a real fleet."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shard_node
from shard_node import Broadcast, ShardDisconnect, ShardReady
from shard_node.wire.bodies import RoutesRequest
from shard_node.wire.topics import ROUTES
from tests.support.fleet import Fleet

pytestmark = pytest.mark.slow

BOT = Path(__file__).resolve().parents[1] / "bots" / "invoker.py"
EVENT_MAX_S = 60.0


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The example bot with a cog, 4 shards on 2 nodes."""
    with Fleet(tmp_path_factory.mktemp("invoke"), "invoke") as fleet:
        shutil.copy(BOT, fleet.bot_folder / "main.py")
        fleet.start("main.py")
        yield fleet


@pytest.fixture(scope="module")
def guilds(fleet: Fleet) -> dict[str, str]:
    """A guild of each node's."""
    node_of = {shard["id"]: shard["node"] for shard in fleet.status()["shards"]}
    return {node_of[guild["shard"]]: guild["id"] for guild in fleet.control("guilds")}


def invoke(fleet: Fleet, *args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(fleet.run("invoke", *args, "--json", check=True).stdout)
    return found


def said(found: dict[str, Any]) -> list[str]:
    return [reply["content"] for reply in found["replies"]]


@pytest.mark.parametrize("node", ["a", "b"])
def test_slash_commands_run_where_their_guild_is(
    fleet: Fleet, guilds: dict[str, str], node: str
) -> None:
    guild = guilds[node]
    pong = invoke(fleet, guild, "ping")
    shard = (int(guild) >> 22) % 4
    assert (pong["node"], pong["shard"], pong["error"]) == (node, shard, None)
    assert said(pong) == [f"pong from shard {shard} on node {node}"]
    assert said(invoke(fleet, guild, "add", "left=1", "right=-3")) == ["-2"]
    census = invoke(fleet, guild, "census")
    assert said(census)[0].startswith("10 guilds and ")
    assert invoke(fleet, guild, "button")["replies"][0]["components"]


def test_prefix_commands_run_in_any_members_name(fleet: Fleet, guilds: dict[str, str]) -> None:
    guild = guilds["b"]
    assert said(invoke(fleet, guild, "!ping")) == ["pong"]
    roles = fleet.run("invoke", guild, "roles", check=True)
    assert roles.stdout.startswith("@everyone")
    assert "!roles on node b" in roles.stderr


def test_nothing_of_it_reaches_discord(fleet: Fleet, guilds: dict[str, str]) -> None:
    """The broker asks for the budget now and then: what a command sends, it sends each time."""
    found = []
    for _ in range(3):
        fleet.control("audit?reset=1")
        invoke(fleet, guilds["a"], "census")
        invoke(fleet, guilds["b"], "!ping")
        found.append(fleet.audit()["rest_requests"])
    assert 0 in found


def test_a_cog_runs_a_command_on_another_node(fleet: Fleet, guilds: dict[str, str]) -> None:
    for here, there in (("a", "b"), ("b", "a")):
        answer = invoke(fleet, guilds[here], "relay", f"guild={guilds[there]}", "command=ping")
        shard = (int(guilds[there]) >> 22) % 4
        pong = f"pong from shard {shard} on node {there}"
        assert said(answer) == [f"node {here} asked node {there}: {pong}"]
    refused = said(invoke(fleet, guilds["a"], "relay", f"guild={guilds['b']}", "command=pong"))
    assert refused == ["node a: E_NOT_FOUND COMMAND_EXEC: the bot has no command 'pong'"]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["pong"], 4, ["no command 'pong'", "did you mean ping"]),
        (["add", "left=1"], 2, ["/add needs right", "usage: /add left=INTEGER right=INTEGER"]),
        (["add", "left=x", "right=1"], 2, ["'x' is no integer"]),
        (["ping", "--as", "5"], 4, ["user 5 is no member"]),
        (["broken"], 1, ["error[E_COMMAND_FAILED]: the command failed: LookupError: nothing"]),
    ],
)
def test_what_cannot_be_run_is_told(
    fleet: Fleet, guilds: dict[str, str], args: list[str], code: int, words: list[str]
) -> None:
    done = fleet.run("invoke", guilds["a"], *args)
    assert (done.returncode, done.stdout) == (code, "")
    for word in words:
        assert word in done.stderr


def test_a_guild_that_is_not_there_is_told_as_where_does(fleet: Fleet) -> None:
    done, where = fleet.run("invoke", "12", "ping"), fleet.run("where", "12")
    assert done.returncode == where.returncode == 4
    assert done.stderr == where.stderr


def test_shards_and_broadcasts_are_heard_by_bots_and_programs(
    fleet: Fleet, guilds: dict[str, str]
) -> None:
    """Last: it kills a node."""
    asyncio.run(_heard(fleet, guilds["a"]))
    log = (fleet.paths.logs_dir / "node-a.log").read_text()
    for line in ("there from a", "shard 3 lost on b", "shard 3 ready on b"):
        assert f"heard: {line}" in log


async def _heard(fleet: Fleet, guild: str) -> None:
    events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    async with shard_node.connect(fleet.paths.endpoint, "watcher") as node:
        for topic in (ShardReady, ShardDisconnect, Broadcast):
            node.on(topic, lambda message: events.put_nowait((message.sender, message.body)))
        await node.ask(ROUTES, RoutesRequest())  # answered after the subscription
        await asyncio.to_thread(invoke, fleet, guild, "tell", "what=there")
        assert await _next(events) == ("a", Broadcast({"what": "there", "from": "a"}))
        await asyncio.to_thread(fleet.kill, "node:b")
        for shard in (2, 3):
            lost = ShardDisconnect(shard, 4, 0, False, "node b ended")
            assert await _next(events) == ("b", lost)
        for shard in (2, 3):
            assert await _next(events) == ("b", ShardReady(shard, 4, 5, resumed=True))


async def _next(events: asyncio.Queue[tuple[str, Any]]) -> tuple[str, Any]:
    return await asyncio.wait_for(events.get(), EVENT_MAX_S)


def test_a_guild_is_seen_from_anywhere(fleet: Fleet, guilds: dict[str, str]) -> None:
    """By a program, by the node that has it, and by the other one."""
    with shard_node.sync.connect(fleet.paths.endpoint) as client:
        for node, guild in guilds.items():
            seen = client.fetch_guild(int(guild))
            assert (seen.id, seen.node, seen.num_shards) == (int(guild), node, 4)
            assert seen.shard == (int(guild) >> 22) % 4
            assert seen.channels
            assert seen.role(int(guild)) is not None  # @everyone
            assert seen.channel(seen.channels[0].id) == seen.channels[0]
            for other in guilds:
                told = client.request(shard_node.Node(other), "see", int(guild), reply=list)
                assert told == [seen.name, len(seen.channels), seen.member_count]
        absent = int(guilds["a"]) + (4 << 22) * 10**6
        with pytest.raises(LookupError, match=f"in no guild {absent}"):
            client.fetch_guild(absent)
