"""A guild whose shard another process has: warmed from the shard's journal, handled once, given
up, dead owners' rests found. Real journals, disnake's own caches; the feeder is the test."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import disnake
import pytest

from shard_node.bridge import boarding, hosting, lingering, owning
from shard_node.bridge.owning import ELSEWHERE, GAP
from shard_node.journal.place import GuildPlace
from shard_node.wire.migration import (
    GuildAt,
    GuildDrop,
    GuildEvents,
    GuildHandled,
    GuildMoved,
    GuildPhase,
    GuildRelease,
    GuildTake,
)
from shard_node.wire.targets import Node
from shard_node.wire.topics import GUILD_MOVED, LINGER_WAITS
from tests.node.held import Held, held, track
from tests.node.test_tap import World
from tests.support import caches


@pytest.fixture(autouse=True)
def tracked() -> Iterator[None]:
    undo = track()
    yield
    undo()


class Pair:
    """F holds shard 0 of 2 and all of the world's guilds; Y holds shard 1, and gets one."""

    def __init__(self, world: World, feeder: Held, owner: Held) -> None:
        self.world, self.feeder, self.owner = world, feeder, owner
        self.guild = world.guild.id
        self.version = 1
        self.said: list[GuildMoved] = []
        self.after = 0
        self.adopt(owner)

    def adopt(self, owner: Held) -> None:
        self.owner = owner
        if not owner.state.user:
            owner.state.user = disnake.ClientUser(state=owner.state, data=self.world.user)
            owner.state._users[owner.state.user.id] = owner.state.user

        def tell(topic: str, body: Any, **_: Any) -> None:
            if topic == GUILD_MOVED:
                self.said.append(body)

        owner.hold.node.send_event = tell  # type: ignore[method-assign]
        owner.hold.hosting.launched.set()

    @property
    def hosting(self) -> Any:
        return self.owner.hold.hosting

    @property
    def at(self) -> GuildAt:
        self.feeder.keeping.journals[0].flush()
        story = self.feeder.story()
        return GuildAt(story.session.id, story.handled_seq)

    def take(self, *, lock: bool, up_to: GuildAt | None = None) -> None:
        at = self.at if lock and up_to is None else up_to or GuildAt()
        self.hosting.take(GuildTake(self.guild, self.version, 0, 2, lock=lock, up_to=at))

    async def until(self, phase: GuildPhase) -> GuildMoved:
        deadline = time.monotonic() + 5
        while not self.said or self.said[-1].phase is not phase:
            assert time.monotonic() < deadline, (phase, self.said)
            await asyncio.sleep(0.001)
        return self.said[-1]

    async def own(self) -> None:
        self.take(lock=False)
        await self.until(GuildPhase.WARM)
        at = self.at
        self.take(lock=True, up_to=at)
        assert (await self.until(GuildPhase.OWNED)).at == at
        self.after = at.seq

    async def send(self, *payloads: dict[str, Any], after: int = -1) -> GuildHandled:
        events = tuple((one["s"], one["t"], json.dumps(one).encode()) for one in payloads)
        told = GuildEvents(
            self.guild, self.version, 2, 0, self.at.session,
            self.after if after < 0 else after, events,
        )  # fmt: skip
        found: GuildHandled = await self.hosting.events(SimpleNamespace(body=told))
        if not found.code:
            self.after = found.seq
        return found

    def story(self) -> Any:
        """What the guild's journal says now."""
        place = GuildPlace(self.feeder.folder, *self._of())
        try:
            return owning.left(place, self.guild)
        finally:
            place.close()

    def _of(self) -> tuple[str, str]:
        place = self.feeder.keeping.place
        return place.boot_id, place.application


class OneShard(World):
    """Of 2 shards, the first."""

    def __init__(self) -> None:
        super().__init__()
        self.guild = self.state.world.guild(
            next(one for one in self.state.world.guild_ids() if (one >> 22) % 2 == 0)
        )


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[Pair]:
    world = OneShard()
    async with held(folder, 1, 0, 2) as feeder, held(folder, 2, 1, 2) as owner:
        assert await feeder.begin(world.user) is None
        await feeder.receive(*world.first)
        yield Pair(world, feeder, owner)


