"""An event is in the journal before a handler of it takes a step; all events are known."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import disnake
import pytest
from disnake.ext import commands

from shard_node.journal.records import MUTATING
from tests.node.held import Held, held, track
from tests.support.sandbox import core_client, core_state, identify_data

_NOT_MUTATING = """
    APPLICATION_COMMAND_PERMISSIONS_UPDATE AUTO_MODERATION_ACTION_EXECUTION
    AUTO_MODERATION_RULE_CREATE AUTO_MODERATION_RULE_DELETE AUTO_MODERATION_RULE_UPDATE
    ENTITLEMENT_CREATE ENTITLEMENT_DELETE ENTITLEMENT_UPDATE GUILD_AUDIT_LOG_ENTRY_CREATE
    GUILD_BAN_ADD GUILD_BAN_REMOVE GUILD_INTEGRATIONS_UPDATE GUILD_SCHEDULED_EVENT_USER_ADD
    GUILD_SCHEDULED_EVENT_USER_REMOVE INTEGRATION_CREATE INTEGRATION_DELETE INTEGRATION_UPDATE
    INTERACTION_CREATE INVITE_CREATE INVITE_DELETE SUBSCRIPTION_CREATE SUBSCRIPTION_DELETE
    SUBSCRIPTION_UPDATE TYPING_START VOICE_CHANNEL_EFFECT_SEND VOICE_SERVER_UPDATE
    WEBHOOKS_UPDATE
"""
_OF_MESSAGES = """
    MESSAGE_CREATE MESSAGE_DELETE MESSAGE_DELETE_BULK MESSAGE_POLL_VOTE_ADD
    MESSAGE_POLL_VOTE_REMOVE MESSAGE_REACTION_ADD MESSAGE_REACTION_REMOVE
    MESSAGE_REACTION_REMOVE_ALL MESSAGE_REACTION_REMOVE_EMOJI MESSAGE_UPDATE
"""
NOT_MUTATING = frozenset(_NOT_MUTATING.split())
OF_MESSAGES = frozenset(_OF_MESSAGES.split())
"""They change the cache of messages, which is not kept."""
OF_SESSIONS = frozenset({"READY", "RESUMED"})


@pytest.fixture(autouse=True)
def tracked() -> Iterator[None]:
    undo = track()
    yield
    undo()


def test_every_event_of_disnake_is_known_to_change_caches_or_not() -> None:
    async def parsers() -> set[str]:
        bot = commands.AutoShardedInteractionBot(intents=disnake.Intents.none())
        return set(bot._connection.parsers)

    known = (MUTATING, NOT_MUTATING, OF_MESSAGES, OF_SESSIONS)
    assert sum(map(len, known)) == len(frozenset().union(*known))
    assert asyncio.run(parsers()) == frozenset().union(*known)


class World:
    """A sandbox's payloads for one shard."""

    def __init__(self) -> None:
        self.state = core_state(guilds=2, shards=1)
        self.client = core_client(self.state)
        self.first = self.client.send(2, identify_data(self.state, (0, 1)))
        self.first += self.client.pump()
        self.user = self.first[0]["d"]["user"]
        self.guild = self.state.world.guild(self.state.world.guild_ids()[0])
        self.seq = self.first[-1]["s"]

    def event(self, name: str, **data: Any) -> dict[str, Any]:
        self.seq += 1
        return {"op": 0, "t": name, "s": self.seq, "d": data}

    def message(self) -> dict[str, Any]:
        member = next(one for one in self.guild.members.values() if not one["user"].get("bot"))
        return self.event(
            "MESSAGE_CREATE",
            id=str((1 << 60) + self.seq), channel_id=str(next(iter(self.guild.channels))),
            guild_id=str(self.guild.id), author=member["user"], content="hello", type=0,
            timestamp="2024-01-01T00:00:00+00:00", edited_timestamp=None, tts=False,
            mention_everyone=False, mentions=[], mention_roles=[], attachments=[], embeds=[],
            pinned=False, flags=0, components=[],
        )  # fmt: skip

    def role(self) -> dict[str, Any]:
        role = {**next(iter(self.guild.roles.values())), "id": str((1 << 59) + self.seq)}
        return self.event("GUILD_ROLE_CREATE", guild_id=str(self.guild.id), role=role)


