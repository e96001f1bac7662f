"""The real daemon: a process, its sockets, its store; the supervisor is the test."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from shard_node.wire import topics
from shard_node.wire.bodies import (
    CommandSync,
    CommandSyncReply,
    ErrorBody,
    IdentifySent,
    LeaseReply,
    LeaseRequest,
    NodeFatal,
    PermitGrant,
    PermitRequest,
    RespawnReply,
    RespawnRequest,
    ShardReady,
    ShardState,
    StopRequest,
    WhereReply,
    WhereRequest,
)
from shard_node.wire.codec import decode_body
from shard_node.wire.header import Kind
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import FRAME_MAX_BYTES
from shard_node.wire.targets import ALL, Guild, Node, Shard, Topic
from tests.support.broker_rig import ROOT, TOKEN, WAIT_S, NodePeer, Peer, Rig

pytestmark = pytest.mark.slow


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        yield rig


def until(rig: Rig, wanted: str, value: object) -> dict[str, object]:
    """Status, as soon as a key has a value."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        status = rig.status()
        if status[wanted] == value:
            return status
    raise AssertionError(f"{wanted} did not become {value!r}")


# --- start and stop


def test_a_fleet_from_start_to_stop(rig: Rig) -> None:
    nodes = rig.fleet()
    assert [node.line["shards"] for node in nodes] == [[0, 1], [2, 3]]
    assert [node.line["epoch"] for node in nodes] == [1, 1]
    for node in nodes:
        node.state = ShardState.READY
        assert node.beat().registered
    status = rig.status()
    assert status["fleet_state"] == "running"
    assert status["broker"]["pid"] == rig.process.pid
    assert status["identify"]["remaining"] == 990
    assert [node["state"] for node in status["nodes"]] == ["up", "up"]
    assert [(s["id"], s["node"], s["state"], s["guilds"]) for s in status["shards"]] == [
        (0, "a", "ready", 7),
        (1, "a", "ready", 7),
        (2, "b", "ready", 7),
        (3, "b", "ready", 7),
    ]
    rig.say({"ev": "stop", "reason": "signal", "discard_sessions": False})
    for node in nodes:
        node.topic(topics.NODE_STOP)
        node.exited(0)
    assert rig.hear("stopped") == {"op": "stopped", "reason": "signal", "exit_code": 0}
    code, text = rig.terminate()
    assert code == 0, text
    assert rig.api.authorizations == [f"Bot {TOKEN}"]


def test_an_operator_stops_the_fleet_and_gets_an_answer(rig: Rig) -> None:
    nodes = rig.fleet()
    kind, _ = rig.operator().request(topics.STOP, StopRequest())
    assert kind is Kind.REPLY
    assert rig.hear("stopping") == {"op": "stopping", "reason": "operator", "exit_code": 0}
    for node in nodes:
        node.topic(topics.NODE_STOP)
        node.exited(0)
    assert rig.hear("stopped")["reason"] == "operator"


