"""A process that starts goes on where the one before was: caches, session, `ready` once."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shard_node.bridge import keeping
from shard_node.journal.records import SEQ, Kind, Piece
from shard_node.wire import topics
from shard_node.wire.lifecycle import Recovered
from tests.node.fake_broker import FakeBroker
from tests.node.held import Held, held
from tests.node.processes import BOTS, NodeProcess, node
from tests.node.test_tap import World
from tests.support import caches
from tests.support.sandbox import call, core_client, identify_data
from tests.support.waiting import wait_for

SANDBOX = (
    "--guilds", "8", "--shards", "2", "--max-concurrency", "2", "--identify-window-s", "0.2",
)  # fmt: skip


async def live(process: Held, world: World) -> None:
    assert await process.begin(world.user) is None
    await process.receive(*world.first)
    await process.receive(world.message(), world.role(), world.role(), world.message())
    process.keeping.journals[0].flush()


def kept(folder: Path, name: str = "killed") -> Path:
    """The journal as a process leaves it that is killed now."""
    other = folder.with_name(name)
    shutil.copytree(folder, other)
    return other


def test_a_killed_process_is_gone_on_with_object_by_object(tmp_path: Path) -> None:
    world = World()

    async def play() -> None:
        async with held(tmp_path / "a") as one:
            await live(one, world)
            async with held(kept(tmp_path / "a"), 2) as two:
                past = await two.begin(world.user)
                assert past is not None
                assert (past.session_id, past.sequence) == (one.ws.session_id, world.seq)
                assert past.resume_gateway == one.ws.resume_gateway
                assert caches.compare(one.state, two.state) == []
                assert two.dispatched == []
                assert two.state.application_id == one.state.application_id
                two.state._guilds.popitem()  # the comparison is no ornament
                assert caches.compare(one.state, two.state) != []

    asyncio.run(play())


def test_it_equals_a_fresh_identify(tmp_path: Path) -> None:
    """Of the sandbox as it is after changes that came as events."""
    world = World()

    async def play() -> None:
        async with held(tmp_path / "a") as one:
            assert await one.begin(world.user) is None
            await one.receive(*world.first)
            one.keeping.journals[0].flush()
            fresh = core_client(world.state, now=100.0)  # past the window of IDENTIFYs
            payloads = fresh.send(2, identify_data(world.state, (0, 1))) + fresh.pump()
            async with (
                held(kept(tmp_path / "a"), 2) as warm,
                held(tmp_path / "fresh", 3) as cold,
            ):
                await warm.begin(world.user)
                await cold.begin(world.user)
                await cold.receive(*payloads)
                assert caches.compare(warm.state, cold.state) == []

    asyncio.run(play())


def test_a_guild_that_never_came_is_there_and_unavailable(tmp_path: Path) -> None:
    world = World()

    async def play() -> None:
        async with held(tmp_path / "a") as one:
            assert await one.begin(world.user) is None
            await one.receive(*world.first[:-1])
            one.keeping.journals[0].flush()
            async with held(kept(tmp_path / "a"), 2) as two:
                await two.begin(world.user)
                absent = two.bot.get_guild(int(world.first[-1]["d"]["id"]))
                assert absent.unavailable
                assert caches.compare(one.state, two.state) == []

    asyncio.run(play())


def test_a_guild_out_of_reach_stays_so_and_one_that_comes_back_is_the_same(
    tmp_path: Path,
) -> None:
    world = World()

    async def play() -> None:
        async with held(tmp_path / "a") as one:
            await live(one, world)
            guilds = [p["d"] for p in world.first if p["t"] == "GUILD_CREATE"]
            gone = [world.event("GUILD_DELETE", id=g["id"], unavailable=True) for g in guilds]
            back = world.event(
                "GUILD_CREATE", **{k: v for k, v in guilds[1].items() if k != "name"}
            )
            back["d"] |= {"unavailable": False, "name": "b"}
            await one.receive(*gone, back)
            journal = one.keeping.journals[0]
            journal.flush()
            async with held(kept(tmp_path / "a"), 2) as two:
                await two.begin(world.user)
                assert caches.compare(one.state, two.state) == []
            # The same from a snapshot, as cleaning writes it.
            source = one.state._get_guild(int(guilds[0]["id"]))
            snapshot = {**guilds[0], "unavailable": True}
            piece = Piece(source.id, Kind.GUILD, 1, 0, 0, 1)
            async with held(tmp_path / "b", 3) as three:
                await three.begin(world.user)
                raw = SEQ.pack(1) + msgspec.json.encode(snapshot)
                three.keeping.feeder.piece(piece, raw)
                fed = three.state._get_guild(source.id)
                assert fed.unavailable
                assert len(fed.channels) == len(guilds[0]["channels"])
                event = {**guilds[0], "unavailable": False}
                three.keeping.feeder.event("GUILD_CREATE", event)
                assert three.state._get_guild(source.id) is fed
                assert not fed.unavailable

    asyncio.run(play())


@pytest.mark.parametrize("what", ["old", "another boot", "another bot", "damaged", "ended"])
def test_what_cannot_be_resumed_identifies(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()

    async def play() -> None:
        async with held(tmp_path / "a") as one:
            await live(one, world)
            if what == "ended":
                one.keeping.ended(0)
            folder = kept(tmp_path / "a")
            if what == "another boot":
                monkeypatch.setattr(keeping, "_boot_id", lambda: "another")
            if what == "another bot":
                monkeypatch.setattr("tests.node.held.TOKEN", "OTk5.token.token")
            for path in folder.glob("*/*.seg"):
                data = bytearray(path.read_bytes())
                data[len(data) // 2] ^= what == "damaged"
                path.write_bytes(data)
            async with held(folder, 2) as two:
                two.keeping._resume_max_s = -1.0 if what == "old" else 600.0
                told = sent(two, monkeypatch)
                assert await two.begin(world.user) is None
                assert two.state._guilds == {}
                await two.receive(*world.first)  # and its journal is whole again
                two.keeping.journals[0].flush()
                assert two.story().session is not None
                whys = [body.why for body in told if isinstance(body, Recovered)]
                words = WHYS[what]
                assert [words in why for why in whys] == ([True] if words else []), whys

    asyncio.run(play())


@pytest.mark.parametrize("what", ["disk", "fault", "folder"])
def test_a_journal_that_is_none_is_reported_and_again_when_it_is_one(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()

    def flaws(process: Held) -> list[str]:
        return [report.flaw for report in process.hold.reports.snapshot()]

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    async def play() -> None:
        async with held(tmp_path / "a") as one:
            with monkeypatch.context() as fault:
                if what == "folder":
                    fault.setattr("shard_node.journal.place.Place.next_segment", full)
                await live(one, world) if what != "folder" else await one.begin(world.user)
            if what == "disk":
                one.keeping.journals[0]._break("No space left on device")
            if what == "fault":
                with monkeypatch.context() as fault:
                    fault.setattr("shard_node.journal.writer.ShardJournal.seen", full)
                    fault.setattr("shard_node.journal.writer.ShardJournal.last", full)
                    await one.receive(world.message())
            assert len(flaws(one)) == 1
            assert flaws(one)[0].endswith("; a respawn now will IDENTIFY")
            if what == "disk":
                await one.receive(*world.first)  # a READY: it is whole again
                assert flaws(one) == [""]

    asyncio.run(play())


WHYS = {
    "old": "s old, sessions live",
    "another boot": "",
    "another bot": "its journal is that of application",
    "damaged": "is not what was written",
    "ended": "",
}
"""What is told of a journal that cannot be resumed; one that was ended, or that is of another boot
and so removed, is none."""


def sent(process: Held, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the process tells the broker from now on."""
    bodies: list[Any] = []
    tell = process.hold.node.send_event

    def seen(topic: str, body: Any, *args: Any, **more: Any) -> None:
        bodies.append(body)
        tell(topic, body, *args, **more)

    monkeypatch.setattr(process.hold.node, "send_event", seen)
    return bodies


