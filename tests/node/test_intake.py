"""What a process is told of the state, from the broker's own machine: each change once, whatever
is lost on the way. Thousands of small worlds, one from each seed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Coroutine, Generator, Sequence
from typing import Any

import pytest

from broker.core.events import FrameReceived
from shard_node.errors import BrokerUnavailable
from shard_node.shared import intake as module
from shard_node.shared.backend import Logged
from shard_node.shared.intake import Intake
from shard_node.state.guild_config import DeleteConfig, UpdateConfig
from shard_node.state.keys import Table, key_of
from shard_node.state.log import read_entry
from shard_node.state.records import Record
from shard_node.state.rows import read
from shard_node.state.values import SetValue
from shard_node.wire import topics
from shard_node.wire.bodies import Heartbeat, Register, ShardReport, ShardState
from shard_node.wire.categories import StateUpdate
from shard_node.wire.codec import encode_body, encode_header
from shard_node.wire.header import Kind, header
from shard_node.wire.identity import heartbeat_id
from shard_node.wire.state import StateAt, StateLog, StateRead, StateScan
from shard_node.wire.targets import BROKER
from tests.support.state_world import A, B, StateWorld

GUILDS = tuple(range(1, 7))
FIELDS = ("prefix", "color", "level")
TABLE = "state:config"


class Asked:
    """Yields a request to whoever drives the coroutine, and is sent the answer."""

    def __init__(self, topic: str, body: Any) -> None:
        self.topic, self.body = topic, body

    def __await__(self) -> Generator[Asked, Any, Any]:
        answer = yield self
        if answer is None:
            raise BrokerUnavailable("lost")
        return answer


class Source:
    """What an Intake asks, as requests that the test answers when it likes."""

    def __init__(self) -> None:
        self.wanted = False

    async def where(self) -> StateAt:
        found: StateAt = await Asked(topics.STATE_MARK, [0])
        return found

    async def read_log(self, after: int, limit: int) -> Logged:
        found = await Asked(topics.STATE_LOG, StateLog(after, limit))
        entries = tuple(map(read_entry, found.entries))
        return Logged(entries, found.read_to, found.first, found.last, found.more)

    async def rows(self, keys: Sequence[bytes]) -> list[tuple[bytes | None, int]]:
        found = await Asked(topics.STATE_READ, StateRead(tuple(keys)))
        return [(row, found.lsn) for row in found.rows]

    async def all_there(self) -> AsyncIterator[tuple[bytes, bytes]]:
        for partition in sorted({key_of(Table.CONFIG, guild)[0] for guild in GUILDS}):
            found = await Asked(topics.STATE_SCAN, StateScan(bytes((partition,))))
            for row in found.rows:
                yield row

    def missed(self) -> None:
        self.wanted = True


class World:
    """One broker, node ``a`` that listens to all configurations, and a lossy way between.

    What ``a`` is told is put together to what it then believes of each guild; a change that
    comes twice, or not from the version that it knows, is a fault."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = StateWorld()
        self.source = Source()
        self.told: list[StateUpdate] = []
        self.intake = Intake(self.source, self.told.append)
        self.intake.listen(True)
        self.way: list[Any] = []
        self.running: Coroutine[Any, Any, None] | None = None
        self.asked: tuple[Asked, int] | None = None
        self.lost = self.trims = 0
        self.behind = 0
        self.register()
        self.settle()

    # --- the node

    def register(self) -> None:
        """The connection broke: what was on its way is lost."""
        self.way.clear()
        self.world.heard.clear()
        shards = tuple(ShardReport(n, ShardState.READY) for n in (0, 1))
        body = Register("a", 1, 1, 4, shards, (TABLE, topics.STATE_COMMITTED))
        number = self.world.send(A, topics.REGISTER, body)
        self.intake.registered(self.world.answer(number).told)
        self.source.wanted = True
        if self.asked is not None:
            self.asked = (self.asked[0], 0)  # it is asked again

    def step(self) -> None:
        """The node's next step: it asks, or hears the answer, or reads a frame."""
        if self.running is None:
            if self.source.wanted:
                self.source.wanted = False
                self.running = self.intake.catch_up()
                self._send(None)
        elif self.asked is not None:
            asked, number = self.asked
            if not number:
                self.asked = (asked, self.world.send(A, asked.topic, asked.body))
                return
            answer = self.world.answer(number)
            if answer is not None:
                self._send(answer)

    def _send(self, answer: Any) -> None:
        assert self.running is not None
        try:
            self.asked = (self.running.send(answer), 0)
        except StopIteration:
            self.running = self.asked = None
        except BrokerUnavailable:
            self.running, self.asked, self.source.wanted = None, None, True

    def fail(self) -> None:
        """What was asked is not answered."""
        if self.asked is not None:
            self._send(None)

    def carry(self) -> None:
        """Events for the node that the broker has put out are on their way now."""
        mine = (topics.STATE_UPDATE, topics.STATE_COMMITTED)
        for frame in self.world.heard:
            if frame.peer == A and frame.head.topic in mine and frame.head.kind is Kind.EVENT:
                self.way.append(frame)
        self.world.heard = [
            frame for frame in self.world.heard if frame.head.kind is not Kind.EVENT
        ]

    def hear(self) -> None:
        if self.way:
            frame = self.way.pop(0)
            number, body = frame.head.correlation, frame.read()
            if frame.head.topic == topics.STATE_UPDATE:
                self.intake.heard(body, number)
            else:
                self.intake.reached(body.lsn, number)

    def lose(self) -> None:
        if self.way:
            self.way.pop(self.random.randrange(len(self.way)))
            self.lost += 1

    def beat(self) -> None:
        """A heartbeat's answer; what it told of a beat ago has had its time to come."""
        body = Heartbeat(1, 0.0, 0, 0, ())
        head = header(Kind.REQUEST, BROKER, topics.HEARTBEAT, correlation=1 << 40)
        self.world.give(FrameReceived(heartbeat_id("a", 1), encode_header(head), encode_body(body)))
        acks = [f for f in self.world.heard if f.head.topic == topics.HEARTBEAT]
        self.behind = acks[-1].read().told

    # --- what happens

    def write(self) -> None:
        draw = self.random
        guild = draw.choice(GUILDS)
        if draw.random() < 0.2:
            op: Any = DeleteConfig(guild)
        elif draw.random() < 0.1:
            op = SetValue("other", draw.random())
        else:
            op = UpdateConfig(guild, fields={draw.choice(FIELDS): draw.randrange(1 << 40)})
        self.world.do(self.world.tx(op), peer=B)

    def trim(self) -> None:
        last = self.world.port.place().lsn
        if last > 2:
            self.world.port.trim(self.random.randrange(1, last))
            self.trims += 1

    def play(self, steps: int, *, trims: bool) -> None:
        acts = [
            (self.write, 6), (self.commit, 5), (self.carry, 6), (self.hear, 8), (self.step, 8),
            (self.lose, 1), (self.beat, 1), (self.register, 0.15), (self.fail, 0.3),
        ]  # fmt: skip
        if trims:
            acts.append((self.trim, 0.3))
        chosen = self.random.choices([a for a, _ in acts], [w for _, w in acts], k=steps)
        for act in chosen:
            act()
        self.settle()

    def commit(self) -> None:
        if self.world.keeps:
            self.world.commit()
        self.world.tick(self.random.choice((0.0, 0.006)))

    def settle(self) -> None:
        """All that is on its way comes; then two heartbeats, and there is quiet."""
        for _ in range(3):
            while self.world.keeps:
                self.world.commit()
            self.world.tick(0.01)
            self.carry()
            while self.way:
                self.hear()
            self.beat()
            self.intake.told(self.behind)
            while self.source.wanted or self.running is not None:
                self.step()
            self.carry()

    def check(self, *, versions: bool) -> None:
        """What was told comes to what is there, and nothing was told twice."""
        known: dict[str, tuple[int, dict[str, Any]]] = {}
        last: dict[str, int] = {}
        for update in self.told:
            if update.table != "config":
                continue
            version, fields = known.get(update.key, (0, {}))
            assert update.lsn > last.get(update.key, 0), f"{update} was told before"
            last[update.key] = update.lsn
            if versions:
                assert update.old_version in (version, 0), f"{update} is not from {version}"
                assert update.old_version == version or not fields, f"{update}: {version}"
            if update.new_version == 0 or update.old_version == 0:
                fields = {}
            fields = {name: fields[name] for name in fields if name not in update.removed}
            known[update.key] = (update.new_version, fields | update.changed)
        for guild in GUILDS:
            row = read(Record, self.world.port.view.get(key_of(Table.CONFIG, guild)))
            found = known.get(str(guild), (0, {}))
            assert found == ((0, {}) if row is None else (row.version, row.fields)), guild


