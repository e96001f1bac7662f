"""What the broker has swept behind a trimming, and in what pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from broker.core.events import StateCommitted
from broker.core.stateport import MemoryPort, SharedState
from broker.services import sweeping
from broker.services.sweeping import PIECE, PIECE_S, SWEPT, Sweeper
from shard_node.state.economy import RECENT_MAX, Deposit
from shard_node.state.erasing import ForgetUser
from shard_node.state.errors import StateError
from shard_node.state.keys import PARTITIONS, Table, partition_of
from shard_node.state.members import DeleteMember, UpdateMember
from shard_node.state.moderation import BanUser
from shard_node.state.traces import mentions
from shard_node.state.values import DeleteValue, SetValue
from shard_node.wire import topics
from shard_node.wire.state import StateOutcome, StateTrim
from tests.broker.test_retention import OP, World, few_kept

__all__ = ["few_kept"]
NAMES = 3 * SWEPT + 5


class Swept(World):
    """A broker whose log is trimmed behind a backup, whenever a test says so."""

    def trim(self, records: int = 30) -> None:
        assert self.ask(topics.STATE_TRIM, StateTrim(records), OP).up_to > 0
        self.verified()
        self.trim_all()

    def do(self, *txs: bytes, peer: bytes = OP) -> int:
        return super().do(*txs, peer=peer)

    def done(self, *ops: Any) -> StateOutcome:
        found = self.outcome(*ops)
        assert isinstance(found, StateOutcome) and found.error is None, found
        return found

    def sweep(self) -> None:
        """Until nothing is due."""
        for _ in range(10_000):
            due = self.due()
            if due is None or due > self.now + 1:
                return
            self.now = max(self.now, due)
            self.tick()
        raise AssertionError("it does not end")

    def tables(self) -> Counter[Table]:
        return Counter(Table(key[1]) for key in self.port.view.rows)


@pytest.fixture
def world() -> Swept:
    """Names that came and went, and enough after them that these records go."""
    world = Swept()
    for number in range(NAMES):
        world.done(SetValue(f"n{number}", 1))
        world.done(DeleteValue(f"n{number}"))
    for _ in range(40):
        world.done(SetValue("v", 1))
    return world


def test_marks_of_what_was_trimmed_go_in_pieces_and_those_of_the_rest_stay(world: Swept) -> None:
    world.done(SetValue("young", 1))
    world.done(DeleteValue("young"))
    world.trim()
    before, last = world.tables(), world.port.place().lsn
    assert before[Table.GONE] == NAMES + 1
    world.sweep()
    assert world.tables()[Table.GONE] == 1
    entries = list(world.port.entries(last, 100))
    assert [len(entry.payload().ops[0].rows) for entry in entries] == [SWEPT] * 3 + [5]
    assert {entry.payload().actor.node for entry in entries} == {"broker"}
    assert {entry.payload().ops[0].up_to for entry in entries} == {world.port.first_lsn() - 1}
    assert len({entry.op_id for entry in entries} | {entry.salt for entry in entries}) == 8
    assert world.logged[-1] == (
        f"swept {NAMES} rows that told only of records before {world.port.first_lsn()}"
    )
    assert world.done(SetValue("n7", 1)).results == ({"version": 2},)
    assert world.errors == []


def test_nothing_is_swept_of_a_log_that_was_never_trimmed(world: Swept) -> None:
    world.hours(1)
    world.verified()
    assert world.due() == world.now + 86_400
    assert world.tables()[Table.GONE] == NAMES


def test_what_was_left_is_swept_behind_the_next_backup_though_nothing_is_trimmed(
    world: Swept,
) -> None:
    world.trim()
    world.broker._services["retention"]._sweeper.due = None  # as of a broker that ended
    world.ask(topics.STATE_TRIM, StateTrim(10_000), OP)
    world.verified()
    assert not world.trims
    world.sweep()
    assert world.tables()[Table.GONE] == 0


def test_the_history_of_a_rare_account_and_of_erased_records_goes() -> None:
    world = Swept()
    for _ in range(RECENT_MAX):
        world.done(Deposit("rare", 1))
    world.done(BanUser(7, "global", "why"))
    for _ in range(40):
        world.done(SetValue("v", 1))
    world.trim()  # of this port, which keeps the rows, as if their payloads had been erased
    world.done(Deposit("rare", 1))
    assert world.tables()[Table.HISTORY] == 2
    world.sweep()
    assert world.tables()[Table.HISTORY] == 0


def test_no_turn_looks_at_more_than_a_piece(world: Swept, monkeypatch: pytest.MonkeyPatch) -> None:
    port = MemoryPort()
    port._first = 2
    home = [name for name in map(str, range(200_000)) if partition_of(name) == 3][: 2 * PIECE]
    for name in home:
        port.view.write({sweeping_key(name): b"\x93\x01\x05\x05"})
    shared, seen = SharedState(port), Counter[int]()
    turn = 0

    def looked(key: bytes, row: bytes, first: int) -> bool:
        seen[turn] += 1
        return False

    monkeypatch.setattr(sweeping, "goes", looked)
    sweeper = Sweeper(shared)
    sweeper.begin(1.0)
    while sweeper.due is not None:
        turn += 1
        assert sweeper.look(sweeper.due) == []
    assert (sum(seen.values()), max(seen.values())) == (2 * PIECE, PIECE)
    assert PARTITIONS * 3 * sweeping.BEGINNING / PIECE < turn < 40


def sweeping_key(name: str) -> bytes:
    from shard_node.state.keys import gone_key, key_of

    return gone_key(key_of(Table.VALUE, name))


def test_more_is_found_only_when_there_is_room_for_it() -> None:
    before = Swept()
    rows = {sweeping_key(str(number)): b"\x93\x01\x01\x01" for number in range(3000)}
    before.port.view.write(rows)
    before.fill(60, 1)
    world = Swept(port=before.port)
    world.trim()
    sweeper = world.broker._services["retention"]._sweeper
    most = 0
    while sweeper.due is not None:
        world.now = sweeper.due
        world.tick()
        most = max(most, len(sweeper._found))
    assert most <= SWEPT + PIECE
    assert world.tables()[Table.GONE] == 0


def test_what_is_refused_as_the_disk_is_behind_is_swept_the_next_time(
    world: Swept, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.trim()
    with monkeypatch.context() as patch:
        patch.setattr("broker.services.state.STATE_WAITING_MAX", 0)
        world.sweep()
    assert world.tables()[Table.GONE] == NAMES
    world.ask(topics.STATE_TRIM, StateTrim(10_000), OP)
    world.verified()
    world.sweep()
    assert world.tables()[Table.GONE] == 0


def test_a_commit_that_fails_takes_nobody_elses_answer_and_is_made_good(world: Swept) -> None:
    world.trim()
    world.auto = False
    while not world.keeps:
        world.tick(PIECE_S)
    world.fail()
    world.auto = True
    world.sweep()
    assert 0 < world.tables()[Table.GONE] <= SWEPT
    world.ask(topics.STATE_TRIM, StateTrim(10_000), OP)
    world.verified()
    world.sweep()
    assert world.tables()[Table.GONE] == 0


def test_damaged_rows_stay_and_hold_up_nothing_else(
    world: Swept, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, wrong = world.port.view.scan, partition_of("n0")

    def damaged(prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        if prefix[:2] == bytes((wrong, Table.GONE)):
            raise StateError("it is not what was written")
        return scan(prefix, after)

    monkeypatch.setattr(world.port.view, "scan", damaged)
    world.trim()
    world.sweep()
    left = [key for key in world.port.view.rows if key[1] == Table.GONE]
    assert left and {key[0] for key in left} == {wrong}
    assert any(f"partition {wrong} are not swept" in text for text in world.errors)


def test_other_commits_and_requests_go_on_between_the_pieces(world: Swept) -> None:
    world.trim()
    answers: list[Any] = []
    while world.tables()[Table.GONE]:
        world.tick(PIECE_S)
        answers.append(world.done(SetValue("v", len(answers))).lsn)
        world.give(StateCommitted(0))
    assert len(answers) >= NAMES // SWEPT


USER = 80351110224678912
GUILD = next(guild for guild in range(1, 9999) if partition_of(guild) == PARTITIONS - 1)
"""What is found of it is found first, and swept when all else was looked at."""


def test_no_record_tells_of_a_person_who_was_forgotten_while_rows_were_looked_at() -> None:
    world = Swept()
    world.done(UpdateMember(GUILD, USER, fields={"x": 1}))
    world.done(DeleteMember(GUILD, USER))
    world.done(SetValue("w", 1))
    world.done(DeleteValue("w"))
    for _ in range(40):
        world.done(SetValue("v", 1))
    world.trim()
    sweeper = world.broker._services["retention"]._sweeper
    world.tick(PIECE_S)
    assert any(USER in name for name in sweeper._found) and sweeper._places
    world.auto = False
    number = world.do(world.tx(ForgetUser(USER)))
    assert world.shared.forgetting_soon
    for _ in range(100):  # all is looked at; the commit is under way
        world.tick(PIECE_S)
    assert not sweeper._places and sweeper._found and len(world.keeps) == 1
    durable = [world.durable()]  # which the file does not show
    assert world.answer(number).outcomes[0].error is None
    for _ in range(100):
        world.tick(PIECE_S)
        while world.keeps:
            durable.append(world.durable())
    for keep in durable:
        world.settle(keep)
    while world.erases:
        world.erase()
        world.tick(PIECE_S)
    world.auto = True
    world.sweep()
    told = [
        entry.kinds
        for entry in world.port.entries(0, 1000)
        if (payload := entry.payload()) and mentions(payload, USER)
    ]
    assert told == [("ForgetUser",)]
    assert world.tables()[Table.GONE] == 0 and not world.shared.forgetting
