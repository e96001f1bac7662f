"""A guild goes from one real process to another and back while events and interactions come, and
processes die: each event is handled once and in order. The test is the broker, and does what a
migration does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shard_node.wire import topics
from shard_node.wire.header import Kind
from shard_node.wire.migration import (
    GuildAt,
    GuildHold,
    GuildMoved,
    GuildPart,
    GuildPhase,
    GuildRelease,
    GuildRoute,
    GuildTake,
)
from shard_node.wire.targets import Node
from tests.node.exchange import Exchange
from tests.node.processes import NodeProcess
from tests.node.test_hosting_processes import SANDBOX, Rig
from tests.node.test_moves import in_soak
from tests.support.sandbox import call
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

__all__ = ["SANDBOX"]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Exchange]:
    """It passes on what nodes say to each other."""
    with Exchange(f"ipc://{tmp_path}/b.sock") as made:
        yield made


class World(Rig):
    """``feeder`` has the guild's shard, ``owner`` the guild; both are labels."""

    feeder, owner = "a#7", "a#7"

    def tell(self, who: str, topic: str, body: Any) -> None:
        self.broker.send(who.encode(), topic, body)

    def has(self, who: str, part: GuildPart, phase: GuildPhase) -> GuildMoved:
        """What a process says in this version."""

        def look() -> GuildMoved | None:
            said = [
                one for one in self.moved(who) if (one.version, one.part) == (self.version, part)
            ]
            assert not said or not said[-1].error, said
            return said[-1] if said and said[-1].phase is phase else None

        return wait_for(f"{who}: {part.value} {phase.value!r}", look, 20)

    def migrate(self, to: str) -> GuildMoved:
        """All steps; what the feeder says at the end."""
        self.version += 1
        guild, version = self.guild, self.version
        self.tell(to, topics.GUILD_TAKE, GuildTake(guild, version, 0, 2, self.owner))
        self.has(to, GuildPart.OWNER, GuildPhase.WARM)
        self.tell(self.feeder, topics.GUILD_HOLD, GuildHold(guild, version))
        at = self.has(self.feeder, GuildPart.FEEDER, GuildPhase.HELD).at
        if self.owner != self.feeder:
            self.tell(self.owner, topics.GUILD_RELEASE, GuildRelease(guild, version, to))
            self.has(self.owner, GuildPart.OWNER, GuildPhase.RELEASED)
        return self.finish(to, at)

    def finish(self, to: str, at: GuildAt) -> GuildMoved:
        """The guild is held, and its owner has let go of it or is dead."""
        guild, version = self.guild, self.version
        told = GuildTake(guild, version, 0, 2, self.owner, lock=True, up_to=at)
        self.tell(to, topics.GUILD_TAKE, told)
        self.has(to, GuildPart.OWNER, GuildPhase.OWNED)
        home = to == self.feeder
        self.tell(self.feeder, topics.GUILD_ROUTE, GuildRoute(guild, version, "" if home else to))
        self.owner = to
        phase = GuildPhase.HOME if home else GuildPhase.ROUTED
        return self.has(self.feeder, GuildPart.FEEDER, phase)

    @contextmanager
    def load(self, *, died: bool = False) -> Iterator[None]:
        """Events and interactions in the guild and elsewhere; then all were handled once."""
        bodies = (
            {"events_per_s": 50, "interactions_per_s": 5, "seconds": 60, "guild": str(self.guild)},
            {"events_per_s": 50, "seconds": 60},
        )
        loads = [call(self.info, "/load", body)["id"] for body in bodies]
        yield
        for load in loads:
            call(self.info, f"/load/{load}", method="DELETE")
        self.judge(died=died)

    def judge(self, *, died: bool) -> None:
        def audit() -> dict[str, Any]:
            found: dict[str, Any] = call(self.info, "/audit")
            return found

        def calm() -> bool:
            found = audit()
            return not (found["events_pending"] or found["interactions_pending"])

        with contextlib.suppress(AssertionError):  # the audit says why
            wait_for("all events handled", calm, 15)
        found = audit()
        never = ["events_handled_never", "events_pending"]
        late = [] if died else ["answered_late", "answered_never"]
        judged = (*never, *late, "events_handled_twice", "events_out_of_order", "answered_twice")
        wrong = {name: found[name] for name in judged if found[name]}
        assert not wrong, wrong
        assert found["events_handled_once"] == found["events_sent"] > 0


@pytest.fixture
def world(info: dict[str, Any], broker: Exchange, tmp_path: Path) -> World:
    """Processes that are started by the test."""
    return World(info, broker, tmp_path)


@contextmanager
def both(world: World) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """a and b, ready."""
    with world.start("a", 0) as a, world.start("b", 1) as b:
        world.ready("a")
        world.ready("b")
        yield a, b


