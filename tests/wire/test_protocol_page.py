"""shard-protocol(7) says what the code says: topics, kinds, lanes, fields, limits."""

from __future__ import annotations

import re

import msgspec
import pytest

from shard_node.wire import limits, topics
from shard_node.wire.header import Header, Kind
from shard_node.wire.lanes import Lane
from tests.rules.source import ROOT

PAGE = (ROOT / "man" / "shard-protocol.7").read_text()
SPECIFIED = [name for name in topics.TOPICS if name.isupper()]


@pytest.mark.parametrize("name", topics.TOPICS)
def test_every_topic_has_its_entry(name: str) -> None:
    assert re.search(rf"^\.It {name} Ta|Ql {re.escape(name)}$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", SPECIFIED)
def test_an_entry_has_the_kind_and_the_lane(name: str) -> None:
    spec = topics.TOPICS[name]
    assert f".It {name} Ta {spec.kind.name.lower()} Ta {spec.lane.name.lower()} Ta" in PAGE


@pytest.mark.parametrize(
    "body",
    sorted(
        {
            body
            for spec in topics.TOPICS.values()
            for body in (spec.body, spec.reply)
            if body not in (None, dict)
        },
        key=lambda body: body.__name__,
    ),
    ids=lambda body: body.__name__,
)
def test_an_entry_has_the_fields_in_order(body: type[msgspec.Struct]) -> None:
    assert f"[{', '.join(body.__struct_fields__)}]" in PAGE


def test_the_header_is_the_pages() -> None:
    rows = re.findall(r"^\.It (\w+) Ta (?:integer|array|string|number) Ta", PAGE, re.MULTILINE)
    assert rows == list(Header.__struct_fields__)


def test_kinds_and_lanes_are_the_pages() -> None:
    for values in (Kind, Lane):
        assert ", ".join(f"{v.value} {v.name.lower()}" for v in values) in PAGE


def test_limits_are_the_pages() -> None:
    for value in (
        limits.HEADER_MAX_BYTES,
        limits.BODY_MAX_BYTES,
        limits.TTL_MAX_MS,
        limits.REQUESTS_IN_FLIGHT_MAX,
        limits.TOPICS_PER_NODE_MAX,
        *limits.QUEUE_MAX_FRAMES,
        *limits.QUEUE_MAX_MESSAGES,
        limits.BATCH_MAX_MESSAGES,
        limits.BATCH_MAX_BYTES,
        limits.SEND_WINDOW_MESSAGES,
        limits.SEND_WINDOW_BYTES,
        limits.CREDIT_MIN_MESSAGES,
        limits.CREDIT_MAX_MESSAGES,
        limits.CREDIT_MAX_BYTES,
        limits.CREDIT_RESERVE_MESSAGES,
        limits.DEAD_LETTERS_MAX,
        limits.DEAD_LETTERS_MAX_BYTES,
        limits.PARKED_MAX_BYTES,
        limits.CLIENTS_MAX,
    ):
        assert re.search(rf"\b{value}\b", PAGE), value
    assert f"silent for {limits.HEARTBEAT_LOST_S:.0f} s" in PAGE
