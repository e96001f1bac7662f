"""Shards change hands between two real processes: by RESUME, each event once and in order."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shard_node.wire import topics
from shard_node.wire.bodies import ShardReport
from shard_node.wire.handover import (
    Phase,
    ShardArm,
    ShardDisarm,
    ShardMoved,
    ShardRelease,
    ShardSettle,
)
from shard_node.wire.operations import ShardReconnect
from tests.node.fake_broker import FakeBroker
from tests.node.processes import BOTS, NodeProcess, node
from tests.support.sandbox import call
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

SANDBOX = (
    "--guilds", "8", "--shards", "2", "--max-concurrency", "2", "--identify-window-s", "0.2",
)  # fmt: skip
BOTH = (0, 1)
WHOLE = os.environ.get("SHARDCTL_HANDOVER") == "full"
in_soak = pytest.mark.skipif(not WHOLE, reason="runs in make soak")


class Rig:
    """Processes of one fleet, each known as ``a#7``."""

    def __init__(self, info: dict[str, Any], broker: FakeBroker, tmp_path: Path) -> None:
        self.info, self.broker = info, broker
        self.folder = tmp_path / "bot"
        self.folder.mkdir()
        shutil.copy(BOTS / "recorder.py", self.folder / "main.py")
        self.journal = tmp_path / "journal"

    def start(self, who: str, **settings: Any) -> contextlib.AbstractContextManager[NodeProcess]:
        name, epoch = who.split("#")
        settings = {
            "SHARDCTL_JOURNAL_DIR": str(self.journal),
            "SHARDCTL_EPOCH": epoch,
            "SHARDCTL_WITNESS_DIR": str(self.folder),
            **settings,
        }
        return node(self.broker, self.folder, info=self.info, name=name, **settings)

    def successor(self, who: str, **settings: Any) -> Any:
        return self.start(who, SHARDCTL_ROLE="successor", **settings)

    # --- what the broker says and hears

    def arm(self, who: str, op: str = "op-1", shards: tuple[int, ...] = BOTH) -> None:
        self.broker.send(who.encode(), topics.SHARD_ARM, ShardArm(op, shards, 2, "", 10.0))

    def release(
        self, who: str, target: str, op: str = "op-1", shards: tuple[int, ...] = BOTH
    ) -> None:
        told = ShardRelease(op, shards, target, 1.0, "respawn")
        self.broker.send(who.encode(), topics.SHARD_RELEASE, told)

    def disarm(self, who: str, op: str = "op-1", shards: tuple[int, ...] = BOTH) -> None:
        self.broker.send(who.encode(), topics.SHARD_DISARM, ShardDisarm(op, shards, "test"))

    def settle(self, who: str, op: str = "op-1", shards: tuple[int, ...] = BOTH) -> None:
        self.broker.send(who.encode(), topics.SHARD_SETTLE, ShardSettle(op, shards))

    def moved(self, who: str, shard: int | None = None) -> list[ShardMoved]:
        said = self.broker.of(topics.SHARD_MOVED, who)
        return [one.body for one in said if shard in (None, one.body.shard)]

    def last_beat(self, who: str) -> tuple[ShardReport, ...]:
        """The shards as the last heartbeat has them."""
        beats = self.broker.of(topics.HEARTBEAT, who)
        return beats[-1].body.shards if beats else ()

    def rates(self, who: str) -> list[float]:
        """Events a second, once they are known of all shards."""
        found = [one.events_per_s for one in self.last_beat(who)]
        return found if all(found) else []

    def reports(self, who: str) -> dict[int, tuple[str, Phase]]:
        """State and phase of each shard."""
        return {report.id: (report.state.value, report.phase) for report in self.last_beat(who)}

    def until(
        self, who: str, phase: Phase, op: str = "op-1", shards: tuple[int, ...] = BOTH
    ) -> None:
        def look() -> bool:
            last = {one.shard: one.phase for one in self.moved(who) if one.op == op}
            return all(last.get(shard) is phase for shard in shards)

        wait_for(f"{who} {phase.value!r}", look, 20)

    def warm(self, who: str, shards: tuple[int, ...] = BOTH) -> None:
        def look() -> bool:
            found = self.reports(who)
            return {s: found.get(s) for s in shards} == dict.fromkeys(
                shards, ("queued", Phase.WARM)
            )

        wait_for(f"{who} warm", look, 20)

    def ready(self, who: str, shards: tuple[int, ...] = BOTH) -> None:
        def look() -> bool:
            found = self.reports(who)
            return all(found.get(shard, ("",))[0] == "ready" for shard in shards)

        wait_for(f"{who} ready", look, 20)

    # --- what was done

    def play(self, **what: Any) -> None:
        call(self.info, "/play", {"kind": "message", **what})

    def said(self, process: NodeProcess, kind: str) -> int:
        record = self.folder / "record.txt"
        lines = record.read_text().splitlines() if record.exists() else []
        return sum(line.split()[:2] == [str(process.popen.pid), kind] for line in lines)

    def audit(self) -> dict[str, Any]:
        found: dict[str, Any] = call(self.info, "/audit")
        return found

    @contextmanager
    def load(self, events_per_s: float = 200.0) -> Iterator[None]:
        """Meanwhile; then all of them have been handled once, each guild's in order."""
        body = {"events_per_s": events_per_s, "seconds": 60}
        load = call(self.info, "/load", body)["id"]
        yield
        call(self.info, f"/load/{load}", method="DELETE")
        wait_for("all events handled", lambda: self.audit()["events_pending"] == 0, 10)
        audit = self.audit()
        assert audit["events_handled_once"] == audit["events_sent"] > 0
        wrong = ("events_handled_never", "events_handled_twice", "events_out_of_order")
        assert {name: audit[name] for name in wrong} == dict.fromkeys(wrong, 0)

    def spent(self) -> tuple[int, int, int]:
        """IDENTIFYs, RESUMEs, refused RESUMEs."""
        audit = self.audit()
        return audit["identifies"], audit["resumes"], audit["resumes_failed"]

    def gaps_ms(self, who: str) -> list[float]:
        ended = (Phase.HELD, Phase.RETAKEN)
        return [one.gap_ms for one in self.moved(who) if one.phase in ended]


