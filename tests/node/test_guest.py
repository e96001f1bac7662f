"""A guild's events are handled once and in order, whatever becomes of batches, answers and
processes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_node.guest import Fate, Guest
from shard_node.wire.migration import GuildAt

Event = tuple[str, int]
Batch = tuple[str, int, list[int]]
"""Session, the event before, events."""


class World:
    """A feeder that says again what is not acknowledged, and the owners of its guild."""

    def __init__(self, sessions: list[list[int]], decide: Callable[..., Fate] = Guest.decide):
        self.at = GuildAt("s0", sessions[0][0])
        self.events = [
            (f"s{number}", seq)
            for number, seqs in enumerate(sessions)
            for seq in (seqs[1:] if number == 0 else seqs)
        ]
        self.handled: list[Event] = []
        self.guest = Guest(self.at)
        self.acked = 0
        self.under_way: list[Batch] = []
        self._decide = decide

    def send(self, count: int) -> None:
        """One batch of one session, from the oldest that is not acknowledged."""
        if self.acked == len(self.events):
            return
        session = self.events[self.acked][0]
        seqs = [s for n, s in self.events[self.acked : self.acked + count] if n == session]
        before = [s for n, s in self.events[: self.acked] if n == session]
        first = self.at.seq if session == self.at.session else 0
        self.under_way.append((session, before[-1] if before else first, seqs))

    def arrive(self, which: int, *, answered: bool, again: bool) -> None:
        """Any batch, perhaps for the second time, perhaps without an answer."""
        if not self.under_way:
            return
        batch = self.under_way[which % len(self.under_way)]
        if not again:
            self.under_way.remove(batch)
        session, after, seqs = batch
        for seq in seqs:
            fate = self._decide(self.guest, session, after, seq)
            if fate is Fate.GAP:
                break
            after = seq
            if fate is Fate.NEW:
                self.handled.append((session, seq))
        if answered and self.guest.at != self.at:
            place = self.events.index((self.guest.session, self.guest.seq))
            self.acked = max(self.acked, place + 1)

    def die(self) -> None:
        """The next owner knows what was written; what is under way was for the one before."""
        self.guest = Guest(GuildAt(*self.handled[-1]) if self.handled else self.at)
        self.under_way.clear()

    def end(self) -> None:
        """All calm down."""
        for _ in range(3 * len(self.events) + 3):
            self.send(8)
            self.arrive(-1, answered=True, again=False)


seqs = st.lists(st.integers(1, 40), min_size=1, max_size=8, unique=True).map(sorted)
acts = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 4)),
    st.tuples(st.just("arrive"), st.integers(0, 5), st.booleans(), st.booleans()),
    st.just(("die",)),
)


def play(world: World, doing: list[tuple[object, ...]]) -> None:
    for act in doing:
        match act:
            case ("send", int(count)):
                world.send(count)
            case ("arrive", int(which), bool(answered), bool(again)):
                world.arrive(which, answered=answered, again=again)
            case _:
                world.die()
        assert world.handled == world.events[: len(world.handled)]
    world.end()
    assert world.handled == world.events


@given(st.lists(seqs, min_size=1, max_size=3), st.lists(acts, max_size=30))
def test_each_event_once_and_in_order(
    sessions: list[list[int]], doing: list[tuple[object, ...]]
) -> None:
    play(World(sessions), doing)


def forgetful(guest: Guest, session: str, after: int, seq: int) -> Fate:
    """Knows nothing of sessions that are over."""
    guest._over.clear()
    return Guest.decide(guest, session, after, seq)


def credulous(guest: Guest, session: str, after: int, seq: int) -> Fate:
    """Takes all that comes for new."""
    guest.session, guest.seq = session, min(guest.seq, seq - 1)
    return Guest.decide(guest, session, 0, seq)


@pytest.mark.parametrize("fault", [forgetful, credulous])
def test_the_play_finds_a_guest_that_looks_less_closely(fault: Callable[..., Fate]) -> None:
    """The first batch comes again, late."""
    doing: list[tuple[object, ...]] = []
    for number in range(3):
        doing += [("send", 1), ("arrive", number, True, True)]
    play(World([[1], [1, 2], [1]]), [*doing, ("arrive", 0, True, True)])
    with pytest.raises(AssertionError):
        play(World([[1], [1, 2], [1]], fault), [*doing, ("arrive", 0, True, True)])


@pytest.mark.parametrize(
    ("at", "came", "fate"),
    [
        (("s", 5), ("s", 3, 6), Fate.NEW),
        (("s", 5), ("s", 5, 6), Fate.NEW),
        (("s", 5), ("s", 3, 5), Fate.SEEN),
        (("s", 5), ("s", 0, 2), Fate.SEEN),
        (("s", 5), ("s", 6, 7), Fate.GAP),
        (("s", 5), ("t", 0, 2), Fate.NEW),
        (("s", 5), ("t", 1, 2), Fate.GAP),
        (("", 0), ("s", 0, 2), Fate.NEW),
        (("", 0), ("s", 1, 2), Fate.GAP),
    ],
)
def test_what_becomes_of_an_event(
    at: tuple[str, int], came: tuple[str, int, int], fate: Fate
) -> None:
    guest = Guest(GuildAt(*at))
    assert guest.decide(*came) is fate
    assert guest.at == (GuildAt(came[0], came[2]) if fate is Fate.NEW else GuildAt(*at))
