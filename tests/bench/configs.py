"""A change of a configuration: how soon all nodes have it, and what it costs the wire."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from shard_node.state.guild_config import UpdateConfig
from shard_node.state.tx import Tx
from shard_node.wire import topics
from shard_node.wire.codec import decode_body, decode_header
from shard_node.wire.header import Kind
from shard_node.wire.state import StateDo
from shardctl.bench.measure import percentile
from shardctl.bench.worker import Worker
from tests.bench.config_roles import GUILD
from tests.bench.contenders import node_peer
from tests.bench.lines import MEMBERS, ROOT, RUN_MAX_S
from tests.bench.own import Check, Limit
from tests.support.broker_rig import NodePeer, Rig

FIELDS: Final[dict[str, Any]] = {
    f"field_{n}": (n, f"#channel-{n}", n % 2 == 0)[n % 3] for n in range(30)
}
HEAD_BYTES: Final = 2
"""Of each part of a ZeroMQ message of up to 255 bytes (ZMTP 3.1, 4.1: flags and size); a
longer one has 9."""
LONG_HEAD_BYTES: Final = 9
TOLD_MAX_S: Final = 10.0


def hands(quick: bool) -> dict[str, float]:
    """From the call that changes a field until the last of eight nodes was told and has read
    it. The commit is in it, so it is more than what is asked for; ``durable_p99_ms`` begins
    when the caller knows of the commit, and is less."""
    count, server = 20 if quick else 300, node_peer.Server()
    try:
        address = server.start()
        told = json.loads(address)
        with contextlib.ExitStack() as stack:
            holders = [
                stack.enter_context(
                    _worker("holder", address=address, name=f"n{place}", count=count)
                )
                for place in range(MEMBERS)
            ]
            given = {"endpoint": told["endpoint"], "state": told["state"], "fields": FIELDS}
            changer = stack.enter_context(_worker("changer", count=count, **given))
            for worker in (*holders, changer):
                worker.hear()
            changer.say()
            changer.hear()
            for worker in holders:
                worker.hear()
            changer.say()
            times = changer.hear(RUN_MAX_S)
            heard = [worker.hear(RUN_MAX_S)["heard_ns"] for worker in holders]
    finally:
        server.stop()
    last_ns = [max(each) for each in zip(*heard, strict=True)]
    whole, after = (
        [last - began for last, began in zip(last_ns, times[key], strict=True)]
        for key in ("called_ns", "durable_ns")
    )
    return {
        "p50_ms": percentile(whole, 0.5) / 1e6,
        "p99_ms": percentile(whole, 0.99) / 1e6,
        "durable_p99_ms": percentile(after, 0.99) / 1e6,
    }


def _worker(role: str, **arguments: Any) -> Worker:
    return Worker(f"tests.bench.config_roles:{role}", ROOT, **arguments)


def wire() -> dict[str, float]:
    """The bytes that one node gets for a change of one field, and for all of them set."""
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder), nodes=1, shards=1) as rig:
        node = rig.fleet()[0]
        wanted = ["state:config", topics.STATE_COMMITTED]
        node.send(Kind.EVENT, topics.SUBSCRIBE, [wanted])
        assert node.beat().registered
        _until_subscribed(rig, node)
        whole = _told_bytes(rig, node, 1, FIELDS)
        one = _told_bytes(rig, node, 2, {"field_1": "#another"})
    return {"whole_bytes": whole, "delta_bytes": one, "wire_share": one / whole}


def _until_subscribed(rig: Rig, node: NodePeer) -> None:
    deadline = time.monotonic() + TOLD_MAX_S
    while True:
        kind, body = rig.operator().request(topics.ROUTES, [])
        assert kind is Kind.REPLY
        if "state:config" in decode_body(body, dict)["topics"]:
            return
        assert time.monotonic() < deadline, "the broker does not know what the node listens to"
        node.beat()


def _told_bytes(rig: Rig, node: NodePeer, number: int, fields: dict[str, Any]) -> int:
    """Of the messages up to the one that says that the change was told."""
    name = number.to_bytes(16, "big")
    tx = msgspec.msgpack.encode(Tx(name, name, (UpdateConfig(GUILD, fields=fields),)))
    kind, body = rig.operator().request(topics.STATE_DO, StateDo((tx,)))
    assert kind is Kind.REPLY, body
    total, updates = 0, 0
    while node.socket.poll(TOLD_MAX_S * 1000):
        parts = node.socket.recv_multipart()
        topic = decode_header(parts[0]).topic
        if topic == topics.STATE_UPDATE:
            updates += 1
            update = decode_body(parts[1], topics.TOPICS[topics.STATE_UPDATE].body)
            assert update.changed == fields
        if topic in (topics.STATE_UPDATE, topics.STATE_COMMITTED):
            total += sum(map(_on_the_wire, parts))
        if topic == topics.STATE_COMMITTED:
            assert updates == 1
            return total
    raise AssertionError("the node was not told of the change")


def _on_the_wire(part: bytes) -> int:
    return len(part) + (HEAD_BYTES if len(part) <= 255 else LONG_HEAD_BYTES)


def measure(quick: bool) -> dict[str, float]:
    """Both."""
    return hands(quick) | wire()


CHECK: Final = Check(
    "config",
    "one field of a configuration of 30 changes: until all 8 nodes have it; bytes to each",
    measure,
    (Limit("p99_ms", 20.0), Limit("wire_share", 0.5)),
)
