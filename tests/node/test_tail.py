"""A shard's journal followed while another process writes it; given up, taken, taken back.

Two holds in one process stand for two processes: a lock that one has is refused to the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import disnake
import pytest

from shard_node.bridge import keeping as keeping_module
from shard_node.bridge.gateway import NodeWebSocket
from shard_node.bridge.keeping import Past
from shard_node.bridge.tail import Tail
from shard_node.wire.handover import Phase, ShardRelease, ShardSettle
from tests.node.held import Held, held, track
from tests.node.test_tap import World, turns
from tests.support import caches
from tests.support.sandbox import core_client, identify_data


@pytest.fixture(autouse=True)
def tracked() -> Iterator[None]:
    undo = track()
    yield
    undo()


class Pair:
    """One that has the shard, and one that follows."""

    def __init__(self, old: Held, new: Held, world: World) -> None:
        self.old, self.new, self.world = old, new, world
        new.state.user = disnake.ClientUser(state=new.state, data=world.user)

    async def warm(self) -> Tail:
        tail = self.new.keeping.tail(0)
        await tail.warm()
        return tail

    async def send(self, to: Held, *payloads: dict[str, Any]) -> None:
        await to.receive(*payloads)
        await turns()
        to.keeping.journals[0].flush()

    def give(self, to: str = "a#2") -> None:
        self.old.keeping.give(0, to, "test")
        self.old.keeping.place.free(0)

    def take(self, tail: Tail | None) -> Past | None:
        assert self.new.keeping.place.take(0)
        past = self.new.keeping.taken(0, tail)
        connect(self.new, past)
        return past


def connect(process: Held, past: Past | None) -> None:
    """A socket that goes on where ``past`` was."""
    ws: Any = NodeWebSocket(None, loop=asyncio.get_running_loop())
    ws._connection, ws.shard_id = process.state, 0
    ws._dispatch = process.bot.dispatch
    ws._dispatch_gateway_error = process.bot._dispatch_gateway_error
    ws._discord_parsers = process.state.parsers
    if past is not None:
        ws.session_id, ws.sequence = past.session_id, past.sequence
    process.ws = ws


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[Pair]:
    world = World()
    async with held(folder) as old, held(folder, 2) as new:
        assert await old.begin(world.user) is None
        made = Pair(old, new, world)
        await made.send(old, *world.first)
        yield made


def play(folder: Path, body: Callable[[Pair], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with pair(folder) as made:
            await body(made)

    asyncio.run(main())


def test_caches_grow_with_the_journal(tmp_path: Path) -> None:
    async def body(made: Pair) -> None:
        world = made.world
        tail = await made.warm()
        assert caches.compare(made.old.state, made.new.state) == []
        await made.send(made.old, world.role(), world.message(), world.role())
        assert caches.compare(made.old.state, made.new.state) != []
        assert tail.more()
        tail.lasts()
        assert caches.compare(made.old.state, made.new.state) == []
        assert made.new.dispatched == []
        assert not made.new.keeping.place.take(0)

    play(tmp_path, body)


def test_what_is_taken_goes_on_where_it_was_given_up(tmp_path: Path) -> None:
    async def body(made: Pair) -> None:
        world, new = made.world, made.new
        tail = await made.warm()
        await made.send(made.old, world.role(), world.message())
        made.give()
        assert made.old.keeping.handled_seq(0) == world.seq
        past = made.take(tail)
        assert past is not None
        assert (past.session_id, past.sequence) == (made.old.ws.session_id, world.seq)
        assert past.resume_gateway == made.old.ws.resume_gateway
        assert caches.compare(made.old.state, new.state) == []
        await made.send(new, world.message(), world.role())
        assert new.dispatched.count("message") == new.dispatched.count("guild_role_create") == 1
        assert new.keeping.handled_seq(0) == world.seq
        assert new.story().session.id == past.session_id
        assert new.keeping._was[0].running == ()

    play(tmp_path, body)


def test_a_new_session_begins_the_following_anew(tmp_path: Path) -> None:
    async def body(made: Pair) -> None:
        tail = await made.warm()
        fresh = core_client(made.world.state, now=100.0)
        again = fresh.send(2, identify_data(made.world.state, (0, 1))) + fresh.pump()
        made.old.keeping.ended(0)
        await made.send(made.old, *again)
        assert tail.more()
        assert tail.story.session is not None
        assert tail.story.session.id == again[0]["d"]["session_id"]
        assert caches.compare(made.old.state, made.new.state) == []

    play(tmp_path, body)


@pytest.mark.parametrize("harm", ["damaged", "gone", "none"])
def test_a_journal_that_cannot_be_followed_is_read_whole_or_not(tmp_path: Path, harm: str) -> None:
    async def body(made: Pair) -> None:
        tail: Tail | None = await made.warm()
        await made.send(made.old, made.world.role())
        made.give()
        for path in tmp_path.glob("1-0/*.seg"):
            if harm == "damaged":  # behind what was read: a hole in the middle of the file
                path.write_bytes(path.read_bytes() + b"x" * 64)
                path.with_name("00000009-a#1.seg").write_bytes(b"y" * 64)
                break
            if harm == "gone":
                path.unlink()
        if harm == "none":
            tail = None
        past = made.take(tail)
        assert (past is not None) == (harm == "none")
        if past is None:
            assert made.new.state._guilds == {}
        else:
            assert caches.compare(made.old.state, made.new.state) == []

    play(tmp_path, body)


def test_one_that_is_not_warm_is_read_whole(tmp_path: Path) -> None:
    async def body(made: Pair) -> None:
        tail = made.new.keeping.tail(0)
        assert not tail.more()
        made.give()
        assert made.take(tail) is not None
        assert caches.compare(made.old.state, made.new.state) == []

    play(tmp_path, body)


def test_what_another_handled_is_fed_and_not_handled_again(tmp_path: Path) -> None:
    async def body(made: Pair) -> None:
        world, old, new = made.world, made.old, made.new
        tail = await made.warm()
        made.give()
        given_at = world.seq
        made.take(tail)
        theirs = [world.role(), world.message(), world.role()]
        await made.send(new, *theirs)
        new.keeping.journals.pop(0).close()  # it is killed
        new.keeping.place.free(0)
        assert old.keeping.place.take(0)
        past = old.keeping.again(0)
        assert past is not None
        assert (past.session_id, past.sequence) == (old.ws.session_id, given_at)
        connect(old, past)
        old.dispatched.clear()
        await made.send(old, *theirs)
        assert [one for one in old.dispatched if not one.startswith("socket")] == []
        assert caches.compare(old.state, new.state) == []
        await made.send(old, world.message())
        assert old.dispatched.count("message") == 1
        assert old.story().handled_seq == world.seq

    play(tmp_path, body)


def test_a_shard_whose_session_is_another_is_read_anew(tmp_path: Path) -> None:
    async def body(made: Pair) -> None:
        old, new = made.old, made.new
        made.give()
        made.take(None)
        new.keeping.ended(0)
        fresh = core_client(made.world.state, now=100.0)
        again = fresh.send(2, identify_data(made.world.state, (0, 1))) + fresh.pump()
        await made.send(new, *again)
        new.keeping.give(0, "", "test")
        new.keeping.place.free(0)
        assert old.keeping.place.take(0)
        past = old.keeping.again(0)
        assert past is not None
        assert (past.session_id, past.sequence) == (new.ws.session_id, again[-1]["s"])
        assert caches.compare(old.state, new.state) == []

    play(tmp_path, body)


@pytest.mark.parametrize("taken_back", [False, True])
def test_handlers_run_on_behind_a_release(tmp_path: Path, taken_back: bool) -> None:
    async def body(made: Pair) -> None:
        old, world, go = made.old, made.world, asyncio.Event()

        async def on_message(_message: Any) -> None:
            await go.wait()

        old.bot.event(on_message)
        await made.send(old, world.message())
        made.give()
        assert old.keeping.busy(0)
        story = old.story()
        assert story.released.to == "a#2"
        assert set(story.running) == {world.seq}
        if taken_back:
            assert old.keeping.place.take(0)
            assert old.keeping.again(0) is not None
            assert set(old.story().running) == {world.seq}
        go.set()
        await turns()
        if taken_back:
            old.keeping.journals[0].flush()
            assert old.story().running == {}
        assert not old.keeping.busy(0)
        old.keeping.gone(0)
        assert not old.keeping.busy(0)

    play(tmp_path, body)


def test_a_gap_counts_from_the_last_event_or_from_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(made: Pair) -> None:
        old, new, world = made.old, made.new, made.world
        now = 1000.0
        monkeypatch.setattr(keeping_module.time, "monotonic", lambda: now)

        async def on_message(_message: Any) -> None:
            pass

        for process in (old, new):
            process.bot.event(on_message)
        await made.send(old, world.message())
        now = 1000.3
        made.give()
        made.take(None)
        now = 1000.4
        await made.send(new, world.message())
        assert new.keeping.gap_ms(0) == pytest.approx(400)
        assert new.keeping.gap_ms(0) == -1.0  # told once
        now = 1010.0
        new.keeping.give(0, "a#1", "test")
        new.keeping.place.free(0)
        assert old.keeping.place.take(0)
        old.keeping.taken(0, None)
        now = 1010.05
        assert old.keeping.gap_ms(0) == pytest.approx(50)

    play(tmp_path, body)


def test_a_fault_of_what_goes_along_holds_up_no_shard(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(made: Pair) -> None:
        hold = made.old.hold
        hold.moves.serve()

        def fault(_shard: int, _target: str) -> None:
            raise ValueError("not to be told")

        hold.moves.releasing = fault
        hold.node.hears["shard.release"](ShardRelease("op-1", (0,), "a#2"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert hold.moves._phase(0) is Phase.RELEASED
        assert made.old.story().released.to == "a#2"
        assert made.take(None) is not None
        assert "goes without what was to go with it" in caplog.text
        hold.moves.begin_stop()

    play(tmp_path, body)


def test_a_shard_that_is_another_s_for_good_is_reported_no_more(tmp_path: Path) -> None:
    """A broker that started at this moment would refuse the process: not its own shard."""

    async def body(made: Pair) -> None:
        hold = made.old.hold
        hold.node.report = hold.reports.snapshot
        hold.moves.serve()
        hold.node.refresh()
        hold.node.hears["shard.release"](ShardRelease("op-1", (0,), "b#2"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert [(one.id, one.phase) for one in hold.node.vitals.shards] == [(0, Phase.RELEASED)]
        hold.node.hears["shard.settle"](ShardSettle("op-1", (0,)))
        assert hold.node.vitals.shards == ()
        hold.moves.begin_stop()

    play(tmp_path, body)
