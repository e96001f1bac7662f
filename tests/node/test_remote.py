"""What a process asks another one to send to the gateway, and what is refused."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from shard_node.bridge.remote import Asked, RemoteSocket, stand_in
from shard_node.wire.lingering import GatewayOp
from shard_node.wire.targets import Shard
from shard_node.wire.topics import GATEWAY_OP

MEMBERS = {"op": 8, "d": {"guild_id": "1", "nonce": "n"}}


class Rig:
    """A hold with shard 0 of 4 connected, of what is asked here."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.heard: dict[str, Any] = {}

        async def gateway(data: Any) -> None:
            self.sent.append(data)

        async def send(target: Any, topic: str, body: Any, **_: Any) -> None:
            self.sent.append((target, topic, body))

        node = SimpleNamespace(
            num_shards=4, shards=(0, 1), send=send, hear_peers=self.heard.__setitem__
        )
        state = SimpleNamespace(_chunk_requests={}, _get_websocket=None)
        self.client = Client(state)
        self.hold: Any = SimpleNamespace(
            node=node,
            client=self.client,
            shards={0: SimpleNamespace(ws=SimpleNamespace(send_as_json=gateway))},
            lingering=SimpleNamespace(label="a#1"),
        )
        self.asked = Asked(self.hold)
        self.asked.serve()

    def ask(self, payload: bytes, **more: Any) -> None:
        op = GatewayOp(**{"owner": "b#1", "shard": 0, "num_shards": 4, "payload": payload, **more})
        asyncio.run(self.heard[GATEWAY_OP](SimpleNamespace(body=op)))


class Client:
    """Finds connections as disnake does."""

    def __init__(self, state: Any) -> None:
        self._connection = state

    def _get_websocket(self, guild_id: Any = None, *, shard_id: Any = None) -> Any:
        return ("stock", guild_id, shard_id)


def test_what_may_be_sent_is_sent_as_it_came() -> None:
    rig = Rig()
    rig.ask(json.dumps(MEMBERS).encode())
    assert rig.sent == [MEMBERS]
    assert not rig.asked.keeps("n")
    rig.ask(json.dumps(MEMBERS).encode(), cache=True)
    assert rig.asked.keeps("n")
    assert not rig.asked.keeps(None)


@pytest.mark.parametrize(
    ("payload", "more", "fault"),
    [
        (b'{"op": 2, "d": {}}', {}, ValueError),
        (b'{"op": 6, "d": {}}', {}, ValueError),
        (b"[8]", {}, ValueError),
        (b"{", {}, ValueError),
        (b'{"op": 8, "d": {}}', {"shard": 1}, LookupError),
        (b'{"op": 8, "d": {}}', {"num_shards": 8}, LookupError),
    ],
)
def test_the_rest_is_refused(payload: bytes, more: dict[str, Any], fault: type[Exception]) -> None:
    rig = Rig()
    with pytest.raises(fault):
        rig.ask(payload, **more)
    assert rig.sent == []


def test_a_shard_of_others_is_sent_for_by_its_holder() -> None:
    rig = Rig()
    stand_in(rig.hold)
    find: Any = rig.client._connection._get_websocket
    for shard in (0, 1):  # 1 is this process's, and connects
        assert find(shard << 22) == ("stock", shard << 22, None)
    assert find(shard_id=1) == ("stock", None, 1)
    remote = find(2 << 22)
    assert isinstance(remote, RemoteSocket)
    assert find(shard_id=3).shard_id == 3
    state: Any = rig.client._connection
    state._chunk_requests[1] = SimpleNamespace(nonce="n", cache=True)
    asyncio.run(remote.request_chunks(1, query="", limit=0, nonce="n"))
    asyncio.run(remote.voice_state(1, 5))
    (members, voice) = (body for _, _, body in rig.sent)
    assert [(target, topic) for target, topic, _ in rig.sent] == [(Shard(2), GATEWAY_OP)] * 2
    assert (members.owner, members.shard, members.num_shards) == ("a#1", 2, 4)
    assert (members.cache, voice.cache) == (True, False)
    assert json.loads(members.payload)["d"]["nonce"] == "n"
    assert json.loads(voice.payload)["d"]["channel_id"] == 5