@pytest.fixture
def rig(info: dict[str, Any], broker: FakeBroker, tmp_path: Path) -> Rig:
    return Rig(info, broker, tmp_path)


def test_a_successor_takes_both_shards_by_resume(rig: Rig) -> None:
    with rig.start("a#7") as old, contextlib.ExitStack() as stack:
        rig.ready("a#7")
        wait_for("on_ready", lambda: rig.said(old, "ready"))
        rig.play(count=1500)
        with rig.load():
            new = stack.enter_context(rig.successor("a#8"))
            rig.warm("a#8")
            rig.arm("a#8")
            rig.until("a#8", Phase.ARMED)
            rig.release("a#7", "a#8")
            rig.until("a#8", Phase.HELD)
            rig.ready("a#8")
            held = [one for one in rig.moved("a#8") if one.phase is Phase.HELD]
            assert [one.identified for one in held] == [False, False]
            released = dict.fromkeys(BOTH, ("ready", Phase.RELEASED))
            wait_for("reported", lambda: rig.reports("a#7") == released)
            rig.release("a#7", "a#8")  # said again, done once
            rig.arm("a#8")
            rig.settle("a#7")
            assert old.exit_code() == 0
            wait_for("on_ready", lambda: rig.said(new, "ready"))
            rates = wait_for("rates", lambda: rig.rates("a#8"))
            assert max(rates) < 300  # of 200 in all: what came before is not theirs
        assert rig.said(new, "join") == rig.said(new, "remove") == 0
        assert rig.said(old, "message") > 0
        assert rig.said(new, "message") > 0
        assert max(rig.gaps_ms("a#8")) < 1000
        print("gaps", rig.gaps_ms("a#8"), rig.audit())
        phases = [one.phase for one in rig.moved("a#8", 0)]
        assert list(dict.fromkeys(phases)) == [Phase.WARM, Phase.ARMED, Phase.TAKING, Phase.HELD]
    assert rig.spent() == (2, 2, 0)


