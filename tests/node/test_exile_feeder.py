"""A guild that leaves its shard's holder and comes back: held, forwarded, said again, kept by name
over the holder's death. Real journals and disnake's caches in two held bots; the way between them
is a call, which the test may lose."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shard_node.bridge.exile import Exile
from shard_node.errors import Undeliverable
from shard_node.journal.story import Story
from shard_node.outbound import HoldLimits
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
from shard_node.wire.topics import GUILD_MOVED
from tests.node.held import Held, held, track
from tests.node.test_hosting import Pair, differ, heard, pair
from tests.node.test_moves import in_soak

Y = "y#2"


@pytest.fixture(autouse=True)
def tracked() -> Iterator[None]:
    undo = track()
    yield
    undo()


class Away:
    """F with its exile, Y with its hosting, and the wire between."""

    def __init__(self, pair: Pair) -> None:
        self.pair, self.world, self.guild = pair, pair.world, pair.guild
        self.said: list[GuildMoved] = []
        self.lost: Callable[[Any], str] = lambda _: ""
        self.batches: list[Any] = []
        self.feed(pair.feeder)

    def feed(self, feeder: Held) -> None:
        self.feeder = feeder
        hold = feeder.hold

        def tell(topic: str, body: Any, **_: Any) -> None:
            if topic == GUILD_MOVED:
                (self.said if body.part is GuildPart.FEEDER else self.pair.said).append(body)

        hold.node.send_event = tell  # type: ignore[method-assign]
        hold.node.request = self.request  # type: ignore[method-assign]
        hold.hosting.launched.set()

    async def request(self, target: Any, _topic: str, body: Any, **_: Any) -> Any:
        assert target.name == Y
        self.batches.append(body)
        await asyncio.sleep(0)
        how = self.lost(body)
        if how == "request":
            raise Undeliverable("planted")
        reply = await self.pair.hosting.events(SimpleNamespace(body=body))
        if how == "reply":
            raise Undeliverable("planted")
        return reply

    @property
    def exile(self) -> Exile:
        return self.feeder.hold.exile

    async def until(self, check: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + 5
        while not (found := check()):
            assert time.monotonic() < deadline, (self.said[-3:], self.pair.said[-3:])
            await asyncio.sleep(0.001)
        return found

    async def phase(self, phase: GuildPhase) -> GuildMoved:
        await self.until(lambda: self.said and self.said[-1].phase is phase)
        return self.said[-1]

    async def hold(self, version: int = 1) -> GuildMoved:
        self.exile.hold(GuildHold(self.guild, version, 0.05))
        return await self.phase(GuildPhase.HELD)

    async def go(self) -> None:
        """All of a migration to Y."""
        self.pair.take(lock=False)
        await self.pair.until(GuildPhase.WARM)
        at = (await self.hold()).at
        self.pair.take(lock=True, up_to=at)
        await self.pair.until(GuildPhase.OWNED)
        self.exile.route(GuildRoute(self.guild, 1, Y))
        await self.phase(GuildPhase.ROUTED)

    async def taken(self) -> None:
        """Until Y has acknowledged everything."""
        await self.until(lambda: not self.feeder.keeping.journals[0].story.out)

    def out(self) -> dict[int, int]:
        self.feeder.keeping.journals[0].flush()
        found: dict[int, int] = self.feeder.story().out
        return found


def played(play: Callable[[Away], Any], folder: Path) -> None:
    async def main() -> None:
        async with pair(folder) as made:
            await asyncio.wait_for(play(Away(made)), 20)

    asyncio.run(main())


def test_what_comes_while_it_is_held_goes_to_the_owner_once_and_in_order(tmp_path: Path) -> None:
    async def play(away: Away) -> None:
        f, y = away.feeder, away.pair.owner
        away.pair.take(lock=False)
        await away.pair.until(GuildPhase.WARM)
        at = (await away.hold()).at
        held_back = [away.world.role(), away.world.message()]
        await f.receive(*held_back)
        assert heard(f, "message") == heard(f, "guild_role_create") == 0
        assert sorted(away.out()) == [one["s"] for one in held_back]
        away.pair.take(lock=True, up_to=at)
        await away.pair.until(GuildPhase.OWNED)
        assert heard(y, "message") == 0
        away.exile.route(GuildRoute(away.guild, 1, Y))
        assert (await away.phase(GuildPhase.ROUTED)).owner == Y
        await f.receive(away.world.message(), away.world.role())
        await away.taken()
        named = [one for one in y.dispatched if one in ("message", "guild_role_create")]
        assert named == ["guild_role_create", "message", "message", "guild_role_create"]
        assert heard(f, "message") == heard(f, "guild_role_create") == 0
        assert f.bot.get_guild(away.guild) is None
        assert "guild_remove" not in f.dispatched
        assert "guild_join" not in y.dispatched

    played(play, tmp_path)


@pytest.mark.parametrize("how", ["request", "reply"])
def test_what_is_not_acknowledged_is_said_again(tmp_path: Path, how: str) -> None:
    async def play(away: Away) -> None:
        await away.go()
        left = [how, how]
        away.lost = lambda _: left.pop() if left else ""
        await away.feeder.receive(away.world.message(), away.world.message())
        await away.taken()
        assert heard(away.pair.owner, "message") == 2
        assert len(away.batches) == 3

    played(play, tmp_path)


def test_a_migration_that_is_undone_is_as_if_nothing_was(tmp_path: Path) -> None:
    async def play(away: Away) -> None:
        f = away.feeder
        guild = f.bot.get_guild(away.guild)
        await away.hold()
        role = away.world.role()
        await f.receive(role, away.world.message())
        assert heard(f, "message") == 0
        assert guild.get_role(int(role["d"]["role"]["id"])) is None
        away.exile.route(GuildRoute(away.guild, 1, ""))
        await away.phase(GuildPhase.HOME)
        await f.receive(away.world.message())
        named = [one for one in f.dispatched if one in ("message", "guild_role_create")]
        assert named == ["guild_role_create", "message", "message"]
        assert f.bot.get_guild(away.guild) is guild
        assert not away.exile
        assert away.out() == {}
        assert f.story().away == {}

    played(play, tmp_path)


def test_it_comes_home_where_its_owner_let_go(tmp_path: Path) -> None:
    async def play(away: Away) -> None:
        f, y = away.feeder, away.pair.owner
        await away.go()
        await f.receive(away.world.role(), away.world.message())
        await away.taken()
        at = (await away.hold(2)).at
        last = away.world.role()
        await f.receive(last)
        away.pair.hosting.release(GuildRelease(away.guild, 2, "f#1"))
        await away.pair.until(GuildPhase.RELEASED)
        f.hold.hosting.take(GuildTake(away.guild, 2, 0, 2, lock=True, up_to=at))
        await away.pair.until(GuildPhase.OWNED)
        away.exile.route(GuildRoute(away.guild, 2, ""))
        await away.phase(GuildPhase.HOME)
        assert (heard(y, "message"), heard(f, "message")) == (1, 0)
        assert (heard(y, "guild_role_create"), heard(f, "guild_role_create")) == (1, 1)
        assert f.bot.get_guild(away.guild).get_role(int(last["d"]["role"]["id"]))

    played(play, tmp_path)


def test_a_dead_feeder_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """The next one RESUMEs from before what was not acknowledged, and skips the rest."""

    async def play(away: Away) -> None:
        f, y, world = away.feeder, away.pair.owner, away.world
        await away.go()
        await f.receive(acked := world.message())
        await away.taken()
        away.lost = lambda _: "reply"  # handled, and not known to be
        stream = [world.message(), world.event("TYPING_START", nothing=1), world.role()]
        await f.receive(*stream)
        await away.until(lambda: heard(y, "guild_role_create"))
        assert sorted(away.out()) == [stream[0]["s"], stream[2]["s"]]
        f.keeping.place.free(0)  # as the kernel does
        away.exile.close()
        async with held(f.folder, 5, 0, 2) as second:
            away.feed(second)
            away.lost = lambda _: ""
            past = await second.begin(world.user)
            assert past is not None
            assert past.sequence == stream[0]["s"] - 1 >= acked["s"]
            second.ws.session_id = past.session_id
            assert second.bot.get_guild(away.guild) is None
            await second.receive(*stream, new := world.message())
            await away.taken()
            assert heard(y, "message") == 3
            assert heard(y, "guild_role_create") == 1
            assert "message" not in second.dispatched
            assert away.pair.story().at.seq == new["s"]
            assert differ_not(away, second)

    played(play, tmp_path)


def differ_not(away: Away, second: Held) -> bool:
    """The guild's part of the caches at Y is what the journal would give its shard's holder."""
    second.hold.exile._homecoming.feed(0, away.guild)
    return differ(away.pair.owner, second, away.guild) == []


def test_a_dead_feeder_of_a_guild_that_was_held_hands_it_on_held(tmp_path: Path) -> None:
    async def play(away: Away) -> None:
        f, world = away.feeder, away.world
        at = (await away.hold()).at
        stream = [world.role(), world.message()]
        await f.receive(*stream)
        away.out()
        f.keeping.place.free(0)
        away.exile.close()
        async with held(f.folder, 5, 0, 2) as second:
            away.feed(second)
            past = await second.begin(world.user)
            assert past is not None
            assert past.sequence == at.seq
            second.ws.session_id = past.session_id
            assert (await away.phase(GuildPhase.HELD)).at == at
            guild = second.bot.get_guild(away.guild)
            role = int(stream[0]["d"]["role"]["id"])
            assert guild.get_role(role) is None
            await second.receive(*stream)
            assert heard(second, "message") == 0
            away.exile.route(GuildRoute(away.guild, 1, ""))
            await away.phase(GuildPhase.HOME)
            assert (heard(second, "message"), heard(second, "guild_role_create")) == (1, 1)
            assert guild.get_role(role)

    played(play, tmp_path)


def test_an_owner_that_has_it_not_is_sent_nothing_more(tmp_path: Path) -> None:
    async def play(away: Away) -> None:
        await away.hold()
        away.exile.route(GuildRoute(away.guild, 1, Y))
        await away.feeder.receive(away.world.message())
        said = await away.phase(GuildPhase.HELD)
        assert "does not have guild" in said.error
        assert (said.held, said.owner) == (1, Y)

    played(play, tmp_path)


def test_too_much_comes_home_where_nobody_is_to_ask(tmp_path: Path) -> None:
    async def play(away: Away) -> None:
        away.exile.limits = HoldLimits(events=3)
        await away.hold()
        await away.feeder.receive(*(away.world.message() for _ in range(5)))
        await away.phase(GuildPhase.HOME)
        assert [one.phase for one in away.said][-2:] == [GuildPhase.BURST, GuildPhase.HOME]
        assert heard(away.feeder, "message") == 5

    played(play, tmp_path)


def test_a_ready_brings_no_stub_of_it_and_a_late_word_changes_nothing(tmp_path: Path) -> None:
    async def play(away: Away) -> None:
        await away.go()
        ready = {**away.world.first[0], "s": 1}
        ready["d"] = {**ready["d"], "session_id": "another"}
        await away.feeder.receive(ready)
        assert away.feeder.bot.get_guild(away.guild) is None
        assert away.feeder.story().away[away.guild].owner == Y
        away.world.seq = 1
        await away.feeder.receive(away.world.message())
        await away.taken()
        assert away.pair.story().at == GuildAt("another", 2)
        away.exile.hold(GuildHold(away.guild, 0))
        away.exile.route(GuildRoute(away.guild, 0, ""))
        assert away.said[-1].phase is GuildPhase.ROUTED

    played(play, tmp_path)


@pytest.mark.parametrize("fault", [pytest.param("skips what is out", marks=in_soak), "handled seq"])
def test_the_judges_find_planted_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    if fault == "handled seq":
        monkeypatch.setattr(Story, "resume_from", property(lambda story: story.handled_seq))
    else:
        put = Exile.put

        def forgets(exile: Any, *args: Any, again: bool) -> None:
            if not again:
                put(exile, *args, again=False)

        monkeypatch.setattr(Exile, "put", forgets)
    with pytest.raises(AssertionError):
        test_a_dead_feeder_of_a_guild_that_was_held_hands_it_on_held(tmp_path)
