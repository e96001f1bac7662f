"""The state with a real broker, its socket and its LMDB: commits, kills, what comes back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from broker.ports.state import FOLDER
from broker.services.cooldowns import CHECKPOINT_S
from broker.services.stopping import EXIT_STORE
from shard_node.state.cooldowns import AcquireCooldown
from shard_node.state.economy import Account, Deposit, Total, Transfer
from shard_node.state.erasing import ForgetUser
from shard_node.state.files import LOG, lsn_key
from shard_node.state.keys import Table, key_of
from shard_node.state.log import GENESIS, fault, read_entry
from shard_node.state.rows import read
from shard_node.state.tx import Tx
from shard_node.state.values import SetValue, Value
from shard_node.wire import topics
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.codec import decode_body
from shard_node.wire.header import Kind
from shard_node.wire.identity import client_id
from shard_node.wire.state import (
    StateAt,
    StateDo,
    StateDone,
    StateLog,
    StateLogged,
    StateMark,
    StateRead,
    StateRows,
)
from tests.support.broker_rig import Peer, Rig
from tests.support.state_store import plant

pytestmark = pytest.mark.slow

ACCOUNTS = 10
START = 1000


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        rig.launch()
        rig.hear("serving")
        yield rig


def client(rig: Rig) -> Peer:
    """A command line asks one thing at a time; who streams is a client."""
    return Peer(rig, client_id("bank", os.getpid(), len(rig.peers)))


def tx(number: int, *ops: Any) -> bytes:
    name = number.to_bytes(16, "big")
    return msgspec.msgpack.encode(Tx(name, name, ops))


def done(peer: Peer, correlation: int) -> StateDone:
    kind, body = peer.answer(correlation)
    assert kind is Kind.REPLY, body
    return decode_body(body, StateDone)


def do(peer: Peer, *txs: bytes) -> StateDone:
    return done(peer, peer.ask(topics.STATE_DO, StateDo(txs)))


def asked(peer: Peer, topic: str, body: Any) -> Any:
    kind, data = peer.request(topic, body)
    assert kind is Kind.REPLY, data
    return decode_body(data, topics.TOPICS[topic].reply)


def balances(peer: Peer) -> list[int]:
    keys = tuple(key_of(Table.ACCOUNT, f"u{n}") for n in range(ACCOUNTS))
    rows: StateRows = asked(peer, topics.STATE_READ, StateRead(keys))
    return [account.balance for row in rows.rows if (account := read(Account, row)) is not None]


def whole_log(peer: Peer) -> list[Any]:
    """Every record; the chain must be whole."""
    entries: list[Any] = []
    more, previous = True, GENESIS
    while more:
        after = entries[-1].lsn if entries else 0
        page: StateLogged = asked(peer, topics.STATE_LOG, StateLog(after, 1000))
        entries += [read_entry(data) for data in page.entries]
        more = page.more
    for lsn, entry in enumerate(entries, 1):
        assert entry.lsn == lsn
        assert fault(entry, previous) == ""
        previous = entry.digest
    return entries


def test_a_transaction_is_durable_before_its_answer(rig: Rig) -> None:
    peer = rig.operator()
    (outcome,) = do(peer, tx(1, SetValue("x", {"a": 1}))).outcomes
    assert (outcome.lsn, outcome.error) == (1, None)
    rig.kill()
    rig.launch()
    rig.hear("serving")
    peer = rig.operator()
    rows = asked(peer, topics.STATE_READ, StateRead((key_of(Table.VALUE, "x"),)))
    assert rows.lsn == 1
    assert read(Value, rows.rows[0]).value == {"a": 1}
    assert do(peer, tx(1, SetValue("x", {"a": 1}))).outcomes == (outcome,)
    assert asked(peer, topics.STATE_MARK, StateMark()).lsn == 1


def test_the_states_folder_is_private(rig: Rig) -> None:
    do(rig.operator(), tx(1, SetValue("x", 1)))
    folder = rig.data / FOLDER
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_status_tells_of_the_state(rig: Rig) -> None:
    for number in range(1, 4):
        do(rig.operator(), tx(number, SetValue("x", number)))
    figures = rig.status()["state"]
    assert (figures["lsn"], figures["commits"], figures["waiting"]) == (3, 3, 0)
    assert 0 < figures["last_commit_ms"] < 5000


def test_log_time_does_not_stand_still_while_the_broker_is_away(rig: Rig) -> None:
    do(rig.operator(), tx(1, SetValue("x", 1)))
    before: StateAt = asked(rig.operator(), topics.STATE_MARK, StateMark(1))
    rig.kill()
    rig.launch()
    rig.hear("serving")
    after: StateAt = asked(rig.operator(), topics.STATE_MARK, StateMark())
    assert after.at_ms == before.at_ms
    assert after.now_ms > before.now_ms >= before.at_ms
    assert after.now_ms - before.now_ms < 60_000


def test_a_mark_is_waited_for(rig: Rig) -> None:
    waiting, writer = rig.operator(), rig.operator()
    correlation = waiting.ask(topics.STATE_MARK, StateMark(2))
    do(writer, tx(1, SetValue("x", 1)))
    do(writer, tx(2, SetValue("x", 2)))
    kind, body = waiting.answer(correlation)
    assert kind is Kind.REPLY
    assert decode_body(body, StateAt).lsn >= 2
    assert waiting.error(topics.STATE_MARK, StateMark(99), ttl_ms=200) == "E_TIMEOUT"


def test_a_node_hears_of_changes_and_commits(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        node = rig.fleet()[0]
        node.send(Kind.EVENT, topics.SUBSCRIBE, [["state:value", topics.STATE_COMMITTED]])
        assert node.beat().registered
        while "state:value" not in asked_topics(rig):
            node.beat()
        do(rig.operator(), tx(1, SetValue("x", 5)))
        _, body = node.topic(topics.STATE_UPDATE)
        update = decode_body(body, topics.TOPICS[topics.STATE_UPDATE].body)
        assert (update.table, update.key, update.changed) == ("value", "x", {"value": 5})
        _, body = node.topic(topics.STATE_COMMITTED)
        assert decode_body(body, StateAt).lsn == 1


def asked_topics(rig: Rig) -> dict[str, Any]:
    kind, body = rig.operator().request(topics.ROUTES, [])
    assert kind is Kind.REPLY
    shown: dict[str, Any] = decode_body(body, dict)["topics"]
    return shown


class Stream:
    """Transfers from one connection, many in flight, sent again until they are answered."""

    def __init__(self) -> None:
        self.number = 100
        self.unanswered: dict[int, bytes] = {}
        self.confirmed: dict[int, int] = {}
        self._asked: dict[int, tuple[int, ...]] = {}

    def next(self) -> int:
        self.number += 1
        source, target = self.number % ACCOUNTS, (self.number * 7 + 1) % ACCOUNTS
        if source == target:
            target = (target + 1) % ACCOUNTS
        transfer = Transfer(f"u{source}", f"u{target}", 1 + self.number % 3)
        self.unanswered[self.number] = tx(self.number, transfer)
        return self.number

    def send(self, peer: Peer, numbers: list[int]) -> None:
        body = StateDo(tuple(self.unanswered[number] for number in numbers))
        self._asked[peer.ask(topics.STATE_DO, body)] = tuple(numbers)

    def take(self, peer: Peer, within_s: float) -> bool:
        """One more answer; False where none came."""
        try:
            head, body = peer.frame(lambda h: h.correlation in self._asked, within_s)
        except AssertionError:
            return False
        numbers = self._asked.pop(head.correlation)
        assert head.kind is Kind.REPLY, body
        for number, outcome in zip(numbers, decode_body(body, StateDone).outcomes, strict=True):
            assert outcome.error is None or outcome.error.code == "E_FUNDS"
            self.confirmed[number] = outcome.lsn
            del self.unanswered[number]
        return True

    def forget_asked(self) -> None:
        self._asked.clear()


@pytest.mark.parametrize("answers_before_kill", [1, 7, 40, 90])
def test_a_kill_in_the_middle_loses_nothing_and_applies_nothing_twice(
    rig: Rig, answers_before_kill: int
) -> None:
    peer, stream = client(rig), Stream()
    do(peer, *(tx(n + 1, Deposit(f"u{n}", START)) for n in range(ACCOUNTS)))
    for _ in range(3):
        for _ in range(100):
            stream.send(peer, [stream.next() for _ in range(5)])
        for _ in range(answers_before_kill):
            assert stream.take(peer, 10)
        for _ in range(100):
            stream.send(peer, [stream.next() for _ in range(5)])
        rig.kill()
        while stream.take(peer, 0.2):  # what it still said before its end
            pass
        rig.launch()
        rig.hear("serving")
        peer = client(rig)
        stream.forget_asked()
        left = sorted(stream.unanswered)
        for start in range(0, len(left), 50):
            stream.send(peer, left[start : start + 50])
        while stream.unanswered:
            assert stream.take(peer, 10)
    entries = whole_log(peer)
    by_id = {entry.op_id: entry.lsn for entry in entries}
    assert len(by_id) == len(entries)
    for number, lsn in stream.confirmed.items():
        assert lsn == 0 or by_id[number.to_bytes(16, "big")] == lsn
    applied = sum(1 for lsn in stream.confirmed.values() if lsn)
    assert len(entries) == ACCOUNTS + applied
    assert sum(balances(peer)) == ACCOUNTS * START
    assert min(balances(peer)) >= 0
    rows = asked(peer, topics.STATE_READ, StateRead((key_of(Table.TOTAL, "source", "deposit"),)))
    assert read(Total, rows.rows[0]).amount == ACCOUNTS * START


SOON_KEPT = """
from broker.services import cooldowns
cooldowns.CHECKPOINT_S = 1.0
"""


def test_short_cooldowns_outlive_a_crash_as_far_as_they_were_kept(rig: Rig) -> None:
    rig.terminate()
    rig.prelude = SOON_KEPT
    rig.launch()
    rig.hear("serving")
    peer = rig.operator()
    use = tx(1, AcquireCooldown("x", 1, 60_000))
    assert do(peer, use).outcomes[0].error is None
    assert do(peer, tx(2, AcquireCooldown("x", 1, 60_000))).outcomes[0].error is not None
    deadline = time.monotonic() + 2 * CHECKPOINT_S
    while time.monotonic() < deadline:  # nothing tells of a checkpoint but the file
        if b"cooldowns" in (rig.data / FOLDER / "data.mdb").read_bytes():
            break
        time.sleep(0.1)
    time.sleep(0.1)
    rig.kill()
    rig.launch()
    rig.hear("serving")
    refused = do(rig.operator(), tx(3, AcquireCooldown("x", 1, 60_000))).outcomes[0]
    assert refused.error is not None
    assert refused.error.code == "E_COOLDOWN"


def test_a_person_is_erased_from_the_log_over_a_kill(rig: Rig) -> None:
    peer, him = client(rig), 4_242_424_242
    wanted = 700
    txs = [tx(n, SetValue(f"user:{him}:{n % 5}", n)) for n in range(1, wanted + 1)]
    do(peer, *txs)
    (outcome,) = do(peer, tx(9999, ForgetUser(him))).outcomes
    assert outcome.error is None
    rig.kill()
    rig.launch()
    rig.hear("serving")
    deadline = time.monotonic() + 15
    while rig.status()["state"]["forgetting"]:
        assert time.monotonic() < deadline
    entries = whole_log(rig.operator())
    assert [entry.body is None for entry in entries] == [True] * wanted + [False]


PANICS = """
import pathlib, store.errors, {module}
real = {module}.{name}
def panics(*given, **more):
    if pathlib.Path({flag!r}).exists():
        raise store.errors.StorePanic("planted")
    return real(*given, **more)
{module}.{name} = panics
"""


@pytest.mark.parametrize("name", ["append", "commit"])
def test_a_store_that_gave_up_ends_the_broker_and_the_next_one_writes(
    tmp_path: Path, name: str
) -> None:
    """``append`` is the journal's, ``commit`` that of the file behind it."""
    flag = tmp_path / "flag"
    with Rig(tmp_path) as rig:
        rig.prelude = PANICS.format(module="store.state", name=f"StateStore.{name}", flag=str(flag))
        rig.launch()
        rig.hear("serving")
        peer = client(rig)
        assert do(peer, tx(1, SetValue("v", 1))).outcomes[0].lsn == 1
        asked(peer, topics.STATE_MARK, StateMark(1))  # in the file: only the next one panics
        flag.touch()
        kind, data = peer.request(topics.STATE_DO, StateDo((tx(2, SetValue("v", 2)),)))
        if name == "append":
            body = decode_body(data, ErrorBody)
            assert (kind, body.code, body.retryable) == (Kind.ERROR, "E_STORE_PANIC", True)
            assert "not known to be kept" in body.message
        else:
            assert kind is Kind.REPLY
        code, _ = rig.end()
        assert code == EXIT_STORE
        log = (rig.data / "logs" / "broker.log").read_text()
        assert "the store gave up: planted" in log
        flag.unlink()
        rig.launch()
        rig.hear("serving")
        assert do(client(rig), tx(2, SetValue("v", 2))).outcomes[0].lsn == 2
        assert [entry.lsn for entry in whole_log(client(rig))] == [1, 2]


def test_so_does_the_small_store(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    with Rig(tmp_path) as rig:
        name = "Environment.write"
        rig.prelude = PANICS.format(module="store.environment", name=name, flag=str(flag))
        flag.touch()
        rig.launch()
        rig.hear("serving")
        code, _ = rig.end()
        assert code == EXIT_STORE


def test_a_damaged_record_stops_no_writes_and_is_told(rig: Rig) -> None:
    assert [do(client(rig), tx(n, SetValue("v", n))).outcomes[0].lsn for n in range(1, 6)] == [
        1,
        2,
        3,
        4,
        5,
    ]
    rig.terminate()
    plant(rig.data / FOLDER, LOG, lsn_key(3), b"nonsense")
    rig.launch()
    rig.hear("serving")
    assert do(client(rig), tx(4, SetValue("v", 4))).outcomes[0].lsn == 4
    assert do(client(rig), tx(6, SetValue("v", 6))).outcomes[0].lsn == 6
    assert do(client(rig), tx(3, SetValue("v", 3))).outcomes[0].lsn == 7  # as it was said
    warnings = asked(rig.operator(), topics.STATUS, [])["warnings"]
    assert any(
        "record 3 of the state's log cannot be read" in one and "shardctl state check" in one
        for one in warnings
    )
