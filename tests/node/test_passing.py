"""Events of a process that lingers: passed on once, handled here only where nobody else has."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from shard_node.bridge import lingering, passing
from shard_node.bridge.lingering import Lingering
from shard_node.bridge.passing import Passing
from shard_node.bridge.sent import Sent
from shard_node.bridge.tracking import Line, Tracking
from shard_node.effects import StopAsked
from shard_node.errors import NoHandler, QueueFull, RemoteError, ShardNodeError, Undeliverable
from shard_node.journal.story import Story
from shard_node.wire.lingering import WAITERS, WHOLE, LingerEvent, Living, Waits
from shard_node.wire.targets import Node, Shard
from shard_node.wire.topics import LINGER_EVENT, LINGER_WAITS

PRESS = {
    "type": 3,
    "id": "900",
    "message": {"id": "20"},
    "data": {"custom_id": "yes", "component_type": 2},
    "channel_id": "5",
}
OLD = Waits(
    "a#1", 4, (0,), components=((20, "yes"),), sent=(20,), kinds=("message",), channels=(5,)
)


class Journal:
    """What a shard's journal is told."""

    def __init__(self) -> None:
        self.story = Story()
        self.said: list[Any] = []

    def waits(self, living: Living) -> None:
        self.said.append(living)
        self.story.waits = lingering_bytes(living)

    def started(self, seq: int, event: str, guild: int, key: str) -> None:
        self.said.append(("start", seq))

    def done(self, seq: int) -> None:
        self.said.append(("done", seq))


def lingering_bytes(living: Living) -> bytes:
    return msgspec.msgpack.encode(living)


class FakeNode:
    """Takes messages; ``fault`` is what a send raises."""

    name, epoch, num_shards = "a", 2, 4

    def __init__(self) -> None:
        self.sent: list[tuple[Any, str, Any]] = []
        self.fault: ShardNodeError | None = None
        self.shards: tuple[int, ...] = (0,)
        self.settings = SimpleNamespace(linger_s=900.0)
        self.vitals = SimpleNamespace(lingers=0)
        self.stops: list[StopAsked] = []
        self.heard: dict[str, Any] = {}

    async def send(self, target: Any, topic: str, body: Any, *, ttl_s: float) -> None:
        self.sent.append((target, topic, body))
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault

    def hear_peers(self, topic: str, handler: Any) -> None:
        self.heard[topic] = handler

    def ask_stop(self, stop: StopAsked) -> None:
        self.stops.append(stop)


class Future:
    def __init__(self, *, done: bool = False) -> None:
        self._done = done

    def done(self) -> bool:
        return self._done


