"""A real broker process with a fake supervisor, a fake REST endpoint and DEALER peers.

Every wait has a deadline and ends with the event it waits for.
"""

from __future__ import annotations

import http.server
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

from shard_node.wire import topics
from shard_node.wire.bodies import (
    ErrorBody,
    Heartbeat,
    HeartbeatAck,
    Register,
    ShardReport,
    ShardState,
    Welcome,
)
from shard_node.wire.codec import decode_body, decode_header, encode_body, encode_header
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.identity import heartbeat_id, node_id, operator_id
from shard_node.wire.lanes import Lane
from shard_node.wire.targets import BROKER, Target

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "MTIzNDU2.CANARY.canary-token-of-the-tests"
WAIT_S = 15.0


class FakeApi:
    """GET /gateway/bot on 127.0.0.1. ``status`` other than 200 refuses."""

    def __init__(self) -> None:
        self.status = 200
        self.body: dict[str, Any] = {
            "url": "ws://127.0.0.1:1",
            "shards": 4,
            "session_start_limit": {
                "total": 1000,
                "remaining": 990,
                "reset_after": 3_600_000,
                "max_concurrency": 2,
            },
        }
        self.headers: dict[str, str] = {}
        self.authorizations: list[str] = []
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.authorizations.append(self.headers.get("Authorization", ""))
                data = json.dumps(api.body).encode()
                self.send_response(api.status)
                for key, value in api.headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(WAIT_S)


class Rig:
    """One fleet's folders, and at most one broker on them at a time.

    ``prelude`` is Python that the broker's process runs before the broker: planted faults.
    """

    def __init__(self, folder: Path, **record: Any) -> None:
        self.api = FakeApi()
        self.prelude = ""
        self.data, self.run = folder / "data", folder / "run"
        for path in (self.data, self.run):
            path.mkdir(mode=0o700)
        self.endpoint = f"ipc://{self.run}/broker.sock"
        self.record_file = self.data / "fleet.json"
        self.record: dict[str, Any] = {
            "schema": 1,
            "fleet": "test-fleet",
            "endpoint": self.endpoint,
            "data_dir": str(self.data),
            "run_dir": str(self.run),
            "shards": "auto",
            "nodes": 2,
            "identify_window_s": 0.2,
            "drain_s": 2.0,
            **record,
        }
        self.context = zmq.Context()
        self.process: subprocess.Popen[bytes] | None = None
        self._errors = folder / "stderr"
        self.peers: list[Peer] = []
        self._unread = b""
        self._lines: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait(WAIT_S)
            self._close_ends()
        for peer in self.peers:
            peer.socket.close(linger=0)
        self.context.term()
        self.api.close()

    # --- the process

    def launch(self, procs: list[dict[str, Any]] | None = None) -> None:
        """Starts a broker and says hello to it."""
        self.record_file.write_text(json.dumps(self.record))
        self._link, peer = socket.socketpair()
        lifeline, self._lifeline = os.pipe()
        env = {
            "PATH": os.environ["PATH"],
            "SHARDCTL_FLEET_FILE": str(self.record_file),
            "SHARDCTL_SUPERVISOR_FD": str(peer.fileno()),
            "SHARDCTL_LIFELINE_FD": str(lifeline),
            "SHARDCTL_API_BASE": self.api.base,
            "DISCORD_TOKEN": TOKEN,
        }
        code = (
            f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r})\n{self.prelude}\n"
            "runpy.run_module('broker', run_name='__main__', alter_sys=True)"
        )
        with self._errors.open("wb") as errors:  # a pipe that nobody reads would stop it
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                cwd="/",
                env=env,
                pass_fds=(peer.fileno(), lifeline),
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        peer.close()
        os.close(lifeline)
        self._unread, self._lines = b"", []
        self.say({"ev": "hello", "supervisor_pid": os.getpid(), "procs": procs or []})

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.end()

    def end(self) -> tuple[int, str]:
        """Waits for the end; the exit code and what it wrote to stderr."""
        assert self.process is not None
        self.process.wait(WAIT_S)
        self._close_ends()
        return self.process.returncode, self._errors.read_text(errors="replace")

    def terminate(self) -> tuple[int, str]:
        """SIGTERM, and the end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def orphan(self) -> None:
        """The supervisor dies."""
        self._close_ends()

    def _close_ends(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
            self._link.close()

    # --- the supervisor's line

    def say(self, line: dict[str, Any]) -> None:
        self._link.sendall(json.dumps(line).encode() + b"\n")

    def say_raw(self, data: bytes) -> None:
        self._link.sendall(data)

    def hear(self, op: str, within_s: float = WAIT_S) -> dict[str, Any]:
        """The next line of this kind; others are put by."""
        deadline = time.monotonic() + within_s
        while True:
            for place, line in enumerate(self._lines):
                if line["op"] == op:
                    return self._lines.pop(place)
            self._read(deadline, op)

    def heard(self) -> list[dict[str, Any]]:
        """Lines that nobody asked for so far."""
        while select.select([self._link], [], [], 0)[0]:
            self._read(time.monotonic() + 1, "anything")
        return self._lines

    def _read(self, deadline: float, what: str) -> None:
        left_s = deadline - time.monotonic()
        ready, _, _ = select.select([self._link], [], [], max(0.0, left_s))
        assert ready, f"no {what!r} from the broker in time; had {self._lines}"
        data = self._link.recv(1 << 16)
        assert data, f"the broker ended before {what!r}"
        *lines, self._unread = (self._unread + data).split(b"\n")
        self._lines += [json.loads(line) for line in lines]

    # --- peers

    def operator(self) -> Peer:
        return Peer(self, operator_id(os.getpid(), len(self.peers)))

    def node(self, line: dict[str, Any]) -> NodePeer:
        """A node for a `spawn` line: the supervisor's word, and a registration."""
        self.say(
            {"ev": "spawned", "name": line["name"], "epoch": line["epoch"], "pid": os.getpid()}
        )
        node = NodePeer(self, line)
        assert node.register().accepted
        return node

    def fleet(self) -> list[NodePeer]:
        """Starts the broker, and a node for each that it asks for."""
        self.launch()
        self.hear("serving")
        return [self.node(self.hear("spawn")) for _ in range(self.record["nodes"])]

    def status(self) -> dict[str, Any]:
        kind, body = self.operator().request(topics.STATUS, [])
        assert kind is Kind.REPLY
        return decode_body(body, dict)


