"""Routing ids: ours parse back, anything else is nobody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_node.wire.identity import (
    NAME_PATTERN,
    Peer,
    heartbeat_id,
    is_node_name,
    letter_sender,
    node_id,
    operator_id,
    parse_peer,
)

node_names = st.from_regex(NAME_PATTERN, fullmatch=True).filter(is_node_name)
epochs = st.integers(0, 10**18 - 1)


@given(node_names, epochs)
def test_a_node_parses_back(name: str, epoch: int) -> None:
    assert parse_peer(node_id(name, epoch)) == Peer("node", name, epoch)
    assert parse_peer(heartbeat_id(name, epoch)) == Peer("heartbeat", name, epoch)


def test_an_operator_parses_back() -> None:
    assert parse_peer(operator_id(12, 3)) == Peer("operator", "op-12-3", 0)


def test_the_sender_of_a_letter_parses_back() -> None:
    assert parse_peer(letter_sender(12, 1).encode()) == Peer("letter", "dl-12", 1)
    assert parse_peer(letter_sender(3, 1795452345).encode()) == Peer("letter", "dl-3", 1795452345)
    for other in (b"dl-#1", b"dl-1#", b"dl-x#1", b"dl-1#1!hb"):
        assert parse_peer(other) is None


@given(st.binary(max_size=64))
def test_any_identity_is_a_peer_or_nobody(data: bytes) -> None:
    peer = parse_peer(data)
    assert peer is None or peer.role in {"node", "heartbeat", "operator", "client", "letter"}


@pytest.mark.parametrize(
    "data", [b"", b"a", b"a#", b"a#-1", b"a#x", b"A#1", b"#1", b"a#1#2", b"\xff#1", b"a#1!"]
)
def test_other_forms_are_nobody(data: bytes) -> None:
    assert parse_peer(data) is None


@pytest.mark.parametrize("name", ["", "A", "1a", "a b", "a#", "op-1", "a" * 65])
def test_not_a_node_name(name: str) -> None:
    assert not is_node_name(name)
