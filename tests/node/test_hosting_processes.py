"""A guild is handled by another process than the one with its shard: real processes and journals
on the sandbox. The test is the broker, and says what the shard's holder would send."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shard_node.journal.frames import read
from shard_node.journal.records import Kind, Session
from shard_node.wire import topics
from shard_node.wire.categories import CommandExec
from shard_node.wire.migration import (
    GuildAt,
    GuildEvents,
    GuildHandled,
    GuildMoved,
    GuildPhase,
    GuildRelease,
    GuildTake,
)
from tests.node.exchange import Exchange
from tests.node.processes import BOTS, NodeProcess, node
from tests.node.test_moves import in_soak
from tests.support.sandbox import call
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

SANDBOX = (
    "--guilds", "8", "--shards", "2", "--max-concurrency", "2", "--identify-window-s", "0.2",
)  # fmt: skip


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Exchange]:
    """It passes on what nodes say to each other."""
    with Exchange(f"ipc://{tmp_path}/b.sock") as made:
        yield made


class Rig:
    """a has shard 0, others have shard 1; the guild is of shard 0."""

    def __init__(self, info: dict[str, Any], broker: Exchange, tmp_path: Path) -> None:
        self.info, self.broker = info, broker
        self.folder, self.journal = tmp_path / "bot", tmp_path / "journal"
        self.folder.mkdir()
        shutil.copy(BOTS / "boarder.py", self.folder / "main.py")
        broker.holders.update({0: "a#7", 1: "b#7"})
        self.guild = next(int(one["id"]) for one in call(info, "/guilds") if not one["shard"])
        self.version = self.number = self.after = 0

    def start(self, name: str, shard: int, **settings: str) -> Any:
        more = {
            "SHARDCTL_JOURNAL_DIR": str(self.journal),
            "SHARDCTL_WITNESS_DIR": str(self.folder),
        } | settings
        return node(self.broker, self.folder, info=self.info, name=name, shards=(shard,), **more)

    def ready(self, who: str) -> None:
        wait_for(f"{who} ready", lambda: {*self.broker.shard_states(who).values()} == {"ready"}, 20)

    def frames(self, folder: str) -> list[Any]:
        """The records of a journal."""
        paths = sorted((self.journal / folder).glob("*.seg"))
        return [record for path in paths for record, _ in read(path.read_bytes())[0]]

    def done(self) -> list[int]:
        """Events of the guild whose handlers have ended."""
        found = [r for r in self.frames(f"guild-{self.guild}") if r.kind == Kind.DONE]
        return [seq for one in found for seq in msgspec.msgpack.decode(one.payload)]

    @property
    def at(self) -> GuildAt:
        """How far a's journal is."""
        (head,) = [r for r in self.frames("2-0") if r.kind == Kind.SESSION][-1:]
        seq = max(r.seq for r in self.frames("2-0") if r.kind in (Kind.EVENT, Kind.SEEN, Kind.LAST))
        return GuildAt(msgspec.msgpack.decode(head.payload, type=Session).id, seq)

    def moved(self, who: str) -> list[GuildMoved]:
        return [one.body for one in self.broker.of(topics.GUILD_MOVED, who)]

    def until(self, who: str, phase: GuildPhase) -> GuildMoved:
        def look() -> GuildMoved | None:
            said = [one for one in self.moved(who) if one.version == self.version]
            assert phase is GuildPhase.FAILED or not said or not said[-1].error, said
            return said[-1] if said and said[-1].phase is phase else None

        return wait_for(f"{who} {phase.value!r}", look, 20)

    def take(self, who: str, up_to: GuildAt) -> GuildMoved:
        self.version += 1
        self.broker.send(who.encode(), topics.GUILD_TAKE, GuildTake(self.guild, self.version, 0, 2))
        self.until(who, GuildPhase.WARM)
        told = GuildTake(self.guild, self.version, 0, 2, lock=True, up_to=up_to)
        self.broker.send(who.encode(), topics.GUILD_TAKE, told)
        said = self.until(who, GuildPhase.OWNED)
        self.after = said.at.seq
        return said

    def batch(self, *contents: str) -> GuildEvents:
        """Messages of the guild, as its shard's holder would send them."""
        at, events = self.at, []
        for content in contents:
            self.number += 1
            data = self.message(content)
            raw = {"op": 0, "t": "MESSAGE_CREATE", "s": at.seq + self.number, "d": data}
            events.append((at.seq + self.number, "MESSAGE_CREATE", json.dumps(raw).encode()))
        return GuildEvents(self.guild, self.version, 2, 0, at.session, self.after, tuple(events))

    def message(self, content: str) -> dict[str, Any]:
        return {
            "id": str((1 << 60) + self.number), "channel_id": str(self.channel),
            "guild_id": str(self.guild), "content": content, "type": 0,
            "author": {"id": "5", "username": "u", "discriminator": "0", "avatar": None},
            "timestamp": "2026-01-01T00:00:00+00:00", "edited_timestamp": None, "tts": False,
            "mention_everyone": False, "mentions": [], "mention_roles": [], "attachments": [],
            "embeds": [], "pinned": False, "flags": 0, "components": [],
        }  # fmt: skip

    @property
    def channel(self) -> int:
        first = next(
            json.loads(r.payload)["d"]
            for r in self.frames("2-0")
            if r.kind == Kind.EVENT and f'"{self.guild}"'.encode() in r.payload
        )
        return next(int(one["id"]) for one in first["channels"] if one["type"] == 0)

    def send(self, who: str, told: GuildEvents) -> GuildHandled:
        found: GuildHandled = self.broker.ask(who, topics.GUILD_EVENTS, told)
        if not found.code:
            self.after = found.seq
        return found

    def said(self, process: NodeProcess, kind: str) -> list[str]:
        record = self.folder / "record.txt"
        lines = (
            [line.split() for line in record.read_text().splitlines()] if record.exists() else []
        )
        return [line[-1] for line in lines if line[:2] == [str(process.popen.pid), kind]]