class Peer:
    """A DEALER with an identity."""

    def __init__(self, rig: Rig, identity: bytes) -> None:
        self.socket = rig.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.IDENTITY, identity)
        self.socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(rig.endpoint)
        self._correlation = 0
        self._held: list[tuple[Header, bytes]] = []
        rig.peers.append(self)

    def send(
        self,
        kind: Kind,
        topic: str,
        body: Any,
        *,
        target: Target = BROKER,
        lane: Lane = Lane.NORMAL,
        correlation: int = 0,
        ttl_ms: int = 10_000,
    ) -> None:
        head = header(
            kind, target, topic, lane=lane, correlation=correlation, ttl_ms=ttl_ms, sender="liar"
        )
        self.socket.send_multipart([encode_header(head), encode_body(body)])

    def ask(self, topic: str, body: Any, *, target: Target = BROKER, ttl_ms: int = 10_000) -> int:
        self._correlation += 1
        lane = topics.TOPICS[topic].lane if topic in topics.TOPICS else Lane.NORMAL
        correlation = self._correlation
        self.send(
            Kind.REQUEST,
            topic,
            body,
            target=target,
            lane=lane,
            correlation=correlation,
            ttl_ms=ttl_ms,
        )
        return correlation

    def answer(self, correlation: int, within_s: float = WAIT_S) -> tuple[Kind, bytes]:
        head, body = self.frame(
            lambda h: h.kind in (Kind.REPLY, Kind.ERROR) and h.correlation == correlation, within_s
        )
        return head.kind, body

    def request(
        self, topic: str, body: Any, *, target: Target = BROKER, ttl_ms: int = 10_000
    ) -> tuple[Kind, bytes]:
        return self.answer(self.ask(topic, body, target=target, ttl_ms=ttl_ms))

    def error(self, topic: str, body: Any, *, target: Target = BROKER, ttl_ms: int = 10_000) -> str:
        """The code of the error that a request ends with."""
        kind, data = self.request(topic, body, target=target, ttl_ms=ttl_ms)
        assert kind is Kind.ERROR
        return decode_body(data, ErrorBody).code

    def frame(self, wanted: Any, within_s: float = WAIT_S) -> tuple[Header, bytes]:
        """The next frame that is wanted; others are put by."""
        for place, (head, _) in enumerate(self._held):
            if wanted(head):
                return self._held.pop(place)
        deadline = time.monotonic() + within_s
        while self.socket.poll(max(0.0, deadline - time.monotonic()) * 1000):
            head_bytes, body = self.socket.recv_multipart()
            head = decode_header(head_bytes)
            if wanted(head):
                return head, body
            self._held.append((head, body))
        raise AssertionError(f"no such frame in time; had {[h for h, _ in self._held]}")

    def topic(self, topic: str, within_s: float = WAIT_S) -> tuple[Header, bytes]:
        return self.frame(lambda head: head.topic == topic, within_s)


class NodePeer(Peer):
    """A node's two sockets."""

    def __init__(self, rig: Rig, line: dict[str, Any]) -> None:
        self.rig, self.line = rig, line
        self.name = line["name"].removeprefix("node:")
        self.epoch = line["epoch"]
        super().__init__(rig, node_id(self.name, self.epoch))
        self.heart = Peer(rig, heartbeat_id(self.name, self.epoch))
        self.state = ShardState.QUEUED
        self.topics: tuple[str, ...] = ()

    def reports(self) -> tuple[ShardReport, ...]:
        return tuple(ShardReport(shard, self.state, 7, 12.5, 42) for shard in self.line["shards"])

    def register(self) -> Welcome:
        body = Register(
            self.name,
            self.epoch,
            os.getpid(),
            self.line["num_shards"],
            self.reports(),
            self.topics,
        )
        kind, data = self.request(topics.REGISTER, body)
        assert kind is Kind.REPLY, data
        return decode_body(data, Welcome)

    def beat(self, loop_lag_ms: float = 0.0) -> HeartbeatAck:
        body = Heartbeat(1, loop_lag_ms, 1 << 20, 3, self.reports())
        kind, data = self.heart.request(topics.HEARTBEAT, body)
        assert kind is Kind.REPLY
        return decode_body(data, HeartbeatAck)

    def proc(self) -> dict[str, Any]:
        """What the supervisor says of this node in its hello."""
        keys = ("name", "epoch", "index", "shards", "num_shards")
        return {key: self.line[key] for key in keys} | {"pid": os.getpid(), "uptime_s": 5.0}

    def exited(self, code: int | None = 0, signal: int | None = None) -> None:
        self.rig.say(
            {
                "ev": "exited",
                "name": self.line["name"],
                "epoch": self.epoch,
                "pid": os.getpid(),
                "code": code,
                "signal": signal,
                "uptime_s": 1.0,
                "tail": ["last words"],
            }
        )