@pytest.mark.parametrize(
    "when", [pytest.param("armed", marks=in_soak), pytest.param("held", marks=in_soak)]
)
def test_what_a_dead_successor_has_comes_back(rig: Rig, when: str) -> None:
    with rig.start("a#7") as old:
        rig.ready("a#7")
        with rig.load(), rig.successor("a#8") as new:
            rig.warm("a#8")
            rig.arm("a#8")
            rig.until("a#8", Phase.ARMED)
            if when == "held":
                rig.release("a#7", "a#8")
                rig.until("a#8", Phase.HELD)
            new.popen.kill()
            new.popen.wait()
            if when == "armed":
                rig.release("a#7", "a#8")
            rig.until("a#7", Phase.RETAKEN)
            rig.ready("a#7")
        assert rig.spent() == (2, 2 if when == "armed" else 4, 0)
        assert rig.said(old, "ready") == 1
        # And it can be handed over again.
        with rig.successor("a#9") as third:
            rig.warm("a#9")
            rig.arm("a#9", "op-2")
            rig.until("a#9", Phase.ARMED, "op-2")
            rig.release("a#7", "a#9", "op-2")
            rig.until("a#9", Phase.HELD, "op-2")
            rig.play(count=5)
            wait_for("messages", lambda: rig.said(third, "message") == 5)
    assert rig.audit()["identifies"] == 2


@in_soak
def test_a_dead_source_is_taken_over_from(rig: Rig) -> None:
    with rig.start("a#7") as old:
        rig.ready("a#7")
        with rig.successor("a#8"), rig.load():
            rig.warm("a#8")
            rig.arm("a#8")
            rig.until("a#8", Phase.ARMED)
            old.popen.kill()
            rig.until("a#8", Phase.HELD)
            rig.ready("a#8")
            assert rig.gaps_ms("a#8") == [-1.0, -1.0]
    assert rig.spent() == (2, 2, 0)


@in_soak
def test_a_successor_that_is_disarmed_gives_back_what_it_has(rig: Rig) -> None:
    with rig.start("a#7"):
        rig.ready("a#7")
        with rig.load(), rig.successor("a#8"):
            rig.warm("a#8")
            rig.arm("a#8")
            rig.until("a#8", Phase.ARMED)
            rig.disarm("a#8")
            rig.until("a#8", Phase.WARM)
            assert rig.moved("a#7") == []
            rig.arm("a#8", "op-2")
            rig.until("a#8", Phase.ARMED, "op-2")
            rig.release("a#7", "a#8", "op-2")
            rig.until("a#8", Phase.HELD, "op-2")
            rig.disarm("a#8", "op-2")
            rig.until("a#7", Phase.RETAKEN, "op-2")
            rig.until("a#8", Phase.WARM, "op-2")
            rig.ready("a#7")
    assert rig.spent() == (2, 4, 0)


@in_soak
def test_a_refused_resume_identifies_by_permit_and_with_the_lock(rig: Rig) -> None:
    with rig.start("a#7"):
        rig.ready("a#7")
        with rig.successor("a#8") as new:
            rig.warm("a#8")
            rig.arm("a#8")
            rig.until("a#8", Phase.ARMED)
            call(rig.info, "/trouble", {"kind": "refuse_resume", "count": 2})
            assert len(rig.broker.of(topics.PERMIT, "a#8")) == 0
            rig.release("a#7", "a#8")
            rig.until("a#8", Phase.HELD)
            held = [one for one in rig.moved("a#8") if one.phase is Phase.HELD]
            assert [one.identified for one in held] == [True, True]
            rig.ready("a#8")
            wait_for("on_ready", lambda: rig.said(new, "ready"))
            assert len(rig.broker.of(topics.PERMIT, "a#8")) == 2
            rig.play(count=5)
            wait_for("messages", lambda: rig.said(new, "message") == 5)
            assert rig.said(new, "join") == rig.said(new, "remove") == 0
    assert rig.spent() == (4, 0, 2)


@in_soak
@pytest.mark.parametrize("when", ["warming", "warm", "taking"])
def test_a_successor_that_dies_early_costs_nothing(rig: Rig, when: str) -> None:
    with rig.start("a#7") as old:
        rig.ready("a#7")
        lost = when == "taking"  # with its session
        load = contextlib.nullcontext() if lost else rig.load()
        with load, rig.successor("a#8") as new:
            if when == "warming":
                wait_for("a#8 warming", lambda: rig.reports("a#8"))
            else:
                rig.warm("a#8")
            if when == "taking":
                rig.broker.answers.pop(topics.PERMIT)
                rig.arm("a#8")
                rig.until("a#8", Phase.ARMED)
                call(rig.info, "/trouble", {"kind": "refuse_resume", "count": 2})
                rig.release("a#7", "a#8")
                rig.until("a#8", Phase.TAKING)
                rig.broker.answers[topics.PERMIT] = rig.broker._permit
            new.popen.kill()
            new.popen.wait()
            if when == "taking":
                rig.until("a#7", Phase.RETAKEN)
                rig.ready("a#7")
        assert old.popen.poll() is None
    assert rig.spent()[0] == (4 if lost else 2)