class Rig:
    """A hold with what lingering and passing need of it."""

    def __init__(self) -> None:
        self.node = FakeNode()
        self.journal = Journal()
        self.views: dict[Any, Any] = {}
        self.modals: dict[Any, Any] = {}
        self.listeners: dict[str, list[Any]] = {}
        state = SimpleNamespace(
            _view_store=SimpleNamespace(_views=self.views),
            _modal_store=SimpleNamespace(_modals=self.modals),
        )
        client = SimpleNamespace(_connection=state, _listeners=self.listeners)
        keeping = SimpleNamespace(journals={0: self.journal}, busy=lambda shard: False)
        self.hold: Any = SimpleNamespace(
            node=self.node, client=client, keeping=keeping, sent=Sent(), tracking=Tracking()
        )
        self.hold.moves = SimpleNamespace()
        self.hold.passing = self.passing = Passing(self.hold)
        self.hold.lingering = self.lingering = Lingering(self.hold)
        self.lingering.hang_in()
        self.passing.serve()
        self.parsed = 0

    def told(self, waits: Waits) -> None:
        self.node.heard[LINGER_WAITS](SimpleNamespace(body=waits))

    def press(self, data: Any = PRESS, event: str = "INTERACTION_CREATE") -> bool:
        line: Any = Line(self.journal)  # type: ignore[arg-type]
        raw = json.dumps({"d": data})
        return self.passing.takes(line, 0, 7, event, data, raw, self._parse)

    def _parse(self) -> None:
        self.parsed += 1

    def view(self, message: int | None, custom_id: str, *, persistent: bool = False) -> Any:
        view = SimpleNamespace(
            id=f"{message}{custom_id}", over=False, is_persistent=lambda: persistent
        )
        view.is_finished = lambda: view.over
        self.views[2, message, custom_id] = (view, None)
        return view

    def close(self) -> None:
        self.lingering.close()
        self.passing.close()


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """``test`` in a loop of its own, with a rig that looks often."""

    def run(monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
        monkeypatch.setattr(lingering, "LOOK_EVERY_S", 0.01)

        async def main() -> None:
            made = Rig()
            try:
                await asyncio.wait_for(test(made, **more), 20)
            finally:
                made.close()

        asyncio.run(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    names = [name for name in inspect.signature(test).parameters if name != "rig"]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("monkeypatch", *names)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


async def eventually(what: str, look: Callable[[], Any]) -> None:
    until = time.monotonic() + 10
    while not look():
        assert time.monotonic() < until, what
        await asyncio.sleep(0.002)


async def settled(rig: Rig) -> None:
    await eventually("nothing under way", lambda: not rig.passing._tasks)


# --- at the holder


@in_loop
async def test_nothing_is_asked_where_nobody_lingers(rig: Rig) -> None:
    assert not rig.passing.affinity
    assert not rig.press()
    assert rig.node.sent == []


@in_loop
async def test_what_belongs_elsewhere_goes_there_once(rig: Rig) -> None:
    rig.told(OLD)
    assert rig.press()
    await settled(rig)
    ((target, topic, body),) = rig.node.sent
    assert (target, topic) == (Node("a#1"), LINGER_EVENT)
    assert (body.event, body.mode, json.loads(body.raw)["d"]) == (
        "INTERACTION_CREATE",
        WHOLE,
        PRESS,
    )
    assert rig.parsed == 0
    # A process that is killed meanwhile names it.
    assert rig.journal.said[-2:] == [("start", 7), ("done", 7)]


@pytest.mark.parametrize(
    "fault",
    [
        Undeliverable("gone"),
        Undeliverable("over", code="E_EXPIRED"),
        QueueFull("full", retry_after_s=1.0),
        NoHandler("none"),
        RemoteError("raised"),
    ],
    ids=lambda fault: fault.code,
)
@in_loop
async def test_what_surely_did_not_arrive_is_handled_here_once(
    rig: Rig, fault: ShardNodeError
) -> None:
    rig.told(OLD)
    rig.node.fault = fault
    assert rig.press()
    await settled(rig)
    assert rig.parsed == 1
    assert [one for one in rig.journal.said if isinstance(one, tuple)] == [
        ("start", 7),
        ("done", 7),
    ]
    assert bool(rig.passing.affinity) == (fault.code != "E_UNREACHABLE")


@in_loop
async def test_what_may_have_been_handled_is_not_handled_again(rig: Rig) -> None:
    rig.told(OLD)
    rig.node.fault = Undeliverable("dead", maybe_handled=True)
    assert rig.press()
    await settled(rig)
    assert rig.parsed == 0
    assert rig.journal.said[-1] == ("done", 7)


@in_loop
async def test_those_who_wait_get_a_copy(rig: Rig) -> None:
    rig.told(OLD)
    assert not rig.press({"id": "31", "channel_id": "5"}, "MESSAGE_CREATE")
    await settled(rig)
    ((_, _, body),) = rig.node.sent
    assert (body.event, body.mode) == ("MESSAGE_CREATE", WAITERS)
    assert not rig.press({"id": "32", "channel_id": "6"}, "MESSAGE_CREATE")
    await settled(rig)
    assert len(rig.node.sent) == 1


@pytest.mark.parametrize("data", [{}, {"type": 3}, {"type": 3, "data": None}, None, 5])
@in_loop
async def test_what_cannot_be_read_is_handled_here(rig: Rig, data: Any) -> None:
    rig.told(OLD)
    assert not rig.press(data)


@in_loop
async def test_the_journal_has_who_lingers_for_the_next_process(rig: Rig) -> None:
    rig.told(OLD)
    assert rig.journal.said == [Living((OLD,))]
    rig.told(OLD)
    assert len(rig.journal.said) == 1  # nothing new
    other = Rig()
    other.journal.story.waits = rig.journal.story.waits
    other.passing.restore(0)
    assert other.passing.affinity.living(0) == (OLD,)
    rig.told(Waits("a#1", 4, (0,), over=True))
    assert not rig.passing.affinity
    assert rig.journal.said[-1] == Living()
    other.close()


@in_loop
async def test_a_damaged_record_and_ones_own_are_passed_over(rig: Rig) -> None:
    rig.journal.story.waits = b"\xc1"
    rig.passing.restore(0)
    rig.journal.story.waits = lingering_bytes(Living((Waits("a#2", 4, (0,)),)))
    rig.passing.restore(0)
    rig.told(Waits("a#2", 4, (0,), sent=(1,)))
    rig.told(Waits("b#2", 8, (0,), sent=(1,)))
    assert not rig.passing.affinity


# --- at the process that lingers


@in_loop
async def test_what_waits_is_in_the_journal_before_the_shard_goes(rig: Rig) -> None:
    rig.view(20, "yes")
    rig.view(None, "menu", persistent=True)
    rig.modals[3, "form"] = object()
    rig.listeners["message"] = [(Future(), None), (Future(done=True), None)]
    rig.told(Waits("a#1", 4, (0,), sent=(9,)))
    rig.lingering.releasing(0, "a#3")
    own, before = rig.journal.said[-1].waits
    assert before.owner == "a#1"
    assert own.owner == "a#2"
    assert own.components == ((20, "yes"), (0, "menu"))
    assert (own.modals, own.kinds) == (((3, "form"),), ("message",))
    assert rig.lingering.count() == 3


@in_loop
async def test_the_holder_is_told_by_name_until_the_shard_is_routed_to_it(rig: Rig) -> None:
    rig.view(20, "yes")
    rig.lingering.releasing(0, "a#3")
    await eventually("told", lambda: rig.node.sent)
    assert rig.node.sent[-1][:2] == (Node("a#3"), LINGER_WAITS)
    rig.node.shards = ()
    rig.view(21, "no")
    rig.lingering.changed()
    await eventually("told again", lambda: rig.node.sent[-1][0] == Shard(0))
    assert rig.node.sent[-1][2].components == ((20, "yes"), (21, "no"))


@in_loop
async def test_it_ends_when_nothing_waits_and_says_so(rig: Rig) -> None:
    view = rig.view(20, "yes")
    rig.lingering.releasing(0, "a#3")
    rig.node.shards = ()
    rig.lingering.settled()
    await eventually("lingers", lambda: rig.node.vitals.lingers == 1)
    assert rig.node.stops == []
    view.over = True
    await eventually("the end", lambda: rig.node.stops)
    assert rig.node.stops == [StopAsked("nothing waits in it any more", 0.0, False)]
    assert rig.node.sent[-1][2] == Waits("a#2", 4, (0,), over=True)


@in_loop
async def test_it_ends_at_its_time(rig: Rig) -> None:
    rig.lingering._max_s = 0.05
    rig.view(20, "yes")
    rig.lingering.releasing(0, "a#3")
    rig.node.shards = ()
    began = time.monotonic()
    rig.lingering.settled()
    await eventually("the end", lambda: rig.node.stops)
    assert time.monotonic() - began >= 0.05
    assert rig.node.stops[0].reason == "it has lingered long enough"


@in_loop
async def test_one_in_which_nothing_waits_ends_at_once(rig: Rig) -> None:
    rig.lingering.releasing(0, "a#3")
    rig.node.shards = ()
    rig.lingering.settled()
    await eventually("the end", lambda: rig.node.stops)
    assert all(body.over or not body.components for _, _, body in rig.node.sent)


@in_loop
async def test_a_node_that_goes_on_tells_of_a_shard_it_gave_away_as_long_as_something_waits(
    rig: Rig,
) -> None:
    view = rig.view(20, "yes")
    rig.lingering.releasing(0, "c#1")
    rig.node.shards = (1,)
    assert rig.lingering.busy(0)
    await eventually("told", lambda: rig.node.sent and rig.node.sent[-1][0] == Shard(0))
    view.over = True
    await eventually("over", lambda: rig.node.sent[-1][2].over)
    assert not rig.lingering.busy(0)
    assert rig.node.stops == []


@in_loop
async def test_a_shard_that_came_back_is_nobody_elses(rig: Rig) -> None:
    rig.view(20, "yes")
    rig.lingering.releasing(0, "a#3")
    rig.lingering.taken(0)
    assert not rig.lingering._given
    assert not rig.lingering.busy(0)


@in_loop
async def test_what_is_passed_here_in_a_wrong_way_is_refused(rig: Rig) -> None:
    for wrong in (LingerEvent(0, 8, "X", b"{}"), LingerEvent(0, 4, "X", b"{}", "other")):
        with pytest.raises(ValueError, match="not for this process"):
            rig.node.heard[LINGER_EVENT](SimpleNamespace(body=wrong))


def test_the_holder_leaves_time_to_answer() -> None:
    assert passing.WHOLE_TTL_S < 3.0  # Discord's limit for an answer