def played(play: Callable[[Pair], Any], folder: Path) -> None:
    async def main() -> None:
        async with pair(folder) as made:
            await asyncio.wait_for(play(made), 20)

    asyncio.run(main())


def of_guild(process: Held, guild: int) -> Any:
    return caches.picture(process.bot.get_guild(guild))


def differ(one: Held, other: Held, guild: int) -> list[str]:
    """How a guild differs in two processes; empty where it does not."""
    found: list[str] = []
    caches._differ("guild", of_guild(one, guild), of_guild(other, guild), found)
    return found


def heard(process: Held, event: str) -> int:
    return process.dispatched.count(event)


def test_it_is_warmed_from_the_journal_and_says_nothing_to_the_bot(tmp_path: Path) -> None:
    async def play(pair: Pair) -> None:
        await pair.feeder.receive(pair.world.role())
        pair.take(lock=False)
        await pair.until(GuildPhase.WARM)
        await pair.feeder.receive(pair.world.role(), pair.world.message())
        await pair.own()
        assert pair.hosting.has(pair.guild)
        assert differ(pair.owner, pair.feeder, pair.guild) == []
        assert [guild.id for guild in pair.owner.bot.guilds] == [pair.guild]
        assert pair.owner.dispatched == []
        pair.owner.bot.get_guild(pair.guild)._roles.popitem()  # the comparison is no ornament
        assert differ(pair.owner, pair.feeder, pair.guild)

    played(play, tmp_path)


def test_each_event_is_handled_once_and_is_in_the_file_before_the_answer(tmp_path: Path) -> None:
    async def play(pair: Pair) -> None:
        await pair.own()
        one, two, three = (pair.world.message() for _ in range(3))
        assert (await pair.send(one, two)).seq == two["s"]
        assert pair.story().at.seq == two["s"]
        assert heard(pair.owner, "message") == 2
        assert (await pair.send(one, two, three, after=0)).seq == three["s"]
        assert heard(pair.owner, "message") == 3
        assert (await pair.send(two)).code == ""
        assert heard(pair.owner, "message") == 3

    played(play, tmp_path)


def test_what_comes_before_its_time_is_not_handled(tmp_path: Path) -> None:
    async def play(pair: Pair) -> None:
        await pair.own()
        one, two = pair.world.message(), pair.world.message()
        before = pair.after
        found = await pair.send(two, after=one["s"])
        assert (found.code, found.seq) == (GAP, before)
        assert heard(pair.owner, "message") == 0
        assert (await pair.send(one, two)).seq == two["s"]
        assert heard(pair.owner, "message") == 2

    played(play, tmp_path)


def test_changes_come_by_event_from_where_the_feeder_held_it(tmp_path: Path) -> None:
    """What the feeder has written for the owner is not fed as well."""

    async def play(pair: Pair) -> None:
        pair.take(lock=False)
        await pair.until(GuildPhase.WARM)
        at = pair.at
        held_back = pair.world.role()
        pair.hosting._boarding._sources[0].story.out[held_back["s"]] = pair.guild
        await pair.feeder.receive(held_back)
        pair.take(lock=True, up_to=at)
        await pair.until(GuildPhase.OWNED)
        roles = pair.owner.bot.get_guild(pair.guild).roles
        assert int(held_back["d"]["role"]["id"]) not in {role.id for role in roles}
        pair.after = at.seq
        await pair.send(held_back)
        assert heard(pair.owner, "guild_role_create") == 1
        assert differ(pair.owner, pair.feeder, pair.guild) == []

    played(play, tmp_path)


def test_nobody_has_it_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boarding, "TAKE_S", 0.1)

    async def play(pair: Pair) -> None:
        other = GuildPlace(pair.feeder.folder, *pair._of())
        assert other.take(pair.guild)
        pair.take(lock=True)
        assert "took too long" in (await pair.until(GuildPhase.FAILED)).error
        assert (await pair.send(pair.world.message())).code == ELSEWHERE
        assert pair.owner.bot.get_guild(pair.guild) is None
        other.close()
        pair.version += 1
        await pair.own()
        assert not GuildPlace(pair.feeder.folder, *pair._of()).take(pair.guild)

    played(play, tmp_path)