def messages(world: World, process: NodeProcess) -> list[str]:
    return [guild for guild in world.said(process, "message") if guild]


def test_there_and_back_under_load(world: World) -> None:
    with both(world) as (a, b):
        with world.load():
            for to in ("b#7", "a#7", "b#7", "a#7"):
                world.migrate(to)
                before = [len(world.said(one, "message")) for one in (a, b)]
                wait_for(
                    "events at both",
                    lambda before=before: all(
                        len(world.said(one, "message")) > count
                        for one, count in zip((a, b), before, strict=True)
                    ),
                )
        for process in (a, b):
            assert not [*world.said(process, "join"), *world.said(process, "remove")]


CREDULOUS = """
from shard_node.guest import Fate, Guest
def decide(self, session, after, seq):
    self.session, self.seq = session, seq
    return Fate.NEW
Guest.decide = decide
"""
"""An owner that takes all that comes for new."""
FORGETFUL = """
from shard_node.bridge.exile import Exile
put = Exile.put
def forgets(self, *args, again, **more):
    if not again:
        put(self, *args, again=again, **more)
Exile.put = forgets
"""
"""A feeder's next process that lets go of what comes again."""


def judged(fault: str) -> contextlib.AbstractContextManager[Any]:
    """The audit says so, if there is something to say."""
    return pytest.raises(AssertionError, match=fault) if fault else contextlib.nullcontext()


def plant(world: World, fault: str) -> None:
    main = world.folder / "main.py"
    first, rest = main.read_text().split("import asyncio", 1)
    main.write_text(f"{first}import asyncio{fault}{rest}")


@in_soak
@pytest.mark.parametrize("fault", ["", CREDULOUS], ids=["", "credulous"])
def test_what_is_lost_on_the_way_is_said_again_and_handled_once(world: World, fault: str) -> None:
    """A batch, and the answer to another."""
    plant(world, fault)
    lost: list[str] = []

    def lose(sender: str, _head: Any, messages: list[Any]) -> bool:
        kinds = {(Kind(one.kind), one.topic) for one in messages}
        asks = (Kind.REQUEST, topics.GUILD_EVENTS) in kinds
        answers = sender == "b#7" and Kind.REPLY in {kind for kind, _ in kinds}
        for name, here in (("batch", asks), ("answer", answers)):
            if here and name not in lost:
                lost.append(name)
                return True
        return False

    with both(world) as (_, b), judged("_twice" if fault else ""), world.load():
        world.migrate("b#7")
        wait_for("events at b", lambda: len(world.said(b, "message")) > 5)
        world.broker.lost = lose
        wait_for("both lost", lambda: len(lost) == 2, 10)
        count = len(world.said(b, "message"))
        wait_for("more events", lambda: len(world.said(b, "message")) > count + 5)


@in_soak
@pytest.mark.parametrize("fault", ["", FORGETFUL], ids=["", "forgetful"])
def test_what_a_dead_feeder_was_not_told_of_comes_again(world: World, fault: str) -> None:
    """No answer has reached it."""
    plant(world, fault)
    old = Node("a#7")
    world.broker.lost = lambda sender, head, _: (sender, head.target) == ("b#7", old)
    with judged("events_handled_never" if fault else ""):
        death(world, "feeder")


@pytest.mark.parametrize("who", ["owner", pytest.param("feeder", marks=in_soak)])
def test_a_death_loses_nothing(world: World, who: str) -> None:
    """Of a guild that is away; the owner's comes back, the feeder's next process goes on."""
    death(world, who)


def death(world: World, who: str) -> None:
    with contextlib.ExitStack() as stack:
        a, b = stack.enter_context(both(world))
        with world.load(died=True):
            world.migrate("b#7")
            wait_for("events at b", lambda: len(world.said(b, "message")) > 5)
            victim = b if who == "owner" else a
            victim.popen.kill()
            victim.popen.wait()
            world.version += 1
            if who == "owner":
                stack.enter_context(world.start("b", 1, SHARDCTL_EPOCH="8"))
                world.broker.holders[1] = "b#8"
                guild, version = world.guild, world.version
                world.tell(world.feeder, topics.GUILD_HOLD, GuildHold(guild, version))
                at = world.has(world.feeder, GuildPart.FEEDER, GuildPhase.HELD).at
                world.finish("a#7", at)
            else:
                world.feeder = world.broker.holders[0] = "a#8"
                stack.enter_context(world.start("a", 0, SHARDCTL_EPOCH="8"))
                wait_for("a#8", lambda: b"a#8" in world.broker.registered, 20)
                wait_for("its journal read", lambda: world.moved("a#8"), 20)
                told = GuildRoute(world.guild, world.version, "b#7")
                world.tell("a#8", topics.GUILD_ROUTE, told)
                world.has("a#8", GuildPart.FEEDER, GuildPhase.ROUTED)
            world.ready("a")
            world.ready("b")
