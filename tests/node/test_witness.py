"""The witness: each dispatch is reported once, when its handlers start and end."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shard_node.bridge import spool as spool_module
from shard_node.bridge import witness as module
from shard_node.bridge.spool import SUFFIX, Spool, remains
from shard_node.bridge.witness import Witness
from tests.node.fake_broker import FakeBroker
from tests.node.processes import BOTS, ROOT, node
from tests.support.sandbox import call, eventually, sandbox, sandbox_process
from tests.support.waiting import wait_for


class State:
    """What the witness taps of a connection state."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.parsers: dict[str, Any] = {"PLAIN": self.told.append}

    def dispatch(self, event: str, *args: Any) -> None:
        self.told.append(event)


def phases(witness: Witness) -> list[tuple[str, str]]:
    return [(report["nonce"], report["phase"]) for report in witness._queue]


def tapped() -> tuple[Witness, State]:
    witness, state = Witness("ws://127.0.0.1:9/", "a#7"), State()
    witness.tap(state)
    return witness, state


def test_an_event_without_a_nonce_is_not_reported() -> None:
    witness, state = tapped()
    state.parsers["PLAIN"]({"x": 1})
    assert state.told == [{"x": 1}]
    assert not witness._queue


def turn(body: Callable[[], None]) -> None:
    """Run ``body`` on a loop, and one turn of it."""

    async def main() -> None:
        try:
            body()
        finally:
            await asyncio.sleep(0)

    asyncio.run(main())


def test_an_event_without_handlers_or_parser_starts_and_ends_at_the_tap() -> None:
    witness, state = tapped()

    def body() -> None:
        state.parsers["PLAIN"]({"sandbox_nonce": "1:1"})
        state.parsers["UNKNOWN_TO_DISNAKE"]({"sandbox_nonce": "1:2"})

    turn(body)
    assert phases(witness) == [("1:1", "start"), ("1:1", "end"), ("1:2", "start"), ("1:2", "end")]
    assert {report["node"] for report in witness._queue} == {"a#7"}


def test_an_event_ends_with_its_last_handler() -> None:
    async def main() -> None:
        witness, state = tapped()
        gates = [asyncio.Event(), asyncio.Event()]
        tasks: list[asyncio.Task[Any]] = []

        def parse(data: Any) -> None:
            tasks.extend(asyncio.create_task(witness.wrap(gate.wait)()) for gate in gates)

        state.parsers = {"E": parse}
        witness.tap(state)
        state.parsers["E"]({"sandbox_nonce": "9:1"})
        assert phases(witness) == []
        await asyncio.sleep(0)
        assert phases(witness) == [("9:1", "start")]
        gates[0].set()
        await tasks[0]
        assert phases(witness) == [("9:1", "start")]
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert phases(witness) == [("9:1", "start"), ("9:1", "end")]

    asyncio.run(main())


def test_an_event_whose_parser_fails_was_handled_by_nobody() -> None:
    witness, state = tapped()

    def broken(data: Any) -> None:
        raise KeyError("x")

    state.parsers = {"E": broken}
    witness.tap(state)
    with pytest.raises(KeyError):
        turn(lambda: state.parsers["E"]({"sandbox_nonce": "9:1"}))
    assert phases(witness) == []


def test_an_event_without_handlers_does_not_overtake_the_handler_before_it() -> None:
    async def main() -> None:
        witness, state = tapped()
        tasks: list[asyncio.Task[Any]] = []

        async def handler() -> None:
            pass

        def parse(data: Any) -> None:
            tasks.append(asyncio.create_task(witness.wrap(handler)()))

        state.parsers = {"E": parse}
        witness.tap(state)
        state.parsers["E"]({"sandbox_nonce": "9:1"})
        state.parsers["UNKNOWN"]({"sandbox_nonce": "9:2"})
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)
        assert [n for n, phase in phases(witness) if phase == "start"] == ["9:1", "9:2"]

    asyncio.run(main())


def test_a_handler_outside_an_event_is_left_alone() -> None:
    witness, _ = tapped()
    assert witness.wrap(print) is print


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE_MAX_REPORTS", 3)
    witness, state = tapped()
    for number in range(4):
        state.dispatch("guild_join", number)
    assert len(witness._queue) == 3
    assert witness.dropped == 1


def test_what_was_dropped_is_told_and_told_again_when_it_did_not_arrive() -> None:
    class Socket:
        broken = True

        def __init__(self) -> None:
            self.sent: list[Any] = []

        async def send_str(self, text: str) -> None:
            if self.broken:
                raise ConnectionResetError
            self.sent.append(json.loads(text))

    witness, state = tapped()
    state.dispatch("guild_join", 1)
    witness._untold = 5
    socket: Any = Socket()
    with pytest.raises(ConnectionResetError):
        asyncio.run(witness._send_batch(socket))
    socket.broken = False
    asyncio.run(witness._send_batch(socket))
    (lost, joined), *_ = socket.sent
    assert lost == {"kind": "dropped", "node": "a#7", "count": 5}
    assert (joined["kind"], joined["node"]) == ("guild_join", "a#7")


@pytest.fixture
def info() -> Iterator[dict[str, Any]]:
    with sandbox_process("--guilds", "6", "--shards", "2", "--max-concurrency", "2") as found:
        yield found