def test_it_is_given_up_when_its_handlers_have_ended(tmp_path: Path) -> None:
    async def play(pair: Pair) -> None:
        go = asyncio.Event()

        async def on_message(_message: Any) -> None:
            await go.wait()

        pair.owner.bot.event(on_message)
        await pair.own()
        await pair.send(message := pair.world.message())
        pair.hosting.release(GuildRelease(pair.guild, 1, "c#3", 5.0))
        assert (await pair.until(GuildPhase.DRAINING)).running == 1
        assert (await pair.send(pair.world.message())).code == ELSEWHERE
        place = GuildPlace(pair.feeder.folder, *pair._of())
        assert not place.take(pair.guild)
        go.set()
        said = await pair.until(GuildPhase.RELEASED)
        assert (said.at.seq, said.running) == (message["s"], 0)
        assert place.take(pair.guild)
        left = owning.left(place, pair.guild)
        assert (left.at.seq, left.interrupted) == (message["s"], ())
        place.close()
        await asyncio.sleep(0)
        assert pair.owner.bot.get_guild(pair.guild) is None

    played(play, tmp_path)


def test_a_handler_that_outlives_the_drain_keeps_its_guild(tmp_path: Path) -> None:
    async def play(pair: Pair) -> None:
        go = asyncio.Event()

        async def on_message(_message: Any) -> None:
            await go.wait()

        pair.owner.bot.event(on_message)
        await pair.own()
        await pair.send(pair.world.message())
        pair.hosting.release(GuildRelease(pair.guild, 1, "c#3", 0.01))
        assert (await pair.until(GuildPhase.RELEASED)).running == 1
        assert pair.owner.bot.get_guild(pair.guild) is not None
        go.set()
        until = time.monotonic() + 5
        while pair.owner.bot.get_guild(pair.guild) is not None:
            assert time.monotonic() < until
            await asyncio.sleep(0.001)

    played(play, tmp_path)


def test_views_stay_and_the_next_owner_is_told_before_it_has_the_guild(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosting, "BUSY_EVERY_S", 0.01)
    monkeypatch.setattr(lingering, "LOOK_EVERY_S", 0.01)

    async def play(pair: Pair) -> None:
        told: list[tuple[Any, Any]] = []

        async def send(target: Any, topic: str, body: Any, **_: Any) -> None:
            assert topic == LINGER_WAITS
            told.append((target, body))

        hold = pair.owner.hold
        monkeypatch.setattr(hold.node, "send", send)
        await pair.own()
        channel = next(iter(pair.world.guild.channels))
        view = disnake.ui.View(timeout=None)
        view.add_item(disnake.ui.Button(custom_id="yes"))
        pair.owner.state.store_view(view, 900)
        hold.sent._note(900, channel, True)
        pair.hosting.release(GuildRelease(pair.guild, 1, "c#3"))
        said = await pair.until(GuildPhase.RELEASED)
        assert said.views == 1
        ((target, waits), *_) = told
        assert (target, waits.owner, waits.components) == (Node("c#3"), "a#2", ((900, "yes"),))
        await asyncio.sleep(0.05)
        assert pair.owner.bot.get_guild(pair.guild) is not None
        view.stop()
        until = time.monotonic() + 5
        while not told[-1][1].over or pair.owner.bot.get_guild(pair.guild) is not None:
            assert time.monotonic() < until
            await asyncio.sleep(0.001)
        assert hold.lingering._guilds == {}

    played(play, tmp_path)


def test_a_guild_whose_shard_comes_to_its_owner_is_at_home_there(tmp_path: Path) -> None:
    async def play(pair: Pair) -> None:
        await pair.own()
        await pair.send(message := pair.world.message())
        assert pair.hosting.home(pair.guild) is None
        pair.owner.hold.node.shards = (0, 1)
        pair.version += 1
        pair.take(lock=True)
        said = await pair.until(GuildPhase.OWNED)
        assert (said.version, said.at.seq) == (2, message["s"])
        assert (await pair.send(pair.world.message())).code == ELSEWHERE
        assert pair.hosting.home(pair.guild).seq == message["s"]
        assert pair.owner.bot.get_guild(pair.guild) is not None

    played(play, tmp_path)