@pytest.fixture
def rig(info: dict[str, Any], broker: Exchange, tmp_path: Path) -> Rig:
    """Processes that are started by the test."""
    return Rig(info, broker, tmp_path)


def test_a_guild_lives_in_another_process(rig: Rig) -> None:
    with rig.start("a", 0) as a, rig.start("b", 1) as b:
        rig.ready("a")
        rig.ready("b")
        call(rig.info, "/play", {"kind": "role", "guild": str(rig.guild), "count": 3})
        wait_for("roles", lambda: len(rig.said(a, "role")) == 3)
        owned = rig.take("b#7", rig.at)
        assert (owned.owner, owned.at, owned.interrupted) == ("b#7", rig.at, ())

        asked = CommandExec(rig.guild, "roles")
        here = rig.broker.ask("a#7", topics.COMMAND_EXEC, asked)
        there = rig.broker.ask("b#7", topics.COMMAND_EXEC, asked)
        assert [one.content for one in there.replies] == [one.content for one in here.replies]
        assert (here.node, there.node) == ("a", "b")

        told = rig.batch("one", "two", "speak")
        assert rig.send("b#7", told).seq == told.events[-1][0]
        again = rig.broker.ask("b#7", topics.GUILD_EVENTS, told)
        assert (again.seq, again.code) == (told.events[-1][0], "")
        wait_for("messages", lambda: len(rig.said(b, "message")) == 3)

        def spoken() -> bool:
            return any(
                b'"VOICE_STATE_UPDATE"' in r.payload and str(rig.guild).encode() in r.payload
                for r in rig.frames("2-0")
                if r.kind == Kind.EVENT
            )

        wait_for("a voice state, asked for by b and sent by a", spoken)
        (op,) = [one for one in rig.broker.said if one[1] == topics.GATEWAY_OP]
        assert op[0] == "b#7"

        rig.version += 1
        rig.broker.send(b"b#7", topics.GUILD_RELEASE, GuildRelease(rig.guild, rig.version, "a#7"))
        assert rig.until("b#7", GuildPhase.RELEASED).at.seq == told.events[-1][0]
        assert rig.send("b#7", rig.batch("late")).code == "elsewhere"
        assert rig.take("a#7", GuildAt(told.session, 0)).at.seq == told.events[-1][0]
        assert len(rig.said(b, "message")) == 3
        for process in (a, b):
            assert not [*rig.said(process, "join"), *rig.said(process, "remove")]


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=in_soak)])
def test_the_next_owner_goes_on_where_one_that_is_gone_was(rig: Rig, how: signal.Signals) -> None:
    with rig.start("a", 0), rig.start("b", 1) as b:
        rig.ready("a")
        rig.ready("b")
        held = rig.at
        rig.take("b#7", held)
        told = rig.batch("one", "hang" if how == signal.SIGKILL else "two")
        rig.send("b#7", told)
        wait_for("messages", lambda: len(rig.said(b, "message")) == 2)
        ended = 1 if how == signal.SIGKILL else 2
        wait_for("ends", lambda: len(rig.done()) == ended)
        with rig.start("c", 1) as c:
            b.popen.send_signal(how)
            b.exit_code()
            rig.ready("c")
            # What was acknowledged to a is not known: the journal of the dead one knows.
            owned = rig.take("c#7", held)
            assert owned.at == GuildAt(held.session, told.events[-1][0])
            running = [one.event for one in owned.interrupted]
            assert running == (["MESSAGE_CREATE"] if how == signal.SIGKILL else [])
            more = rig.batch("three")
            rig.after = held.seq
            both = GuildEvents(
                rig.guild, rig.version, 2, 0, held.session, held.seq,
                (*told.events, *more.events),
            )  # fmt: skip
            assert rig.send("c#7", both).seq == more.events[-1][0]
            wait_for("the last message", lambda: len(rig.said(c, "message")) == 1)
            assert rig.said(c, "message") == [str((1 << 60) + rig.number)]
            assert not rig.said(c, "join")