async def begun(process: Held, world: World) -> None:
    assert await process.begin(world.user) is None
    await process.receive(*world.first)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_an_event_is_in_the_file_before_its_handler_starts(tmp_path: Path) -> None:
    world, seen = World(), []

    async def live() -> None:
        async with held(tmp_path) as process:
            await begun(process, world)
            go = asyncio.Event()

            async def on_message(_message: Any) -> None:
                story = process.story()
                seen.append((story.handled_seq, set(story.running)))
                await go.wait()

            async def quick(_message: Any) -> None:
                pass

            process.bot.on_message = on_message
            process.bot.add_listener(quick, "on_message")
            await process.receive(world.message())
            await turns()
            go.set()
            await turns()
            process.keeping.journals[0].flush()
            assert process.story().running == {}

    asyncio.run(live())
    assert seen == [(world.seq, {world.seq})]


def test_an_eager_task_factory_finds_it_in_the_file(tmp_path: Path) -> None:
    """It runs a task's first step when the task is made (Python 3.12)."""
    world, seen = World(), []

    async def live() -> None:
        async with held(tmp_path) as process:
            await begun(process, world)

            async def on_message(_message: Any) -> None:
                pass

            def eager(loop: Any, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
                if coro.__name__ == "_tracked":
                    seen.append(set(process.story().running))
                return asyncio.Task(coro, loop=loop, **kwargs)

            process.bot.on_message = on_message
            asyncio.get_running_loop().set_task_factory(eager)
            await process.receive(world.message())
            asyncio.get_running_loop().set_task_factory(None)
            await turns()

    asyncio.run(live())
    assert seen == [{world.seq}]


def test_an_event_that_disnake_does_not_know_counts(tmp_path: Path) -> None:
    world = World()

    async def live() -> None:
        async with held(tmp_path) as process:
            await begun(process, world)
            await process.receive(world.event("SOMETHING_NEW", id="1"))
            await turns()
            assert process.story().handled_seq == world.seq

    asyncio.run(live())


def test_a_parser_that_raises_harms_nothing_after_it(tmp_path: Path) -> None:
    world, heard = World(), []

    async def live() -> None:
        async with held(tmp_path) as process:
            await begun(process, world)

            async def on_message(message: Any) -> None:
                heard.append(message.id)

            async def on_gateway_error(*_args: Any) -> None:
                heard.append("error")

            process.bot.on_message = on_message
            process.bot.on_gateway_error = on_gateway_error
            guild = str(world.guild.id)
            for bad in ({"guild_id": guild, "role": {}}, {"guild_id": "nonsense", "role": {}}):
                await process.receive(world.event("GUILD_ROLE_CREATE", **bad))
            good = world.message()
            await process.receive(good)
            await turns()
            process.keeping.journals[0].flush()
            assert process.story().handled_seq == world.seq
            assert process.story().running == {}
            assert heard == ["error", "error", int(good["d"]["id"])]

    asyncio.run(live())


def test_what_a_predecessor_handled_goes_into_the_caches_alone(tmp_path: Path) -> None:
    world, heard = World(), []

    async def live() -> None:
        async with held(tmp_path) as process:
            await begun(process, world)

            async def on_guild_role_create(role: Any) -> None:
                heard.append(role.id)

            process.bot.on_guild_role_create = on_guild_role_create
            process.keeping.gate.suppress(0, world.seq + 1)
            old, new = world.role(), world.role()
            await process.receive(old, new)
            await turns()
            guild = process.bot.get_guild(world.guild.id)
            both = [int(one["d"]["role"]["id"]) for one in (old, new)]
            assert all(guild.get_role(one) is not None for one in both)
            assert heard == both[1:]
            assert process.story().handled_seq == world.seq

    asyncio.run(live())


def test_a_journal_that_fails_is_given_up_and_the_bot_goes_on(tmp_path: Path) -> None:
    world, heard = World(), []

    async def live() -> None:
        async with held(tmp_path) as process:
            await begun(process, world)

            async def on_message(message: Any) -> None:
                heard.append(message.id)

            def fail(*_args: Any) -> None:
                raise RuntimeError("planted")

            process.bot.on_message = on_message
            process.keeping.journals[0].last = fail  # type: ignore[method-assign]
            await process.receive(world.message(), world.message())
            await turns()
            assert len(heard) == 2
            assert process.keeping.journals == {}
            assert process.story().session is None

    asyncio.run(live())