def test_what_reads_the_whole_shard_leaves_the_guild_as_it_is(tmp_path: Path) -> None:
    """Its shard is to come here as well: the guild's changes come as events already."""

    async def play(pair: Pair) -> None:
        await pair.own()
        guild = pair.owner.bot.get_guild(pair.guild)
        tail = pair.owner.keeping.tail(0)
        await tail.warm()
        role = pair.world.role()
        await pair.feeder.receive(role)
        pair.feeder.keeping.journals[0].flush()
        assert tail.more()
        tail.close()
        assert pair.owner.bot.get_guild(pair.guild) is guild
        assert int(role["d"]["role"]["id"]) not in {one.id for one in guild.roles}
        await pair.send(role)
        assert caches.compare(pair.owner.state, pair.feeder.state) == []
        assert len(pair.owner.bot.guilds) == 2

    played(play, tmp_path)


def test_the_next_owner_begins_where_a_dead_one_has_written(tmp_path: Path) -> None:
    """Further than was acknowledged; what it did not finish is named, and not handled again."""

    async def play(pair: Pair) -> None:
        async def on_message(_message: Any) -> None:
            await asyncio.Event().wait()

        pair.owner.bot.event(on_message)
        await pair.own()
        at, role, message = pair.at, pair.world.role(), pair.world.message()
        await pair.feeder.receive(role)
        await pair.send(role, message)
        await asyncio.sleep(0)
        place = pair.hosting._boarding.place
        place.free(pair.guild)  # as the kernel does
        async with held(pair.feeder.folder, 3, 1, 2) as third:
            pair.adopt(third)
            pair.version += 1
            pair.take(lock=True, up_to=at)
            said = await pair.until(GuildPhase.OWNED)
            assert said.at.seq == message["s"]
            assert [(one.seq, one.event) for one in said.interrupted] == [
                (message["s"], "MESSAGE_CREATE")
            ]
            assert differ(third, pair.feeder, pair.guild) == []
            pair.after = at.seq
            await pair.send(role, message, last := pair.world.message())
            assert third.dispatched == ["message"]
            assert pair.story().at.seq == last["s"]

    played(play, tmp_path)


def test_its_holder_gets_it_back_and_needs_no_lock(tmp_path: Path) -> None:
    async def play(pair: Pair) -> None:
        await pair.own()
        role = pair.world.role()
        await pair.feeder.receive(role)
        await pair.send(role)
        pair.hosting.release(GuildRelease(pair.guild, 1, "a#1"))
        await pair.until(GuildPhase.RELEASED)
        seen = of_guild(pair.feeder, pair.guild)
        pair.adopt(pair.feeder)
        pair.version += 1
        pair.take(lock=True, up_to=GuildAt(pair.at.session, 0))
        assert (await pair.until(GuildPhase.OWNED)).at.seq == role["s"]
        assert not pair.hosting.has(pair.guild)
        assert of_guild(pair.feeder, pair.guild) == seen
        assert pair.hosting.home(pair.guild).seq == role["s"]
        assert pair.hosting.home(pair.guild) is None
        place = GuildPlace(pair.feeder.folder, *pair._of())
        assert place.forget(pair.guild)
        assert not place.of(pair.guild).exists()

    played(play, tmp_path)


def test_a_new_session_begins_a_new_count(tmp_path: Path) -> None:
    async def play(pair: Pair) -> None:
        await pair.own()
        await pair.send(pair.world.message())
        pair.world.seq = 3
        events = tuple(
            (one["s"], one["t"], json.dumps(one).encode())
            for one in (pair.world.message(), pair.world.message())
        )
        told = GuildEvents(pair.guild, 1, 2, 0, "another", 0, events)
        for _ in range(2):
            found = await pair.hosting.events(SimpleNamespace(body=told))
            assert found == GuildHandled("another", 5)
        assert heard(pair.owner, "message") == 3
        assert pair.story().at == GuildAt("another", 5)
        late = GuildEvents(pair.guild, 1, 2, 0, pair.at.session, 0, events)
        assert (await pair.hosting.events(SimpleNamespace(body=late))).seq == 5
        assert heard(pair.owner, "message") == 3

    played(play, tmp_path)


