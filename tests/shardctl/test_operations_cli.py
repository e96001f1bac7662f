"""`respawn`, `operations` and `wait` before a broker that answers what a test says."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from shard_node.wire import topics
from shard_node.wire.bodies import ErrorBody, RespawnReply, RespawnRequest
from shard_node.wire.codec import decode_body
from shard_node.wire.header import Header, Kind
from shard_node.wire.operations import (
    BalanceRequest,
    MoveRequest,
    OpReply,
    OpRequest,
    OpsRequest,
    ScaleRequest,
)
from shardctl.cli import cli, dev, following
from shardctl.client import Client
from shardctl.opclient import Operations
from shardctl.paths import FleetPaths, fleet_paths
from shardctl.supervisor import procs
from tests.support.answering import Router, reply

BODIES = {
    topics.RESPAWN: RespawnRequest,
    topics.MOVE: MoveRequest,
    topics.BALANCE: BalanceRequest,
    topics.SCALE: ScaleRequest,
    topics.OP_SHOW: OpRequest,
    topics.OP_CANCEL: OpRequest,
    topics.OPS: OpsRequest,
}
PTY_TIMEOUT_S = 20.0
Shown = dict[str, Any]


class Broker:
    """Answers with what its tables say; the last answer of `op.show` is said again and again."""

    def __init__(self, paths: FleetPaths) -> None:
        self.plan: dict[str, Any] = {}
        self.moved = OpReply("")
        self.nodes: dict[str, tuple[int, ...]] = {"b": (2, 3)}
        self.shows: list[Shown | ErrorBody | None] = []
        self.asked: list[Any] = []
        self.errors: dict[str, ErrorBody] = {}
        self.listed: list[Shown] = []
        self.status: dict[str, Any] = {"nodes": [], "shards": []}
        self.router = Router(paths, self._answer)

    def _answer(self, head: Header, body: bytes) -> list[list[bytes]]:
        kind = BODIES.get(head.topic)
        request = decode_body(body, kind) if kind is not None else None
        self.asked.append(request)
        error = self.errors.get(head.topic)
        if error is not None:
            return [reply(head, error, Kind.ERROR)]
        match request:
            case MoveRequest() | BalanceRequest() | ScaleRequest():
                return [reply(head, self.moved)]
            case RespawnRequest(dry_run=dry_run):
                op = "" if dry_run else "op-1"
                return [reply(head, RespawnReply(self.nodes, op, self.plan))]
            case OpsRequest(page=page):
                part = self.listed[page : page + 1]
                return [reply(head, {"operations": part, "pages": max(1, len(self.listed))})]
            case OpRequest():
                shown = self.shows.pop(0) if len(self.shows) > 1 else self.shows[0]
                if shown is None:
                    return []
                failed = isinstance(shown, ErrorBody)
                return [reply(head, shown, Kind.ERROR if failed else Kind.REPLY)]
        return [reply(head, self.status)]


def shard(number: int, phase: str = "", gap_ms: float = -1.0, identified: bool = False) -> Shown:
    return {"shard": number, "phase": phase, "gap_ms": gap_ms, "identified": identified}


def step(node: str, state: str, *progress: Shown, **more: Any) -> Shown:
    plain = {
        "node": node, "target": node, "shards": [one["shard"] for one in progress], "state": state,
        "reason": "", "old_epoch": 1, "new_epoch": 2, "voice": 0, "tail": [],
        "progress": list(progress),
    }  # fmt: skip
    return plain | more


def shown(state: str, *steps: Shown, **more: Any) -> Shown:
    plain = {
        "op": "op-1", "kind": "respawn", "state": state, "reason": "", "started_ms": 0,
        "steps": list(steps), "tail": [], "voice": 0, "args": {},
    }  # fmt: skip
    return plain | more


DONE = shown("done", step("b", "done", shard(2, "held", 84.4), shard(3, "held", 61.0)))
WAITS = shown("running", step("b", "running", shard(2, "armed"), shard(3)))


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FleetPaths]:
    for name in list(os.environ):
        if name.startswith(("SHARDCTL_", "XDG_", "COLUMNS")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    # A socket's path is limited: the run folder is not below pytest's long folders.
    run_root = tempfile.mkdtemp(prefix="sctl-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", run_root)
    monkeypatch.setenv("SHARDCTL_FLEET", "test")
    monkeypatch.chdir(tmp_path)
    found = fleet_paths("test", dict(os.environ))
    found.run_dir.mkdir(parents=True, mode=0o700)
    pid = os.getpid()
    note = {"pid": pid, "started": procs.start_of(pid), "children": []}
    found.supervisor_file.write_text(json.dumps(note))
    yield found
    shutil.rmtree(run_root)


@pytest.fixture
def broker(paths: FleetPaths, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    monkeypatch.setattr(following, "POLL_S", 0.01)
    found = Broker(paths)
    yield found
    found.router.close()


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, args)


# --- respawn


def test_what_goes_along_drops_or_goes_in_sequence_is_said_before(broker: Broker) -> None:
    why = "a second process needs about 210 MiB, 150 MiB are free"
    broker.plan = {"voice": {"a": 1, "b": 16}, "in_sequence": {"a": why, "b": why}}
    broker.nodes = {"a": (0, 1), "b": (2, 3)}
    done = run("respawn", "0", "2", "3", "--dry-run")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "node a would be replaced: shards 0-1 (shard 1 moves with it)",
        "node b would be replaced: shards 2-3",
        f"nodes a b in sequence, the old process ends first: {why}",
        "17 voice clients will drop; --drain-voice 30m waits for them",
    ]
    drained = run("respawn", "--all", "--drain-voice", "30m", "--dry-run", "--queue")
    assert drained.stdout.splitlines()[-1] == "17 voice clients get 30 min 00 s to leave"
    assert broker.asked == [
        RespawnRequest((0, 2, 3), dry_run=True),
        RespawnRequest((), True, everything=True, drain_voice_s=1800.0, queue=True),
    ]


def test_many_nodes_are_one_line(broker: Broker) -> None:
    broker.nodes = {f"n{number}": (number,) for number in range(9)}
    done = run("respawn", "--all", "--max-unavailable", "3", "--dry-run")
    assert done.stdout == "9 nodes would be replaced, 3 at a time: shards 0-8\n"


def test_each_shard_that_is_ready_is_a_line_and_the_end_has_the_gaps(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = step("a", "running", shard(0, "held", 40.0), shard(1, "armed"))
    last = step("a", "done", shard(0, "held", 40.0), shard(1, "held", identified=True))
    waits, runs = step("b", "waiting", shard(2)), step("b", "running", shard(2, "warm"))
    done = step("b", "done", shard(2, "held"))
    broker.shows = [
        shown("waiting", step("a", "waiting", shard(0), shard(1)), waits, op="op-3"),
        shown("running", first, waits),
        shown("running", first, waits),
        None,
        shown("running", last, runs),
        shown("done", last, done),
    ]
    broker.nodes = {"a": (0, 1), "b": (2,)}
    broker.listed = [
        shown("running", step("c", "running", shard(0)), op="op-4"),
        shown("waiting", step("a", "waiting", shard(7)), op="op-2"),
        shown("running", step("c", "running", shard(2)), op="op-1"),
        shown("done", step("a", "done", shard(0)), op="op-0"),
    ]
    monkeypatch.setattr(following, "ASK_TIMEOUT_S", 0.2)
    result = run("respawn", "--all")
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        "node a will be replaced: shards 0-1",
        "node b will be replaced: shards 2",
        "op-3 waits for op-1, op-2",
        "node a begins (1 of 2)",
        "shard 0 ready on node a, resumed in 40 ms (1 of 3)",
        "shard 1 ready on node a, identified (2 of 3)",
        "node b begins (2 of 2)",
        "shard 2 ready on node b (3 of 3)",
    ]
    gaps = "gap median 40 ms, max 40 ms"
    assert result.stdout == f"op-1 done: 3 shards, 1 IDENTIFY, {gaps}\n"


def test_a_restart_claims_no_gap_and_no_session(broker: Broker) -> None:
    broker.shows = [shown("done", step("b", "done", shard(2, "held"), shard(3, "held")))]
    done = run("respawn", "2", "--in-sequence")
    assert done.stdout == "op-1 done: 2 shards\n"
    assert "shard 3 ready on node b (2 of 2)" in done.stderr


@pytest.mark.parametrize("state", ["failed", "reverted"])
def test_a_new_process_that_fails_leaves_the_old_one(broker: Broker, state: str) -> None:
    tail = ["Traceback", *map(str, range(4)), "OSError: \x1b[2Jport 8080"]
    reason = "b#2 ended before it was ready (ended with 1)"
    failed = step("b", state, shard(2), shard(3), reason=reason, tail=tail)
    broker.shows = [WAITS, shown(state, failed, reason=f"node b: {reason}")]
    broker.status["nodes"] = [{"id": "b", "state": "up", "epoch": 1, "reason": ""}]
    done = run("respawn", "2")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[1:] == [
        f"node b {state}: {reason}",
        *(f"    | {number}" for number in range(4)),
        r"    | OSError: \x1b[2Jport 8080",
        f"error[E_OPERATION]: op-1 {state}: node b: {reason}.",
        "  node b: the old process goes on",
        "  hint: shardctl logs --node b --fleet test",
    ]


def test_nodes_of_which_the_same_is_to_be_said_share_a_line(broker: Broker) -> None:
    steps = [step(name, "failed", shard(at), reason="why") for at, name in enumerate("abc")]
    steps.append(step("d", "cancelled", shard(3), reason="after node a failed", old_epoch=0))
    broker.shows = [shown("failed", *steps, reason="node a: why")]
    epochs = {"a": 1, "b": 1, "c": 2, "d": 1}
    broker.status["nodes"] = [{"id": n, "state": "up", "epoch": e} for n, e in epochs.items()]
    done = run("respawn", "--all", "--abort-on-fail")
    assert done.stderr.splitlines()[-4:-1] == [
        "error[E_OPERATION]: op-1 failed: node a: why.",
        "  nodes a b: the old process goes on",
        "  node c: a new process, #2",
    ]


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"state": "failed", "epoch": 0, "reason": "crash loop"}, "node b: failed"),
        ({"state": "up", "epoch": 3, "reason": ""}, "node b: a new process, #3"),
    ],
)
def test_an_old_process_that_is_gone_does_not_go_on(
    broker: Broker, node: dict[str, Any], words: str
) -> None:
    broker.shows = [shown("failed", step("b", "failed", shard(2)), reason="node b: why")]
    broker.status["nodes"] = [{"id": "b", **node}]
    done = run("respawn", "2", "--in-sequence")
    assert done.exit_code == 1
    assert f"  {words}\n" in done.stderr
    assert "goes on" not in done.stderr


def test_without_waiting_the_id_is_all_of_stdout(broker: Broker) -> None:
    done = run("respawn", "--node", "b", "--no-wait")
    assert done.exit_code == 0
    assert done.stdout == "op-1\n"
    assert "it goes on: shardctl wait op-1 --fleet test" in done.stderr
    told = json.loads(run("respawn", "--node", "b", "--no-wait", "--json").stdout)
    assert told == {"schema": 1, "op": "op-1", "dry_run": False, "nodes": {"b": [2, 3]}, "plan": {}}


def test_json_has_the_operation_at_its_end(broker: Broker) -> None:
    broker.shows = [DONE]
    told = json.loads(run("respawn", "2", "--json").stdout)
    assert told["op"] == "op-1"
    assert told["operation"] == DONE
    assert told["nodes"] == {"b": [2, 3]}
    dry = json.loads(run("respawn", "2", "--json", "--dry-run").stdout)
    assert dry == {"schema": 1, "dry_run": True, "nodes": {"b": [2, 3]}, "plan": {}}


# --- errors


@pytest.mark.parametrize("args", [(), ("2", "--all"), ("--node", "b", "--all")])
def test_one_of_the_three_ways_to_name_processes(broker: Broker, args: tuple[str, ...]) -> None:
    done = run("respawn", *args)
    assert done.exit_code == 2
    assert "name SHARD..., --node NAME or --all" in done.stderr
    assert broker.asked == []


@pytest.mark.parametrize("length", ["0", "x", "-3", "30y"])
def test_a_length_is_asked_for_in_plain_words(length: str) -> None:
    done = run("wait", "op-1", f"--timeout={length}")
    assert done.exit_code == 2
    assert "is no length such as 30m or 90" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            ErrorBody(
                "E_CONFLICT",
                "shard 2 is being moved by op-7",
                "wait for it: shardctl wait op-7, or: --queue",
            ),
            77,
            "hint: wait for it: shardctl wait op-7, or: --queue",
        ),
        (ErrorBody("E_IDENTIFY_BUDGET", "needs 2 session starts; 1 remains"), 75, "1 remains"),
        (ErrorBody("E_STOPPING", "the fleet is stopping"), 77, "error[E_STOPPING]"),
        (
            ErrorBody("E_NOT_FOUND", "no node z in the fleet", details={"exists": ["a", "b"]}),
            4,
            "There are: a, b.",
        ),
    ],
)
def test_what_is_refused_says_why_before_anything_is_said_to_begin(
    broker: Broker, error: ErrorBody, code: int, words: str
) -> None:
    broker.errors[topics.RESPAWN] = error
    done = run("respawn", "2")
    assert done.exit_code == code
    assert words in done.stderr
    assert "will be replaced" not in done.stderr
    assert len(broker.asked) == 1


def test_no_broker_and_no_supervisor_is_the_end_of_looking(
    broker: Broker, paths: FleetPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "ASK_TIMEOUT_S", 0.05)
    monkeypatch.setattr(following, "supervisor_pid", lambda _paths: None)
    broker.shows = [WAITS, None]
    done = run("respawn", "2")
    assert done.exit_code == 1
    assert "error[E_FLEET_ENDED]: the fleet test ended meanwhile" in done.stderr


# --- move-shard


def test_a_move_says_from_where_to_where_and_how_long_it_took(broker: Broker) -> None:
    broker.moved = OpReply("op-1", {"shard": 2, "from": "b", "to": "a"})
    to_a = {"kind": "move"}
    waits = step("b", "running", shard(2, "armed"), target="a")
    broker.shows = [
        shown("running", waits, **to_a),
        shown("done", step("b", "done", shard(2, "held", 71.3), target="a"), **to_a),
    ]
    done = run("move-shard", "2", "a", "--queue")
    assert done.exit_code == 0
    assert done.stdout == "shard 2 moved from b to a, resumed in 71 ms\n"
    assert done.stderr.splitlines() == [
        "shard 2 ready on node a, resumed in 71 ms (1 of 1)",
    ]
    assert broker.asked[0] == MoveRequest(2, "a", queue=True)
    told = json.loads(run("move-shard", "2", "a", "--json").stdout)
    assert (told["op"], told["plan"]["from"], told["dry_run"]) == ("op-1", "b", False)
    assert told["operation"]["state"] == "done"


def test_a_move_that_nobody_makes_is_said(broker: Broker) -> None:
    broker.moved = OpReply("", {"shard": 2, "from": "b", "to": "a"})
    assert run("move-shard", "2", "a", "--dry-run").stdout == "shard 2 would move from b to a\n"
    told = json.loads(run("move-shard", "2", "a", "--dry-run", "--json").stdout)
    assert told == {"schema": 1, "dry_run": True, "plan": broker.moved.plan}
    assert broker.asked == [MoveRequest(2, "a", dry_run=True)] * 2


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("E_SAME", 77), ("E_DRAINING", 77), ("E_LOST", 77), ("E_CONFLICT", 77), ("E_NOT_FOUND", 4)],
)
def test_a_shard_that_cannot_move(broker: Broker, code: str, exit_code: int) -> None:
    broker.errors[topics.MOVE] = ErrorBody(code, "shard 2 is on a already")
    done = run("move-shard", "2", "a")
    assert done.exit_code == exit_code
    assert f"error[{code}]: shard 2 is on a already" in done.stderr


@pytest.mark.parametrize(("held", "words"), [([2, 3], "still"), ([3], "not any more")])
def test_a_move_that_fails_says_where_the_shard_is(
    broker: Broker, held: list[int], words: str
) -> None:
    back = step("b", "reverted", shard(2, "retaken"), target="a", reason="not connected in 10 s")
    broker.moved = OpReply("op-1", {"shard": 2, "from": "b", "to": "a"})
    broker.shows = [shown("reverted", back, kind="move", reason="node b: not connected in 10 s")]
    broker.status["nodes"] = [{"id": "b", "state": "up", "epoch": 1, "shards": held}]
    done = run("move-shard", "2", "a")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "error[E_OPERATION]: op-1 reverted: node b: not connected in 10 s." in done.stderr
    assert f"  node b: shard 2 {words} there\n" in done.stderr


# --- balance, scale


MOVES = [
    {
        "shard": 6, "from": "b", "to": "a", "events_per_s": 7.64, "cpu": 0.012,
        "rss_bytes": 21 << 20, "gain": 0.364,
    },
]  # fmt: skip
TABLE = [
    "shard  from  to  events/s  CPU  memory  gain",
    "    6  b     a        7.6  1 %  21 MiB  36 %",
]


def test_what_balance_would_move_is_a_table(broker: Broker) -> None:
    broker.moved = OpReply("", {"moves": MOVES, "imbalance": 1.4})
    done = run("balance", "--dry-run")
    assert done.stdout.splitlines() == TABLE
    assert broker.asked == [BalanceRequest(dry_run=True)]
    told = json.loads(run("balance", "--dry-run", "--json").stdout)
    assert told == {"schema": 1, "op": "", "dry_run": True, "plan": broker.moved.plan}


def test_balance_moves_or_says_why_not(broker: Broker) -> None:
    broker.moved = OpReply("op-1", {"moves": MOVES, "imbalance": 1.4})
    moved = step("b", "done", shard(6, "held", 71.3), target="a")
    broker.shows = [shown("done", moved, kind="balance")]
    done = run("balance")
    assert done.stderr.splitlines()[:2] == TABLE
    gaps = "0 IDENTIFYs, gap median 71 ms, max 71 ms"
    assert done.stdout == f"op-1 done: 1 shard moved, {gaps}\n"
    broker.moved = OpReply("", {"moves": [], "imbalance": 1.084})
    done = run("balance")
    assert done.exit_code == 0
    assert done.stdout == "nothing to move: the busiest node has 1.08x the mean load\n"


def test_scale_says_which_nodes_come_and_go(broker: Broker) -> None:
    plan = {"start": ["c"], "end": [], "moves": [MOVES[0] | {"to": "c"}]}
    broker.moved = OpReply("", plan)
    done = run("scale", "--nodes", "3", "--dry-run")
    assert done.stdout.splitlines()[0] == "new node c; shard 6 moves"
    assert len(done.stdout.splitlines()) == 3
    assert broker.asked == [ScaleRequest(3, dry_run=True)]
    broker.moved = OpReply("", {"start": [], "end": [], "moves": []})
    assert run("scale", "--nodes", "2").stdout == "there are 2 nodes already\n"


def test_nodes_that_start_and_end_are_followed(broker: Broker) -> None:
    args = {"args": {"start": ["c"], "end": ["d"]}, "kind": "scale"}
    begins, up = step("c", "running"), step("c", "done")
    ends, gone = step("d", "running"), step("d", "done")
    moved = step("b", "done", shard(6, "held", 71.3), target="c")
    waits = step("b", "waiting", shard(6), target="c")
    broker.moved = OpReply("op-1", {"start": ["c"], "end": ["d"], "moves": [MOVES[0]]})
    broker.shows = [
        shown("running", begins, waits, step("d", "waiting"), **args),
        shown("running", up, moved, ends, **args),
        shown("done", up, moved, gone, **args),
    ]
    done = run("scale", "--nodes", "3")
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        "new node c; ending node d; shard 6 moves",
        "node c starts",
        "node c is up",
        "shard 6 ready on node c, resumed in 71 ms (1 of 1)",
        "node d ends",
        "node d has ended",
    ]


def test_a_node_that_started_for_nothing_ends_again(broker: Broker) -> None:
    args = {"args": {"start": ["c"], "end": []}, "kind": "scale", "reason": "node c: no"}
    failed, undone = step("c", "failed", reason="no"), step("c", "done")
    broker.moved = OpReply("op-1", {"start": ["c"], "end": [], "moves": []})
    broker.shows = [shown("failed", failed, undone, **args)]
    done = run("scale", "--nodes", "3")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[1:] == [
        "node c failed: no",
        "node c has ended",
        "error[E_OPERATION]: op-1 failed: node c: no.",
    ]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (
            ErrorBody("E_BAD_REQUEST", "4 shards cannot be spread over 5 nodes", "from 1 to 4"),
            2,
            "error[E_USAGE]: 4 shards cannot be spread over 5 nodes; from 1 to 4",
        ),
        (
            ErrorBody("E_MEMORY", "3 more nodes need about 214 MiB, 180 MiB are free", "for 2"),
            75,
            "error[E_MEMORY]: 3 more nodes need about 214 MiB, 180 MiB are free",
        ),
    ],
)
def test_so_many_nodes_cannot_be(broker: Broker, error: ErrorBody, code: int, words: str) -> None:
    broker.errors[topics.SCALE] = error
    done = run("scale", "--nodes", "5")
    assert done.exit_code == code
    assert words in done.stderr


# --- operations, wait


def test_the_operations_fit_the_terminal(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = step("a", "failed", shard(0), shard(1))
    many = [step(f"n{number}", "waiting", shard(number)) for number in range(6)]
    broker.listed = [
        shown("waiting", *many, op="op-2"),
        shown("failed", failed, reason="node a: a#2 ended before it was ready"),
    ]
    monkeypatch.setattr("time.time", lambda: 190.0)
    broker.listed[1]["started_ms"] = 5_000
    assert run("operations").stdout.splitlines() == [
        "id    kind     state    shards  nodes                   begun           reason",
        "op-2  respawn  waiting  0-5     n0 n1 n2 n3 and 2 more  -",
        "op-1  respawn  failed   0-1     a                       3 min 05 s ago  "
        "node a: a#2 ended before it was ready",
    ]
    monkeypatch.setenv("COLUMNS", "60")
    narrow = run("operations").stdout.splitlines()
    assert max(map(len, narrow)) == 60
    assert narrow[2].endswith("...")
    told = json.loads(run("operations", "--json").stdout)
    assert told == {"schema": 1, "operations": broker.listed}


def test_no_operations_are_said_to_people_only(broker: Broker) -> None:
    done = run("operations")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "there was no operation yet\n"
    assert json.loads(run("operations", "--json").stdout)["operations"] == []


def test_one_is_cancelled(broker: Broker) -> None:
    cancelled = step("b", "cancelled", shard(2), reason="cancelled")
    broker.shows = [WAITS, WAITS, shown("cancelled", cancelled)]
    assert (
        "op-1 (respawn) would be cancelled"
        in run("operations", "cancel", "op-1", "--dry-run").stdout
    )
    assert run("operations", "cancel", "op-1").stdout == "op-1 is being cancelled\n"
    assert run("operations", "cancel", "op-1").stdout == "op-1 cancelled\n"


def test_one_that_is_over_is_not_cancelled(broker: Broker) -> None:
    broker.errors[topics.OP_CANCEL] = ErrorBody("E_TOO_LATE", "op-1 is done already")
    done = run("operations", "cancel", "op-1")
    assert done.exit_code == 77
    assert "error[E_TOO_LATE]: op-1 is done already" in done.stderr


def test_wait_ends_as_the_command_that_began_it(broker: Broker) -> None:
    broker.shows = [WAITS, WAITS, DONE]
    done = run("wait", "op-1")
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        "op-1 respawn: node b, shards 2-3",
        "shard 2 ready on node b, resumed in 84 ms (1 of 2)",
        "shard 3 ready on node b, resumed in 61 ms (2 of 2)",
    ]
    assert done.stdout == "op-1 done: 2 shards, 0 IDENTIFYs, gap median 73 ms, max 84 ms\n"
    assert json.loads(run("wait", "op-1", "--json").stdout)["operation"] == DONE
    broker.shows = [shown("cancelled", step("b", "cancelled", shard(2), reason="the fleet stops"))]
    over = run("wait", "op-1")
    assert (over.exit_code, over.stdout) == (1, "")
    assert over.stderr == "error[E_CANCELLED]: op-1 cancelled: the fleet stops.\n"


def test_wait_has_an_end_of_its_own(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    broker.shows = [WAITS]
    clock = SimpleNamespace(monotonic=count(0, 30).__next__, sleep=lambda _s: None)
    monkeypatch.setattr(following, "time", clock)
    done = run("wait", "op-1", "--timeout", "2m")
    assert done.exit_code == 75
    assert len(broker.asked) == 5
    assert "op-1 is not over after 2 min 00 s: shard 2 armed; shard 3 waits." in done.stderr
    assert "It goes on by itself." in done.stderr


def test_an_operation_that_nobody_knows(broker: Broker) -> None:
    unknown = ErrorBody("E_NOT_FOUND", "no operation 'op-9'", details={"exists": ["op-1"]})
    broker.shows = [unknown]
    done = run("wait", "op-9")
    assert done.exit_code == 4
    assert "There are: op-1." in done.stderr


def test_a_save_in_a_development_run_waits_for_the_one_before(
    broker: Broker, paths: FleetPaths
) -> None:
    with Client(paths) as client:
        dev.respawn(Operations(client), 0)
        assert broker.asked[-1] == RespawnRequest((0,), in_sequence=True, queue=True)
        broker.listed = [shown("waiting", step("a", "waiting", shard(0)))]
        dev.respawn(Operations(client), 0)
        assert broker.asked[-1] == OpsRequest()


# --- a terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], int]]]:
    """A command with a terminal of its own."""
    begun: list[tuple[subprocess.Popen[bytes], int]] = []

    def begin(*args: str, columns: int) -> tuple[subprocess.Popen[bytes], int]:
        ours, theirs = pty.openpty()
        environ = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"}
        command = [sys.executable, "-P", "-m", "shardctl", *args]
        process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, cwd=tmp_path,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        begun.append((process, ours))
        return process, ours

    yield begin
    for process, ours in begun:
        process.kill()
        process.wait()
        os.close(ours)


def read_until(file: int, words: str) -> str:
    """What a terminal shows, up to these words."""
    seen = ""
    while words not in seen:
        seen += os.read(file, 4096).decode()
    return seen


@pytest.mark.parametrize("columns", [40, 100])
def test_ctrl_c_detaches_and_a_terminal_has_bars(
    broker: Broker,
    terminal: Callable[..., tuple[subprocess.Popen[bytes], int]],
    columns: int,
) -> None:
    broker.shows = [shown("running", step("b", "running", shard(2, "held"), shard(3, "armed")))]
    process, screen = terminal("respawn", "2", columns=columns)
    seen = read_until(screen, "armed")
    assert "1 of 2 shards" in seen
    assert "━" in seen
    process.send_signal(signal.SIGINT)
    rest = read_until(screen, "--fleet test")
    assert "detached from op-1; it goes on. shardctl wait op-1" in rest
    assert process.wait(PTY_TIMEOUT_S) == 130
    assert all(not isinstance(request, OpsRequest) for request in broker.asked)


def test_a_step_that_was_cancelled_says_so_once() -> None:
    from shardctl.cli.opwords import ends

    assert ends(step("b", "cancelled", shard(2), reason="cancelled")) == ["node b cancelled"]
    assert ends(step("b", "cancelled", shard(2), reason="after node a failed")) == [
        "node b cancelled: after node a failed"
    ]
