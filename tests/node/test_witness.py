"""The witness: each dispatch is reported once, when its handlers start and end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shard_node.bridge import witness as module
from shard_node.bridge.witness import Witness
from tests.node.fake_broker import FakeBroker
from tests.node.processes import BOTS, node
from tests.support.sandbox import call, sandbox_process
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