def played(seed: int, *, trims: bool) -> World:
    world = World(seed)
    world.play(120, trims=trims)
    return world


@pytest.mark.parametrize("trims", [False, True], ids=["log", "trimmed"])
@pytest.mark.parametrize("block", range(3))
def test_each_change_is_told_once_whatever_is_lost(block: int, trims: bool) -> None:
    worlds = [played(seed, trims=trims) for seed in range(block * 40, block * 40 + 40)]
    for world in worlds:
        world.check(versions=not trims)
    assert sum(world.lost for world in worlds) > 20
    assert sum(world.intake.gaps for world in worlds) > 20


@pytest.mark.slow
@pytest.mark.parametrize("trims", [False, True], ids=["log", "trimmed"])
@pytest.mark.parametrize("block", range(4))
def test_each_change_is_told_once_in_thousands_of_worlds(block: int, trims: bool) -> None:
    for seed in range(1000 + block * 250, 1250 + block * 250):
        try:
            played(seed, trims=trims).check(versions=not trims)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def faults(seeds: int = 60) -> int:
    count = 0
    for seed in range(seeds):
        try:
            played(seed, trims=False).check(versions=True)
        except AssertionError:
            count += 1
    return count


def test_the_check_sees_a_gap_that_nobody_minds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Intake, "_follow", lambda self, number, step: None)
    assert faults() > 5


def test_the_check_sees_what_is_told_before_what_was_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def heard(self: Intake, update: StateUpdate, number: int = 0) -> None:
        self._pass_on(update)
        self._follow(number, 1)

    monkeypatch.setattr(Intake, "heard", heard)
    assert faults() > 5


def test_the_check_sees_what_is_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def pass_on(self: Intake, update: StateUpdate, upto: int = 0) -> None:
        self._tell(update)

    monkeypatch.setattr(Intake, "_pass_on", pass_on)
    assert faults() > 5


def test_more_changes_than_may_be_held_are_read_from_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "HELD_MAX", 2)
    assert faults(40) == 0