@pytest.mark.slow
def test_every_message_is_seen_once_in_order(info: dict[str, Any], tmp_path: Path) -> None:
    def audit() -> dict[str, int]:
        found: dict[str, int] = call(info, "/audit")
        return found

    with (
        FakeBroker(f"ipc://{tmp_path}/b.sock") as broker,
        node(broker, BOTS, "listener.py", info=info) as process,
    ):
        process.says("ready [listener]")
        for kind in ("message", "member", "role", "presence", "dm"):
            call(info, "/play", {"kind": kind, "count": 30})
        sent = audit()["events_sent"]
        assert sent >= 120
        wait_for("all witnessed", lambda: audit()["events_handled_once"] == sent)
        call(info, "/trouble", {"kind": "add_guilds", "count": 2})
        wait_for("joins", lambda: audit()["guild_joins_seen"] == 2)
        process.terminate()
        assert process.exit_code() == 0
    report = audit()
    for key in ("never", "twice", "out_of_order"):
        assert report[f"events_handled_{key}"] == 0
    assert report["guild_joins_seen"] == 2


# --- what survives a kill


def spooled(folder: Path, *nonces: str) -> str:
    """A child that sees these events, and is killed; its source."""
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from shard_node.bridge.witness import Witness, _Event\n"
        "w = Witness('ws://127.0.0.1:9/', 'a#7', Path(sys.argv[1]))\n"
        "[w._phase(_Event(n), p) for n in sys.argv[2:] for p in ('start', 'end')]\n"
        "print(w._spool.source, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    argv = [sys.executable, "-c", script, str(folder), *nonces]
    done = subprocess.run(argv, stdout=subprocess.PIPE, cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    return done.stdout.decode().strip()


def test_what_a_killed_process_saw_is_told_by_the_next(tmp_path: Path) -> None:
    source = spooled(tmp_path, "5:1", "5:2")
    (left,) = remains(tmp_path, ())
    assert (left.source, left.first, left.end) == (source, 0, 4)
    assert [(r["nonce"], r["phase"], r["node"]) for r in left.reports[:3]] == [
        ("5:1", "start", "a#7"), ("5:1", "end", "a#7"), ("5:2", "start", "a#7"),
    ]  # fmt: skip
    left.over()
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_was_cut_by_the_kill_is_no_report(tmp_path: Path) -> None:
    spooled(tmp_path, "5:1")
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes() + b"s 12.5 5:")
    (tmp_path / f"empty{SUFFIX}").touch()
    (left,) = remains(tmp_path, ())
    assert len(left.reports) == 2
    left.leave()
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_the_file_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "a#7")
    script = (
        "import sys\nfrom pathlib import Path\nfrom shard_node.bridge.spool import remains\n"
        "print(len(remains(Path(sys.argv[1]), ())))"
    )

    def seen() -> str:
        argv = [sys.executable, "-c", script, str(tmp_path)]
        return subprocess.run(argv, stdout=subprocess.PIPE, cwd=ROOT, check=True).stdout.decode()

    spool.phase("s", 1.0, "5:1")
    assert remains(tmp_path, {spool.source}) == []
    assert seen() == "0\n"
    spool.close(told=0)
    assert seen() == "1\n"


def test_the_file_is_cut_when_all_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "CUT_MIN_BYTES", 100)
    spool = Spool(tmp_path, "a#7")
    for number in range(10):
        spool.phase("s", 1.0, f"5:{number}")
    (path,) = tmp_path.iterdir()
    spool.told(9)
    assert path.stat().st_size > 100
    spool.told(10)
    assert path.read_text() == f"{spool.source} a#7 10\n"
    spool.phase("e", 2.0, "5:1")
    spool.close(told=10)
    (left,) = remains(tmp_path, ())
    assert (left.first, left.end) == (10, 11)
    left.leave()


def test_a_folder_that_cannot_be_used_costs_only_the_spool(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    witness = Witness("ws://127.0.0.1:9/", "a#7", tmp_path / "file")
    assert witness._spool is None
    assert "does not survive a kill" in caplog.text


@pytest.mark.slow
def test_the_audit_hears_of_it_once(tmp_path: Path) -> None:
    """The next process tells what a killed one left, and its own; each is counted once."""

    async def main() -> None:
        async with sandbox(guilds=2) as box:
            audit = box.state.audit
            nonces = [audit.new_nonce(5) for _ in range(6)]
            for nonce in nonces:
                audit.event_sent(nonce, box.state.now())
            spooled(tmp_path, *nonces[:3])
            spooled(tmp_path, *nonces[3:5])
            witness = Witness(box.info["witness_url"], "a#8", tmp_path)
            witness.start()
            witness._phase(module._Event(nonces[5]), "start")
            await eventually(lambda: audit.report(box.state.now())["events_handled_once"] == 6)
            await eventually(lambda: len(list(tmp_path.iterdir())) == 1)
            await witness.close()
            assert list(tmp_path.iterdir()) == []
            report = audit.report(box.state.now())
            assert report["events_handled_twice"] == report["events_out_of_order"] == 0
            assert (report["witness_reports"], report["witness_malformed"]) == (11, 0)

    asyncio.run(main())