def test_a_bot_that_is_thrown_out_says_so(tmp_path: Path) -> None:
    async def play(pair: Pair) -> None:
        await pair.own()
        away = pair.world.event("GUILD_DELETE", id=str(pair.guild), unavailable=True)
        assert (await pair.send(away)).code == ""
        assert pair.hosting.has(pair.guild)
        gone = pair.world.event("GUILD_DELETE", id=str(pair.guild))
        assert (await pair.send(gone)).code == ""
        assert (await pair.until(GuildPhase.LEFT)).at.seq == gone["s"]
        assert heard(pair.owner, "guild_remove") == 1
        assert not pair.hosting.has(pair.guild)

    played(play, tmp_path)


def test_what_is_dropped_leaves_nothing(tmp_path: Path) -> None:
    async def play(pair: Pair) -> None:
        for lock in (False, True):
            pair.take(lock=lock)
            await pair.until(GuildPhase.OWNED if lock else GuildPhase.WARM)
            pair.hosting.drop(GuildDrop(pair.guild, pair.version, "test"))
            await pair.until(GuildPhase.NONE)
            assert pair.owner.bot.guilds == []
            place = GuildPlace(pair.feeder.folder, *pair._of())
            assert place.take(pair.guild)
            place.close()
            pair.version += 1

    played(play, tmp_path)


def test_what_is_said_again_or_late_changes_nothing(tmp_path: Path) -> None:
    async def play(pair: Pair) -> None:
        await pair.own()
        pair.version = 7
        pair.take(lock=True, up_to=GuildAt("x", 1))
        assert (await pair.until(GuildPhase.OWNED)).version == 7
        owned = pair.hosting._guests[pair.guild].owned
        count = len(pair.said)
        for old in (GuildRelease(pair.guild, 6, "c#1"), GuildDrop(pair.guild, 6)):
            getattr(pair.hosting, "release" if isinstance(old, GuildRelease) else "drop")(old)
        assert len(pair.said) == count
        assert pair.hosting._guests[pair.guild].owned is owned
        assert (await pair.send(pair.world.message())).code == ""

    played(play, tmp_path)


def test_a_guild_that_the_journal_does_not_know_is_refused(tmp_path: Path) -> None:
    async def play(pair: Pair) -> None:
        pair.guild = 1 << 40
        pair.take(lock=False)
        assert "knows of no guild" in (await pair.until(GuildPhase.FAILED)).error

    played(play, tmp_path)


def test_few_journals_stay_open_and_none_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boarding, "SOURCES_KEPT", 1)

    async def play(pair: Pair) -> None:
        taken = pair.hosting._boarding
        taken._sources = {
            shard: boarding.ShardSource(pair.owner.keeping.place, shard) for shard in (5, 6)
        }
        taken._sources[5].wanted = 1
        await pair.own()
        assert list(taken._sources) == [5, 0]
        pair.take(lock=False)
        assert not taken._sources[0].readers

    played(play, tmp_path)


def test_changes_that_cannot_be_fed_are_few_or_it_is_not_taken(tmp_path: Path) -> None:
    async def play(pair: Pair) -> None:
        feeder = pair.owner.keeping.feeder
        feeder._stock = {**feeder._stock, "GUILD_ROLE_CREATE": lambda _: {}["fault"]}
        await pair.feeder.receive(pair.world.role())
        pair.take(lock=False)
        await pair.until(GuildPhase.WARM)
        await pair.feeder.receive(pair.world.role())
        pair.feeder.keeping.journals[0].flush()
        assert "2 of 3 changes" in (await pair.until(GuildPhase.FAILED)).error
        assert pair.owner.bot.guilds == []

    played(play, tmp_path)


@pytest.mark.parametrize("fault", ["unflushed", "unchecked"])
def test_the_judges_find_planted_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """An answer before the write; a guest that looks for no gap."""
    if fault == "unflushed":
        begin = owning.Owned._begin

        def lazy(self: Any, at: GuildAt) -> Any:
            journal = begin(self, at)
            journal.flush = lambda: None  # type: ignore[method-assign]
            return journal

        monkeypatch.setattr(owning.Owned, "_begin", lazy)
        judge = test_each_event_is_handled_once_and_is_in_the_file_before_the_answer
    else:
        decide = owning.Guest.decide
        monkeypatch.setattr(
            owning.Guest, "decide", lambda guest, name, _, seq: decide(guest, name, 0, seq)
        )
        judge = test_what_comes_before_its_time_is_not_handled
    with pytest.raises(AssertionError):
        judge(tmp_path)