def test_files_are_for_the_owner_alone(rig: Rig) -> None:
    rig.fleet()
    for path in (rig.run / "broker.sock", rig.data / "store" / "data.mdb"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_a_fatal_close_code_stops_the_fleet(rig: Rig) -> None:
    nodes = rig.fleet()
    fatal = NodeFatal(4004, "authentication failed", "check the token")
    nodes[0].send(Kind.EVENT, topics.FATAL, fatal, lane=Lane.CONTROL)
    for node in nodes:
        node.topic(topics.NODE_STOP)
        node.exited(1)
    stopped = rig.hear("stopped")
    assert stopped["exit_code"] == 1
    assert "4004" in stopped["reason"]


def test_a_refused_token_ends_the_start_with_a_hint(rig: Rig) -> None:
    rig.api.status = 401
    rig.launch()
    stopped = rig.hear("stopped")
    assert stopped["exit_code"] == 1
    assert "E_TOKEN" in stopped["reason"]
    assert TOKEN not in stopped["reason"]


def test_too_small_a_budget_ends_the_start(rig: Rig) -> None:
    rig.api.body["session_start_limit"]["remaining"] = 3
    rig.launch()
    assert "needs 4 session starts; 3 remain" in rig.hear("stopped")["reason"]


def test_the_supervisors_death_ends_the_broker_after_its_nodes(rig: Rig) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        rig.launch()
        line = rig.hear("spawn")
        rig.say({"ev": "spawned", "name": line["name"], "epoch": 1, "pid": sleeper.pid})
        other = rig.hear("spawn")
        rig.say({"ev": "spawn_failed", "name": other["name"], "epoch": 1, "error": "planted"})
        node = NodePeer(rig, line)
        node.register()
        rig.orphan()
        assert node.beat().registered
        sleeper.communicate(b"\n", timeout=WAIT_S)
        begun = time.monotonic()
        code, text = rig.end()
        assert code == 0, text
        assert time.monotonic() - begun < 2.0 + rig.record["drain_s"]
    finally:
        sleeper.kill()
        sleeper.communicate()


def test_an_idle_broker_waits_and_does_not_spin(rig: Rig) -> None:
    """Looked at over a second of heartbeats: the loop sleeps until its next deadline."""
    nodes = rig.fleet()
    stat = Path(f"/proc/{rig.process.pid}/stat")

    def cpu_s() -> float:
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before, end = cpu_s(), time.monotonic() + 1.5
    while time.monotonic() < end:
        for node in nodes:
            assert node.beat().registered
        node.heart.socket.poll(100)  # a pause that an unexpected frame would end
    assert cpu_s() - before < 0.3


# --- broker death


def test_kill_9_and_again_on_the_same_data(rig: Rig) -> None:
    nodes = rig.fleet()
    for node in nodes:
        node.state = ShardState.READY
        node.beat()
    kind, data = nodes[0].request(topics.COMMAND_SYNC, CommandSync("digest"))
    assert decode_body(data, CommandSyncReply).action == "sync"
    nodes[0].request(topics.COMMAND_SYNC, CommandSync("digest", True))
    nodes[1].request(topics.LEASE, LeaseRequest("daily", 60.0))
    rig.kill()

    begun = time.monotonic()
    rig.launch([node.proc() for node in nodes])
    rig.hear("serving")
    assert not nodes[0].beat().registered
    assert all(node.register().accepted for node in nodes)
    status = rig.status()
    assert time.monotonic() - begun < 2.0

    assert [shard["state"] for shard in status["shards"]] == ["ready"] * 4
    assert [node["epoch"] for node in status["nodes"]] == [1, 1]
    assert [line for line in rig.heard() if line["op"] != "serving"] == []
    kind, data = nodes[1].request(topics.COMMAND_SYNC, CommandSync("digest"))
    assert decode_body(data, CommandSyncReply).action == "skip"
    kind, data = nodes[0].request(topics.LEASE, LeaseRequest("daily", 60.0))
    assert decode_body(data, LeaseReply) == LeaseReply(False, "b")
    assert kind is Kind.REPLY


def test_a_fresh_start_gives_new_epochs_and_keeps_names(rig: Rig) -> None:
    rig.fleet()
    rig.kill()
    rig.launch()
    lines = [rig.hear("spawn") for _ in range(2)]
    assert [(line["name"], line["epoch"]) for line in lines] == [("node:a", 2), ("node:b", 2)]


def test_an_old_epoch_is_refused(rig: Rig) -> None:
    node = rig.fleet()[0]
    node.exited(0)
    line = rig.hear("spawn")
    assert line["epoch"] == 2
    assert not node.register().accepted
    assert not node.beat().registered
    assert node.error(topics.PERMIT, PermitRequest(0, 4)) == "E_OLD_EPOCH"
    assert rig.node(line).beat().registered


def test_a_second_broker_on_the_same_data_is_refused(rig: Rig, tmp_path: Path) -> None:
    rig.fleet()
    (tmp_path / "other").mkdir()
    with Rig(tmp_path / "other") as other:
        other.record |= {"data_dir": str(rig.data)}
        other.launch()
        code, text = other.end()
    assert code == 78
    assert f"another broker (pid {rig.process.pid})" in text
    assert "shardctl status" in text
    assert rig.status()["fleet"] == "test-fleet"


# --- permits, leases, where, respawn


def test_permits_of_a_key_come_a_window_apart(rig: Rig) -> None:
    a, b = rig.fleet()
    first = a.ask(topics.PERMIT, PermitRequest(0, 4))
    _, data = a.answer(first)
    permit = decode_body(data, PermitGrant).permit
    second = b.ask(topics.PERMIT, PermitRequest(2, 4))
    sent_at = time.monotonic()
    a.send(Kind.EVENT, topics.IDENTIFY_SENT, IdentifySent(permit, 0, 0.0), lane=Lane.CONTROL)
    kind, _ = b.answer(second)
    assert kind is Kind.REPLY
    assert time.monotonic() - sent_at >= rig.record["identify_window_s"]
    assert a.error(topics.PERMIT, PermitRequest(2, 4)) == "E_BAD_REQUEST"
    assert rig.status()["identify"]["remaining"] == 988


def test_where_and_respawn(rig: Rig) -> None:
    nodes = rig.fleet()
    operator = rig.operator()
    guild = 3 << 22
    _, data = operator.request(topics.WHERE, WhereRequest(guild))
    reply = decode_body(data, WhereReply)
    assert (reply.guild, reply.shard, reply.num_shards) == (guild, 3, 4)
    assert (reply.node, reply.route) == ("b", "formula")
    _, data = operator.request(topics.RESPAWN, RespawnRequest((9,)))
    error = decode_body(data, ErrorBody)
    assert (error.code, error.details) == ("E_NOT_FOUND", {"exists": [0, 1, 2, 3]})
    _, data = operator.request(topics.RESPAWN, RespawnRequest((1,), in_sequence=True))
    assert decode_body(data, RespawnReply).nodes == {"a": (0, 1)}
    nodes[0].topic(topics.NODE_STOP)
    assert rig.status()["nodes"][0]["state"] == "stopping"
    nodes[0].exited(0)
    line = rig.hear("spawn")
    assert (line["name"], line["epoch"]) == ("node:a", 2)
    assert nodes[1].error(topics.RESPAWN, RespawnRequest((1,))) == "E_REFUSED"


# --- routing


def test_frames_go_to_node_shard_guild_topic_and_all(rig: Rig) -> None:
    a, b = rig.fleet()
    b.topics = ("mine",)
    b.register()
    for target in (Node("b"), Shard(2, 4), Shard(3), Guild(2 << 22), Topic("mine"), ALL):
        a.send(Kind.EVENT, "mine", {"to": 1}, target=target)
        head, body = b.topic("mine")
        assert head.sender == f"a#{a.epoch}", "the sender is who the socket says it is"
        assert decode_body(body, dict) == {"to": 1}


def test_a_request_between_nodes_comes_back(rig: Rig) -> None:
    a, b = rig.fleet()
    asked = a.ask("mine", {"n": 1}, target=Node("b"))
    head, _ = b.topic("mine")
    b.send(Kind.REPLY, "mine", {"n": 2}, correlation=head.correlation)
    kind, data = a.answer(asked)
    assert kind is Kind.REPLY
    assert decode_body(data, dict) == {"n": 2}
    b.send(Kind.REPLY, "mine", {"n": 3}, correlation=head.correlation)
    assert until(rig, "fleet", "test-fleet")["broker"]["rejected"] == {"stray_reply": 1}


def test_a_request_always_ends(rig: Rig) -> None:
    a, b = rig.fleet()
    assert a.error("mine", {}, target=Node("nobody")) == "E_UNREACHABLE"
    assert a.error("mine", {}, target=Node("b"), ttl_ms=100) == "E_TIMEOUT"
    assert a.error("no.such.topic", {}) == "E_NO_HANDLER"
    assert a.error("mine", {}, target=ALL) == "E_BAD_TARGET"
    asked = a.ask("mine", {}, target=Node("b"))
    b.frame(lambda head: head.correlation and head.ttl_ms == 10_000)
    b.exited(1)
    kind, data = a.answer(asked)
    assert (kind, decode_body(data, ErrorBody).code) == (Kind.ERROR, "E_UNREACHABLE")


def test_shard_events_reach_their_subscribers(rig: Rig) -> None:
    a, b = rig.fleet()
    b.topics = (topics.SHARD_READY,)
    b.register()
    a.send(Kind.EVENT, topics.SHARD_READY, ShardReady(0, 4, 3), lane=Lane.CONTROL)
    head, body = b.topic(topics.SHARD_READY)
    assert head.sender == "a#1"
    assert decode_body(body, ShardReady).guilds == 3
    assert rig.status()["shards"][0]["state"] == "ready"


def test_a_receiver_that_does_not_read_blocks_nobody_and_is_bounded(rig: Rig) -> None:
    """b reads nothing: its lane fills, the oldest go, and everybody else is served."""
    a, b = rig.fleet()
    data = "x" * 2000
    for _ in range(20_000):
        a.send(Kind.EVENT, "flood", data, target=Node("b"), lane=Lane.LOW)
    deadline = time.monotonic() + WAIT_S
    while not rig.status()["broker"]["counts"].get("dropped_low"):
        assert time.monotonic() < deadline
    rss = int(Path(f"/proc/{rig.process.pid}/statm").read_text().split()[1]) * 4096
    assert rss < 200 << 20
    a.send(Kind.EVENT, "urgent", data, target=Node("b"), lane=Lane.HIGH)
    rig.status()
    seen = 0

    def urgent(head: object) -> bool:
        nonlocal seen
        seen += 1
        return head.topic == "urgent"  # type: ignore[attr-defined]

    b.frame(urgent)
    assert seen < 3000, "a waiting urgent frame overtakes what waits in the lanes"


# --- hostile and wrong


def test_garbage_is_counted_and_never_fatal(rig: Rig) -> None:
    rig.fleet()
    noise = random.Random(7)
    garbage = Peer(rig, b"a#1!!")
    stranger = Peer(rig, b"op-1-1")
    sent = 0
    for _ in range(300):
        for peer in (garbage, stranger):
            parts = [noise.randbytes(noise.randrange(200)) for _ in range(noise.randrange(1, 5))]
            peer.socket.send_multipart(parts)
            sent += 1
    deadline = time.monotonic() + WAIT_S
    while sum(rig.status()["broker"]["rejected"].values()) < sent:
        assert time.monotonic() < deadline
    assert set(rig.status()["broker"]["rejected"]) <= {"parts", "identity", "malformed"}
    text = (rig.data / "logs" / "broker.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    said = [line for line in lines if "frames rejected" in line["text"]]
    assert 1 <= len(said) <= 5


def test_a_part_over_the_limit_costs_its_sender_the_connection(rig: Rig) -> None:
    rig.fleet()
    peer = Peer(rig, b"op-9-9")
    monitor = peer.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    try:
        peer.socket.send_multipart([b"x", b"y" * (FRAME_MAX_BYTES + 1)])
        assert monitor.poll(WAIT_S * 1000)
    finally:
        peer.socket.disable_monitor()
        monitor.close(linger=0)
    assert rig.status()["fleet"] == "test-fleet"


def test_lines_without_meaning_are_logged_and_passed_over(rig: Rig) -> None:
    rig.launch()
    rig.hear("serving")
    for line in (b"{}\n", b"garbage\n", b'{"ev":"exited","name":3}\n', b"[" * 5000 + b"\n"):
        rig.say_raw(line)
    assert rig.status()["fleet"] == "test-fleet"
    text = (rig.data / "logs" / "broker.log").read_text()
    assert text.count("without meaning") == 4


def test_the_token_is_nowhere(rig: Rig) -> None:
    nodes = rig.fleet()
    status = json.dumps(rig.status())
    argv = Path(f"/proc/{rig.process.pid}/cmdline").read_text()
    nodes[0].send(Kind.EVENT, topics.FATAL, NodeFatal(4004, f"token {TOKEN}"), lane=Lane.CONTROL)
    for node in nodes:
        node.topic(topics.NODE_STOP)
        node.exited(1)
    rig.hear("stopped")
    _, text = rig.terminate()
    logs = "".join(path.read_text() for path in (rig.data / "logs").iterdir())
    assert "[token]" in logs
    for where in (status, argv, text, logs):
        assert TOKEN not in where


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"drain_s": "soon"}, "key drain_s"),
        ({"shards": 0}, "key shards"),
        ({"schema": 2}, "key schema"),
        ({"log_level": "loud"}, "key log_level"),
    ],
)
def test_a_bad_launch_record_is_named(rig: Rig, change: dict[str, object], said: str) -> None:
    rig.record |= change
    rig.launch()
    code, text = rig.end()
    assert code == 78
    assert str(rig.record_file) in text
    assert said in text


def test_a_folder_open_to_others_is_refused(rig: Rig) -> None:
    rig.data.chmod(0o755)
    rig.launch()
    code, text = rig.end()
    assert code == 78
    assert "open to others" in text
    assert "chmod 700" in text


def test_a_path_that_is_too_long_is_refused(rig: Rig) -> None:
    rig.record["endpoint"] = f"ipc://{rig.run}/{'x' * 120}.sock"
    rig.launch()
    code, text = rig.end()
    assert code == 78
    assert "107" in text


def test_a_damaged_store_is_refused(rig: Rig) -> None:
    (rig.data / "store").mkdir(mode=0o700)
    (rig.data / "store" / "data.mdb").write_bytes(b"garbage" * 2000)
    rig.launch()
    code, text = rig.end()
    assert code == 78
    assert "E_STORE_DAMAGED" in text


def test_by_hand_it_says_what_to_type() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "broker"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert answer.returncode == 2
    assert "shardctl start" in answer.stderr