# --- real processes


def ready(broker: FakeBroker) -> None:
    wait_for("ready", lambda: broker.shard_states("a") == {0: "ready", 1: "ready"}, 20)


def said(process: NodeProcess, folder: Path, kind: str) -> int:
    lines = (folder / "record.txt").read_text().splitlines()
    return sum(line.split()[:2] == [str(process.popen.pid), kind] for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("refused", [False, True], ids=["resumed", "refused"])
def test_a_killed_node_is_ready_again_once(
    info: dict[str, Any], broker: FakeBroker, tmp_path: Path, refused: bool
) -> None:
    folder = tmp_path / "bot"
    folder.mkdir()
    shutil.copy(BOTS / "recorder.py", folder / "main.py")
    journal = {"SHARDCTL_JOURNAL_DIR": str(tmp_path / "journal")}
    with node(broker, folder, info=info, **journal) as first:
        ready(broker)
        wait_for("ready", lambda: said(first, folder, "ready"))
        first.popen.kill()
        first.popen.wait()
    if refused:
        call(info, "/trouble", {"kind": "refuse_resume", "count": 2})
    with node(broker, folder, info=info, SHARDCTL_EPOCH="8", **journal) as second:
        wait_for("ready", lambda: said(second, folder, "ready"), 20)
        ready(broker)
        told = broker.wait(topics.NODE_RECOVERED, 2)
        assert sorted((one.body.shard, one.body.resumed) for one in told) == [
            (0, not refused),
            (1, not refused),
        ]
        call(info, "/play", {"kind": "message", "count": 5})
        wait_for("messages", lambda: said(second, folder, "message") == 5)
        assert said(second, folder, "ready") == 1
        assert said(second, folder, "join") == said(second, folder, "remove") == 0
    audit = call(info, "/audit")
    assert audit["identifies"] == (4 if refused else 2)
    assert audit["resumes"] == (0 if refused else 2)
