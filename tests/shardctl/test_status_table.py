"""The status for people: words, columns that go rather than wrap, order."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from broker.core.operation import OpState
from broker.services.recovery import COUNTED
from shardctl.cli import report as words
from shardctl.cli.beside import COUNTS
from shardctl.cli.plane import plane_lines
from shardctl.cli.progress import Steps
from shardctl.cli.show import console_for, node_line, print_status
from shardctl.cli.table import COLUMNS, rows_of


def node(name: str, shards: list[int], **extra: Any) -> dict[str, Any]:
    base = {
        "id": name, "pid": 1, "epoch": 3, "state": "up", "rss_bytes": 100 << 20,
        "shards": shards, "restarts": 0, "uptime_s": 65.0, "queue": 0, "reason": "",
        "tail": [], "loop_lag_ms": 1.0,
    }  # fmt: skip
    return base | extra


def shard(
    number: int, name: str | None = "a", state: str = "ready", **extra: Any
) -> dict[str, Any]:
    base = {
        "id": number, "num_shards": 4, "node": name, "state": state, "guilds": 10 * number,
        "latency_ms": 40.0 - number, "heartbeat_age_s": 0.5, "sequence": 1, "restarts": 0,
    }  # fmt: skip
    return base | extra


def fleet_report(**extra: Any) -> dict[str, Any]:
    base = {
        "fleet": "bot-123456",
        "fleet_state": "running",
        "broker": {"pid": 7, "uptime_s": 200.0},
        "identify": {"remaining": 990, "total": 1000, "reset_after_s": 7440.0},
        "nodes": [node("a", [0, 1]), node("b", [2, 3], uptime_s=7440.0)],
        "shards": [shard(0), shard(1), shard(2, "b"), shard(3, "b")],
        "warnings": [],
    }
    return base | extra


def shown(report: dict[str, Any], width: int, **options: Any) -> list[str]:
    out = io.StringIO()
    print_status(report, Console(file=out, width=width, highlight=False), **options)
    return out.getvalue().splitlines()


def test_the_whole_table() -> None:
    lines = shown(fleet_report(), 120)
    assert lines[0] == ("bot-123456: 4 of 4 shards ready on 2 nodes; broker up 3 min 20 s (pid 7)")
    assert lines[1] == "IDENTIFY budget: 990 of 1000 remain, reset in 2 h 04 min"
    assert lines[2].split() == [
        "shard", "node", "state", "guilds", "latency", "heartbeat", "events/s",
        "queue", "RSS", "uptime", "restarts",
    ]  # fmt: skip
    assert lines[3].split()[:6] == ["0", "a", "ready", "0", "40", "ms"]
    assert len(lines) == 7


@pytest.mark.parametrize("width", [8, 20, 40, 60, 80, 100])
def test_columns_go_and_no_line_wraps(width: int) -> None:
    lines = shown(fleet_report(), width, verbose=True)
    assert all(len(line.rstrip()) <= width for line in lines)
    assert len(lines) == 2 + 5 + 2  # headline and budget, table, two nodes
    header = lines[2].split()
    assert header == [c.title for c in COLUMNS.values() if c.title in header]
    assert header[0] == "shard"


def test_narrow_keeps_what_matters_most() -> None:
    assert shown(fleet_report(), 30)[2].split()[:3] == ["shard", "node", "state"]


def test_order_and_top() -> None:
    report = fleet_report()
    assert [row["id"] for row in rows_of(report, "guilds", 2)] == [3, 2]
    assert [row["id"] for row in rows_of(report, "latency")] == [0, 1, 2, 3]
    assert [row["id"] for row in rows_of(report, "uptime")] == [2, 3, 0, 1]
    assert [row["id"] for row in rows_of(report)] == [0, 1, 2, 3]


def test_every_column_can_sort_what_is_not_known_yet() -> None:
    report = fleet_report(
        shards=[shard(0, None, "lost", heartbeat_age_s=None, latency_ms=-1.0), shard(1)], nodes=[]
    )
    for name in COLUMNS:
        assert len(rows_of(report, name)) == 2
    assert "lost" in "\n".join(shown(report, 120))


def test_a_node_that_stays_down_is_named_with_its_last_lines() -> None:
    bad = node("b", [2, 3], state="failed", reason="crash loop", tail=["one", "two", "three", "4"])
    report = fleet_report(nodes=[node("a", [0, 1]), bad], shards=[shard(0), shard(1, state="lost")])
    text = "\n".join(shown(report, 120))
    assert "node b failed: crash loop" in text
    assert "| 4" in text
    assert "| one" not in text
    assert "1 of 2 shards ready, 1 lost" in text
    assert not words.all_ready(report)


def beside(epoch: int, role: str, **extra: Any) -> dict[str, Any]:
    base = {"epoch": epoch, "role": role, "op": "op-4", "lingers": 0, "ends_in_s": None}
    return base | extra


def test_processes_beside_their_nodes_are_named() -> None:
    old = beside(2, "lingering", lingers=3, ends_in_s=725.0)
    nodes = [
        node("a", [0, 1], processes=[old, beside(4, "successor")]),
        node("b", [2, 3], processes=[beside(2, "lingering")]),
    ]
    lines = shown(fleet_report(nodes=nodes), 120)
    assert lines[7:] == [
        "node a (+1 lingers: a#2, 3 waiting, ends within 12 min 05 s)",
        "node a (+1 starting: a#4, op-4)",
        "node b (+1 lingers: b#2)",
    ]
    many = [node(str(n), [n], processes=[beside(2, "lingering")]) for n in range(9)]
    many[0]["processes"].append(beside(4, "successor"))
    found = shown(fleet_report(nodes=many), 120)[7:]
    assert found == ["processes beside those of their nodes: 1 starting, 9 lingering"]


def test_what_befell_shards_is_a_line_of_its_own() -> None:
    counts = {"shard_hung": 2, "shard_zombie": 1, "transfers_done": 4, "forwarded": 9}
    broker = {"counts": counts, "rejected": {}, "dead_letters": 0}
    lines = list(plane_lines(broker))
    assert "shards: 2 hung, 1 zombie, 4 hand-overs done" in lines
    assert not any("shard_" in line or "transfers_" in line for line in lines)
    assert not [line for line in plane_lines(broker | {"counts": {}}) if "shards" in line]
    assert set(COUNTED.values()) <= COUNTS.keys()
    assert {f"transfers_{state.value}" for state in OpState} - COUNTS.keys() == {
        "transfers_waiting", "transfers_running",
    }  # fmt: skip


def test_the_rate_of_events_is_a_column() -> None:
    report = fleet_report(shards=[shard(0, events_per_s=2.25), shard(1, events_per_s=9.0)])
    assert [row["id"] for row in rows_of(report, "events")] == [1, 0]
    assert " 2.2 " in shown(report, 120)[3]


def test_every_node_that_is_not_up_is_named_with_a_reason() -> None:
    hangs = node("b", [2, 3], state="degraded", loop_lag_ms=1001.0)
    text = "\n".join(shown(fleet_report(nodes=[node("a", [0, 1]), hangs]), 120))
    assert "4 of 4 shards ready on 2 nodes (1 degraded)" in text
    assert "node b degraded: its event loop hangs, 1001 ms so far" in text
    for state in ("planned", "storing", "spawning", "starting", "stopping", "backoff", "failed"):
        found = words.troubles(fleet_report(nodes=[node("b", [2], state=state)]))
        assert found[0].startswith(f"node b {state}: ")
        assert "no reason is known" not in found[0]
    said = words.troubles(fleet_report(nodes=[node("b", [2], state="backoff", reason="why")]))
    assert said == ["node b backoff: why"]


def test_what_is_wrong_is_wrapped_and_never_cut() -> None:
    warning = "2 shards wait for the IDENTIFY budget: 0 of 1000 remain, reset in 2 h 04 min"
    lines = shown(fleet_report(warnings=[warning]), 50)
    assert " ".join(" ".join(lines).split()).endswith(warning)
    assert lines[0] == "bot-123456: 4 of 4 shards ready on 2 nodes"
    assert lines[1] == "budget: 990 of 1000, reset in 2 h 04 min"


def test_a_dead_node_has_no_pid_and_no_lag() -> None:
    dead = node("b", [2], state="backoff", pid=None, rss_bytes=0, uptime_s=None)
    assert node_line(dead, 200) == "node b#3 backoff  shards 2  restarts 0"
    whole = node_line(node("a", [0, 1], rss_bytes=100 << 20), 80)
    assert whole == "node a#3 up  pid 1  shards 0-1  up 1 min 05 s  restarts 0  loop lag 1 ms"


def test_no_color_means_not_even_bold(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    for value, styled in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", value)
        out = Terminal()
        print_status(fleet_report(shards=[shard(0, state="lost")]), console_for(out))
        assert ("\x1b[" in out.getvalue()) is styled


def test_a_start_is_settled_when_nothing_more_will_come() -> None:
    assert words.settled(fleet_report())
    assert not words.settled(fleet_report(shards=[]))
    assert not words.settled(fleet_report(shards=[shard(0, state="queued")]))
    failed = fleet_report(nodes=[node("a", [0], state="failed")], shards=[shard(0, "a", "lost")])
    assert words.settled(failed)
    assert not words.all_ready(failed)


def test_the_steps_of_a_start_are_said_once() -> None:
    steps = Steps()
    assert steps.lines(fleet_report(shards=[], nodes=[])) == []
    first = steps.lines(fleet_report(shards=[shard(0), shard(1, state="queued")]))
    assert first[0].startswith("2 shards on 2 nodes; IDENTIFY budget: 990")
    assert first[1] == "shard 0 ready on node a, 0 guilds (1 of 2)"
    assert steps.lines(fleet_report(shards=[shard(0), shard(1, state="queued")])) == []
    last = steps.lines(fleet_report(shards=[shard(0), shard(1)], warnings=["slow"]))
    assert last == ["warning: slow", "shard 1 ready on node a, 10 guilds (2 of 2)"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0 s"), (59.9, "59 s"), (185, "3 min 05 s"), (7440, "2 h 04 min"),
     (180_000, "2 d 2 h")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert words.span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "-"), (None, "-"), (900, "900 B"), (50 << 20, "50 MiB"), (3 << 30, "3 GiB")],
)
def test_sizes(count: int | None, text: str) -> None:
    assert words.size(count) == text


def test_ranges() -> None:
    assert words.ranges([7, 0, 1, 2, 3]) == "0-3, 7"
    assert words.ranges([]) == "-"


def test_a_shard_whose_journal_is_none_is_named_though_it_is_ready() -> None:
    why = "its journal cannot be written: No space left on device; a respawn now will IDENTIFY"
    some = [shard(0), shard(1, journal=why)]
    assert words.troubles(fleet_report(shards=some)) == [f"shard 1: {why}"]
    many = [shard(number, journal=why) for number in range(20)]
    assert len(words.troubles(fleet_report(shards=many))) == words.FLAWS_SHOWN
