"""Drives a client that is not ours against the sandbox and checks what it sees.

Each client is a script of this folder, run in a process of its own:
``script REST_URL zlib|plain GATEWAY_URL GUILDS``, token in the environment. It writes a JSON
line an event and stops when its stdin ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from shard_node.sandbox import payloads
from shard_node.sandbox.snowflake import shard_of
from tests.support.sandbox import Sandbox, eventually

HERE = Path(__file__).parent
WAIT_S = 60.0
SHARDS = 3
GUILDS = 9


class Client:
    """A foreign client's process and what it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.said: list[dict[str, Any]] = []

    async def expect(self, event: str, **fields: Any) -> dict[str, Any]:
        """Read until an event with these fields; it may have come before."""
        async with asyncio.timeout(WAIT_S):
            while not (found := self.all(event, **fields)):
                await self._read()
        return found[0]

    async def expect_count(self, count: int, event: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while len(self.all(event)) < count:
                await self._read()

    def all(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        """Every such event so far."""
        wanted = {"ev": event, **fields}
        return [said for said in self.said if wanted.items() <= said.items()]

    async def _read(self) -> None:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, f"the client ended: {await self.errors()}"
        self.said.append(json.loads(line))

    async def errors(self) -> str:
        assert self._process.stderr is not None
        return (await self._process.stderr.read()).decode()

    async def stop(self) -> str:
        """End the client as its user would; what it wrote to stderr."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            while line := await self._process.stdout.readline():
                self.said.append(json.loads(line))
            errors = await self.errors()
            await self._process.wait()
        return errors


@asynccontextmanager
async def foreign(script: str, box: Sandbox, compression: str) -> AsyncIterator[Client]:
    """The client's process; killed at the end if it has not ended."""
    state = box.state
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "ignore", str(HERE / script)),
        *(state.rest_url, compression, state.gateway_url, str(GUILDS)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "DISCORD_TOKEN": state.world.token},
    )
    try:
        yield Client(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def guild_of(box: Sandbox, shard: int) -> int:
    return next(g for g in box.state.world.guild_ids() if shard_of(g, SHARDS) == shard)


def say(box: Sandbox, content: str, guild_id: int | None) -> None:
    """Somebody writes a message, in a guild or to the bot alone."""
    world = box.state.world
    if guild_id is None:
        author = world.user(world.user_ids()[0])
        channel_id, member = int(world.dm_channel(int(author["id"]))["id"]), None
    else:
        guild = world.guild(guild_id)
        channel_id, member = guild.text_channels()[0], guild.members[guild.owner_id]
        author = member["user"]
    data = payloads.message(
        world.snowflakes.next(),
        channel_id,
        author,
        content,
        guild_id=guild_id,
        member_payload=member,
    )
    assert box.state.hub.dispatch("MESSAGE_CREATE", data, guild_id=guild_id) == 1


async def reaches_ready(client: Client, box: Sandbox) -> None:
    ready = await client.expect("ready")
    await client.expect_count(SHARDS, "shard_ready")
    world, counters = box.state.world, box.state.audit.counters
    assert sorted(ready["guilds"]) == sorted(world.guild_ids())
    assert ready["user"] == world.application_id
    sessions = {(s.shard, s.num_shards) for s in box.state.hub.sessions.values()}
    assert sessions == {(shard, SHARDS) for shard in range(SHARDS)}
    assert (counters["identifies"], counters["identifies_rejected"]) == (SHARDS, 0)


async def receives_messages(client: Client, box: Sandbox, label: str) -> None:
    places = [*(guild_of(box, shard) for shard in range(SHARDS)), None]
    for place in places:
        say(box, f"{label} {place}", place)
    for place in places:
        await client.expect("message", content=f"{label} {place}", guild=place)


async def uses_the_gateway(client: Client, box: Sandbox) -> None:
    guild_id, world = guild_of(box, 1), box.state.world
    for command in ("!members", "!presence", "!voice"):
        say(box, command, guild_id)
    assert (await client.expect("members"))["count"] == 5
    voice = await client.expect("voice", user=world.application_id)
    assert world.guild(guild_id).channels[voice["channel"]]["name"] == "Voice"
    await eventually(
        lambda: any(
            session.presence is not None and session.presence["status"] == "dnd"
            for session in box.state.hub.sessions.values()
        )
    )


async def resumes_after_op_7(client: Client, box: Sandbox) -> None:
    """Every shard resumes its own session; what was said meanwhile comes once."""
    before, counters = set(box.state.hub.sessions), box.state.audit.counters
    identifies, resumes = counters["identifies"], counters["resumes"]
    await box.trouble("reconnect")
    await eventually(lambda: any(not s.connected for s in box.state.hub.sessions.values()))
    await receives_messages(client, box, "during op 7")
    await client.expect_count(SHARDS, "resumed")
    await receives_messages(client, box, "after op 7")
    assert set(box.state.hub.sessions) == before
    assert (counters["identifies"], counters["resumes"]) == (identifies, resumes + SHARDS)


async def resumes_after_a_drop(client: Client, box: Sandbox) -> None:
    resumes = box.state.audit.counters["resumes"]
    await box.trouble("drop", shard=1)
    await eventually(lambda: box.state.audit.counters["resumes"] == resumes + 1)
    await receives_messages(client, box, "after the drop")


async def identifies_after_op_9(client: Client, box: Sandbox) -> None:
    counters = box.state.audit.counters
    identifies = counters["identifies"]
    await box.trouble("invalid_session", shard=1)
    async with asyncio.timeout(WAIT_S):
        while counters["identifies"] == identifies or len(box.state.hub.sessions) < SHARDS:
            await asyncio.sleep(0.01)
    await receives_messages(client, box, "after op 9")


async def joins_and_leaves(client: Client, box: Sandbox) -> None:
    assert not client.all("guild_join"), "startup guilds are no joins"
    (added,) = (await box.trouble("add_guilds"))["guilds"]
    await client.expect("guild_join", guild=int(added))
    await box.trouble("remove_guilds", guilds=[added])
    await client.expect("guild_remove", guild=int(added))


async def exercise(script: str, box: Sandbox, compression: str) -> None:
    """The whole of it; the client must not have logged an error."""
    async with foreign(script, box, compression) as client:
        await reaches_ready(client, box)
        await receives_messages(client, box, "hello")
        await uses_the_gateway(client, box)
        await resumes_after_op_7(client, box)
        await resumes_after_a_drop(client, box)
        await joins_and_leaves(client, box)
        await identifies_after_op_9(client, box)
        errors = await client.stop()
    contents = [said["content"] for said in client.all("message")]
    assert len(contents) == len(set(contents)), "a message came twice"
    counters = box.state.audit.counters
    assert counters["identifies_rejected"] == counters["resumes_failed"] == 0
    other = "plain" if compression == "zlib" else "zlib"
    assert counters[f"connections_{compression}"] > SHARDS
    assert counters[f"connections_{other}"] == 0
    assert "Traceback" not in errors, errors
    await eventually(lambda: not box.state.hub.sessions)
