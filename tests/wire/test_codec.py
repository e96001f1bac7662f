"""Headers and bodies: round trips, limits, and bytes from a hostile peer."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_node.wire import bodies, limits, topics
from shard_node.wire.codec import (
    WireError,
    decode_body,
    decode_header,
    encode_body,
    encode_header,
)
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.lanes import Lane
from shard_node.wire.targets import (
    ALL,
    BROKER,
    Guild,
    Node,
    Pool,
    Shard,
    Target,
    Topic,
    shard_of_guild,
)

names = st.text(min_size=1, max_size=limits.NAME_MAX_CHARS)
snowflakes = st.integers(min_value=0, max_value=2**63 - 1)
targets: st.SearchStrategy[Target] = st.one_of(
    st.just(ALL),
    st.just(BROKER),
    st.builds(Node, names),
    st.builds(Topic, names),
    st.builds(Pool, names),
    st.builds(Guild, snowflakes),
    st.builds(Shard, st.integers(0, limits.SHARDS_MAX), st.integers(0, limits.SHARDS_MAX)),
)
headers = st.builds(
    header,
    st.sampled_from(Kind),
    targets,
    names,
    lane=st.sampled_from(Lane),
    correlation=st.integers(0, 2**63 - 1),
    ttl_ms=st.integers(0, limits.TTL_MAX_MS),
    sender=names,
)


@given(headers)
def test_a_header_survives_the_wire(value: Header) -> None:
    assert decode_header(encode_header(value)) == value


@given(st.binary(max_size=300))
def test_any_bytes_are_a_header_or_a_wire_error(data: bytes) -> None:
    try:
        value = decode_header(data)
    except WireError as error:
        assert error.reason in {"malformed", "version", "limit", "oversized"}
    else:
        assert value.version == limits.PROTOCOL_VERSION


@given(headers, st.data())
def test_a_flipped_byte_is_a_header_or_a_wire_error(value: Header, data: st.DataObject) -> None:
    raw = bytearray(encode_header(value))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(WireError):
        decode_header(bytes(raw))


def test_fields_that_a_newer_peer_appends_are_passed_over() -> None:
    raw = msgspec.msgpack.decode(encode_header(header(Kind.EVENT, ALL, "x")))
    assert decode_header(msgspec.msgpack.encode([*raw, "new"])).topic == "x"


def test_trailing_fields_have_defaults() -> None:
    raw = msgspec.msgpack.decode(encode_header(header(Kind.EVENT, ALL, "x")))
    assert decode_header(msgspec.msgpack.encode(raw[:4])) == header(Kind.EVENT, ALL, "x")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "malformed"),
        (b"\xc1", "malformed"),
        (b"\x91" * 4000, "malformed"),
        (msgspec.msgpack.encode([1, 0, ["b"], 7]), "malformed"),
        (msgspec.msgpack.encode([1, 0, ["?"], "x"]), "malformed"),
        (msgspec.msgpack.encode([1, 99, ["b"], "x"]), "malformed"),
        (b"\x94\x01\x00\x91\xa1b\xa1\xff", "malformed"),
        (msgspec.msgpack.encode([0, 0, ["b"], "x"]), "version"),
        (msgspec.msgpack.encode([limits.PROTOCOL_VERSION + 1, 0, ["b"], "x"]), "version"),
        (msgspec.msgpack.encode([1, 0, ["b"], "x" * (limits.TOPIC_MAX_CHARS + 1)]), "limit"),
        (msgspec.msgpack.encode([1, 0, ["b"], "x", 1, 0, -1]), "limit"),
        (b"x" * (limits.HEADER_MAX_BYTES + 1), "oversized"),
    ],
)
def test_each_fault_has_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        decode_header(data)
    assert caught.value.reason == reason


def test_a_depth_bomb_in_a_body_is_the_peers_fault() -> None:
    with pytest.raises(WireError) as caught:
        decode_body(b"\x91" * 500_000 + b"\xc0", list)
    assert caught.value.reason == "body"


def test_a_body_names_what_it_should_have_been() -> None:
    with pytest.raises(WireError, match="PermitGrant"):
        decode_body(b"\xc0", bodies.PermitGrant)


def test_a_body_that_is_no_data_names_its_type() -> None:
    with pytest.raises(TypeError, match="object"):
        encode_body(object())


def test_a_body_over_the_limit_is_refused_at_both_ends() -> None:
    with pytest.raises(ValueError, match=str(limits.BODY_MAX_BYTES)):
        encode_body(b"x" * limits.BODY_MAX_BYTES)
    with pytest.raises(WireError) as caught:
        decode_body(b"x" * (limits.BODY_MAX_BYTES + 1), bytes)
    assert caught.value.reason == "oversized"


def test_an_error_survives_the_wire() -> None:
    error = bodies.ErrorBody("E_NOT_FOUND", "no shard 9", "see it", details={"exists": [0, 1]})
    assert decode_body(encode_body(error), bodies.ErrorBody) == error


def test_the_vocabulary_is_whole() -> None:
    types = {"SHARD_READY", "SHARD_DISCONNECT", "GUILD_SYNC", "STATE_UPDATE", "BROADCAST"}
    categories = {
        "GUILD_INFO",
        "MEMBER_UPDATE",
        "COMMAND_SYNC",
        "STATS_UPDATE",
        "USER_UPDATE",
        "PRESENCE_UPDATE",
        "COMMAND_EXEC",
        "CACHE_INVALIDATE",
    }
    assert types | categories <= topics.TOPICS.keys()


@pytest.mark.parametrize("name", topics.TOPICS)
def test_a_topic_has_a_reply_just_where_it_is_a_request(name: str) -> None:
    spec = topics.TOPICS[name]
    assert (spec.reply is not None) == (spec.kind is Kind.REQUEST)


@given(snowflakes, st.integers(1, limits.SHARDS_MAX))
def test_a_guild_has_one_shard(guild_id: int, num_shards: int) -> None:
    assert 0 <= shard_of_guild(guild_id, num_shards) < num_shards


def test_the_documented_example_of_the_sharding_formula() -> None:
    assert shard_of_guild(41771983423143937, 16) == (41771983423143937 >> 22) % 16


@pytest.mark.parametrize(("guild_id", "num_shards"), [(1, 0), (1, -1), (-1, 1)])
def test_no_shard_for_nonsense(guild_id: int, num_shards: int) -> None:
    with pytest.raises(ValueError, match="no shard"):
        shard_of_guild(guild_id, num_shards)