@in_soak
def test_a_source_that_does_not_turn_is_waited_for_until_it_is_killed(rig: Rig) -> None:
    with rig.start("a#7") as old:
        rig.ready("a#7")
        with rig.successor("a#8") as new, rig.load(50):
            rig.warm("a#8")
            rig.arm("a#8")
            rig.until("a#8", Phase.ARMED)
            old.popen.send_signal(signal.SIGSTOP)
            rig.release("a#7", "a#8")
            told = len(rig.moved("a#8"))
            wait_for("a beat", lambda: len(rig.broker.of(topics.HEARTBEAT, "a#8")) > 3)
            assert len(rig.moved("a#8")) == told
            old.popen.kill()
            rig.until("a#8", Phase.HELD)
            rig.ready("a#8")
        assert new.popen.returncode is not None
    assert rig.spent() == (2, 2, 0)


@in_soak
def test_a_reconnection_gives_way_to_a_release(rig: Rig) -> None:
    with rig.start("a#7"), rig.successor("a#8"):
        rig.ready("a#7")
        rig.warm("a#8")
        permit = rig.broker.answers.pop(topics.PERMIT)
        asked = ShardReconnect("op-1", 0, 2, fresh=True)
        rig.broker.send(b"a#7", topics.SHARD_RECONNECT, asked)
        wait_for("its question", lambda: len(rig.broker.of(topics.PERMIT, "a#7")) == 3)
        rig.arm("a#8", "op-2")
        rig.until("a#8", Phase.ARMED, "op-2")
        rig.broker.answers[topics.PERMIT] = permit
        rig.release("a#7", "a#8", "op-2")
        rig.until("a#8", Phase.HELD, "op-2")
        rig.until("a#7", Phase.FAILED, "op-1", (0,))
        (failed,) = [one for one in rig.moved("a#7") if one.op == "op-1"]
        assert failed.error == "shard 0 is being handed over by op-2"
        rig.broker.send(b"a#7", topics.SHARD_RECONNECT, ShardReconnect("op-3", 1, 2))
        rig.until("a#7", Phase.FAILED, "op-3", (1,))
        assert rig.moved("a#7")[-1].error == "shard 1 is being handed over by op-2"
        held = {one.shard: one for one in rig.moved("a#8") if one.phase is Phase.HELD}
        assert (held[0].identified, held[1].identified) == (True, False)
    assert rig.spent() == (3, 1, 0)


def guilds(rig: Rig, who: str) -> dict[int, int]:
    """Guilds by shard."""
    return {report.id: report.guilds for report in rig.last_beat(who)}


def test_a_shard_moves_to_another_node_and_back(rig: Rig) -> None:
    with rig.start("a#7") as one, rig.start("b#3", shards=()) as two:
        rig.ready("a#7")
        wait_for("b is there", lambda: rig.broker.of(topics.HEARTBEAT, "b#3"))
        assert sum(guilds(rig, "a#7").values()) == 8
        with rig.load():
            for op, source, target in (("op-1", "a#7", "b#3"), ("op-2", "b#3", "a#7")):
                rig.arm(target, op, (1,))
                rig.until(target, Phase.ARMED, op, (1,))
                rig.release(source, target, op, (1,))
                rig.until(target, Phase.HELD, op, (1,))
                rig.settle(source, op, (1,))
                rig.ready(target, (1,))
                wait_for("gone", lambda who=source: 1 not in guilds(rig, who))
        assert sum(guilds(rig, "a#7").values()) == 8
        assert rig.reports("b#3") == {}
        assert rig.said(one, "ready") == 1
        assert rig.said(one, "join") == rig.said(one, "remove") == 0
        assert rig.said(two, "join") == rig.said(two, "remove") == 0
        assert rig.said(two, "message") > 0
    assert rig.spent() == (2, 2, 0)
