"""One shard's way from process to process: every phase, what is said twice, late or never."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_node.handing import (
    LOOK_EVERY_S,
    TRY_EVERY_S,
    Arm,
    Disarm,
    Do,
    Event,
    Failed,
    Handing,
    Happened,
    Release,
    Settle,
)
from shard_node.wire.handover import Phase

H, P = Happened, Phase


def play(handing: Handing, events: Iterable[Event], now: float = 0.0) -> list[Do]:
    """The effects of the last one."""
    found: list[Do] = []
    for event in events:
        found = handing.on(event, now)
    return found


def armed(op: str = "op-1") -> Handing:
    made = Handing(follows=True)
    assert made.follow() == [Do.WARM, Do.SAY]
    play(made, [H.WARMED, Arm(op), H.CONNECTED])
    assert made.phase is P.ARMED
    return made


def released(op: str = "op-1", retake_s: float = 1.0) -> Handing:
    made = Handing(owns=True)
    assert made.on(Release(op, "a#6", retake_s), 0.0) == [Do.GIVE, Do.SAY]
    assert made.on(H.GIVEN, 0.0) == [Do.SAY]
    assert made.phase is P.RELEASED
    return made


def test_a_successor_warms_by_itself_and_takes_what_is_let_go() -> None:
    one = Handing(follows=True)
    one.follow()
    assert (one.phase, one.op) == (P.WARMING, "")
    assert one.on(H.WARMED, 0.0) == [Do.SAY]
    assert one.on(Arm("op-1"), 0.1) == [Do.CONNECT, Do.SAY]
    assert (one.phase, one.op) == (P.WARM, "op-1")
    assert one.on(H.CONNECTED, 0.2) == [Do.TRY_LOCK, Do.SAY]
    assert one.on(H.REFUSED, 0.2) == []
    assert one.next_deadline() == pytest.approx(0.2 + TRY_EVERY_S)
    assert one.on(H.TICK, 0.2 + TRY_EVERY_S) == [Do.TRY_LOCK]
    assert one.on(H.LOCKED, 0.3) == [Do.TAKE, Do.SAY]
    assert one.on(H.JOINED, 0.4) == [Do.SAY]
    assert (one.phase, one.owns, one.next_deadline()) == (P.HELD, True, None)


def test_an_arm_before_it_is_warm_waits_for_that() -> None:
    one = Handing()
    assert one.on(Arm("op-1"), 0.0) == [Do.WARM, Do.SAY]
    assert one.on(Arm("op-1"), 1.0) == [Do.SAY]
    assert Do.CONNECT in one.on(H.WARMED, 2.0)


def test_what_is_not_given_up_in_time_fails_and_an_arm_gives_more_time() -> None:
    one = armed()
    one.on(Arm("op-1", 10.0), 6.0)
    one.on(H.REFUSED, 15.9)
    assert one.phase is P.ARMED
    assert Do.DROP in one.on(H.REFUSED, 16.0)
    assert (one.phase, one.error) == (P.FAILED, "it was not given up within 10 s")
    assert one.on(Arm("op-1"), 17.0) == [Do.SAY]
    play(one, [Disarm("op-1"), H.WARMED])
    assert one.phase is P.WARM
    assert Do.CONNECT in one.on(Arm("op-1"), 18.0)


def test_a_connection_made_ahead_that_ends_is_made_again() -> None:
    one = armed()
    assert one.on(H.LOST, 1.0) == [Do.CONNECT, Do.SAY]
    assert one.on(H.CONNECTED, 1.1) == [Do.TRY_LOCK, Do.SAY]


def test_a_disarmed_successor_stays_warm_and_a_disarmed_node_forgets() -> None:
    one = armed()
    assert one.on(Disarm("op-1"), 0.0) == [Do.DISCONNECT, Do.SAY]
    assert one.phase is P.WARM
    two = Handing()
    play(two, [Arm("op-1"), H.WARMED, H.CONNECTED])
    assert two.on(Disarm("op-1"), 0.0) == [Do.DROP, Do.SAY]
    assert two.phase is P.NONE


@pytest.mark.parametrize("events", [[H.LOCKED], [H.LOCKED, H.JOINED]], ids=["taking", "held"])
def test_what_it_has_goes_back_when_it_is_disarmed(events: list[Event]) -> None:
    one = armed()
    play(one, events)
    assert one.on(Disarm("op-0"), 1.0) == [Do.SAY]  # of another operation
    assert one.on(Disarm("op-1"), 1.0)[:2] == [Do.DROP, Do.WARM]
    assert not one.owns


def looks(one: Handing, *, until: float, now: float = 0.0) -> list[Do]:
    """As time goes by, with nobody who has the lock."""
    found: list[Do] = []
    while (due := one.next_deadline()) is not None and max(now, due) <= until:
        now = max(now, due)
        assert one.on(H.TICK, now) == [Do.TRY_LOCK]
        found += one.on(H.LOCKED, now)
    return found


def test_what_nobody_takes_is_taken_back_and_not_before() -> None:
    one = released(retake_s=1.0)
    early = looks(one, until=1.2)
    assert early == [Do.LET_GO] * 4
    assert looks(one, until=2.0, now=1.0) == [Do.RETAKE, Do.SAY]
    assert one.phase is P.TAKING
    one.on(H.JOINED, 2.0)
    assert (one.phase, one.owns) == (P.RETAKEN, True)


def test_what_was_taken_once_counts_anew() -> None:
    one = released()
    looks(one, until=0.9)
    one.on(H.REFUSED, 1.0)
    assert one.next_deadline() == 1.0 + LOOK_EVERY_S
    assert Do.RETAKE not in looks(one, until=2.2, now=1.0)
    assert Do.RETAKE in looks(one, until=2.6, now=2.2)


def test_settled_is_for_good() -> None:
    one = released()
    assert one.on(Settle("op-0"), 0.0) == [Do.SAY]
    assert one.on(Settle("op-1"), 0.0) == [Do.SAY, Do.LEAVE]
    assert (one.phase, one.owns, one.next_deadline()) == (P.NONE, False, None)
    assert one.on(Settle("op-1"), 0.0) == [Do.SAY]
    early = Handing(owns=True)
    play(early, [Release("op-1", "a#6"), Settle("op-1")])
    assert Do.LEAVE in early.on(H.GIVEN, 0.0)


def test_what_was_taken_back_is_let_go_when_it_is_the_others_after_all() -> None:
    for word in (Settle("op-1"), Disarm("op-1")):
        one = released(retake_s=0.0)
        looks(one, until=1.0)
        one.on(H.JOINED, 1.0)
        assert one.on(word, 2.0) == [Do.DROP, Do.SAY]
        assert (one.phase, one.owns) == (P.NONE, False)


def test_a_release_counts_once_for_an_operation() -> None:
    one = released()
    assert one.on(Release("op-1", "a#6"), 0.5) == [Do.SAY]
    back = released(retake_s=0.0)
    looks(back, until=1.0)
    back.on(H.JOINED, 1.0)
    assert back.on(Release("op-1", "a#6"), 1.5) == [Do.SAY]
    assert back.phase is P.RETAKEN
    assert back.on(Release("op-2", "a#7"), 2.0) == [Do.GIVE, Do.SAY]


def test_a_failure_is_told_and_everything_dropped() -> None:
    one = armed()
    assert one.on(Failed("no route"), 1.0) == [Do.DROP, Do.SAY]
    assert (one.phase, one.error) == (P.FAILED, "no route")


WORDS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Arm, st.sampled_from(["op-1", "op-2"]), st.just(10.0)),
    st.builds(Release, st.sampled_from(["op-1", "op-2"]), st.just("a#6"), st.just(1.0)),
    st.builds(Disarm, st.sampled_from(["op-1", "op-2"])),
    st.builds(Settle, st.sampled_from(["op-1", "op-2"])),
)


class World:
    """The shell, and a lock that another process may have."""

    def __init__(self, handing: Handing) -> None:
        self.handing, self.now = handing, 0.0
        self.mine = handing.owns
        self.others = False
        self.waiting: list[Event] = []

    def on(self, event: Event) -> None:
        self.carry(self.handing.on(event, self.now))

    def carry(self, effects: list[Do]) -> None:
        for effect in effects:
            if effect is Do.TRY_LOCK:
                free = not self.others
                self.mine = self.mine or free
                self.on(H.LOCKED if free else H.REFUSED)
            elif effect in (Do.LET_GO, Do.DROP):
                self.mine = False
                self.waiting.clear()
            elif effect is Do.GIVE:
                self.waiting = [H.GIVEN]
            elif effect in (Do.TAKE, Do.RETAKE):
                assert self.mine
                assert not self.others
                self.waiting = [H.JOINED]
            elif effect is Do.WARM:
                self.waiting = [H.WARMED]
            elif effect is Do.CONNECT:
                self.waiting = [H.CONNECTED]

    def step(self) -> None:
        """The first effect that waits is done, or time goes on."""
        if self.waiting:
            event = self.waiting.pop(0)
            if event is H.GIVEN:
                self.mine = False
            self.on(event)
        elif (due := self.handing.next_deadline()) is not None:
            self.now = max(self.now, due)
            self.on(H.TICK)


@settings(max_examples=300, deadline=None)
@given(
    st.booleans(),
    st.lists(st.one_of(WORDS, st.sampled_from(["step", "step", "step", "other"])), max_size=40),
)
def test_nothing_is_connected_without_its_lock(owns: bool, moves: list[Event | str]) -> None:
    """Whatever is said in whatever order: who has a shard has its lock, and time never spins."""
    world = World(Handing(owns=owns))
    for move in moves:
        if move == "step":
            world.step()
        elif move == "other":
            world.others = not world.others and not world.mine
        else:
            assert not isinstance(move, str)
            world.on(move)
        if world.handing.phase in (P.TAKING, P.HELD, P.RETAKEN):
            assert world.mine
        if world.handing.phase in (P.RELEASED, P.NONE, P.WARM) and not world.handing.owns:
            assert not world.mine
        due = world.handing.next_deadline()
        assert due is None or world.handing.phase in (P.ARMED, P.RELEASED)
