"""shard-protocol(7) says what the code says: topics, kinds, lanes, fields, limits."""

from __future__ import annotations

import re
from typing import get_type_hints

import msgpack
import msgspec
import pytest
from msgspec import structs

from broker.core.batches import START_WINDOW_MESSAGES
from broker.core.inflight import REQUEST_DEFAULT_S
from broker.services.cooldowns import CHECKPOINT_KEYS_MAX
from broker.services.registry import SERVED
from shard_node.peer import asks, inbox, senders
from shard_node.state.cooldowns import LOGGED_OVER_MS
from shard_node.state.log import Entry
from shard_node.state.opids import DONE_KEPT
from shard_node.state.rows import Row
from shard_node.state.tx import Actor, Tx
from shard_node.wire import bodies, categories, limits, state, topics
from shard_node.wire.batch import Flag, Message, Receipts, encode_batch
from shard_node.wire.codec import decode_body, decode_header, encode_body
from shard_node.wire.credit import Handled
from shard_node.wire.header import Header, Kind, header
from shard_node.wire.lanes import Lane
from shard_node.wire.targets import BROKER, Node
from shardctl.cli.plane import REASONS
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


@pytest.mark.parametrize(
    "part",
    [
        categories.Record,
        categories.RoleInfo,
        categories.ShardStats,
        categories.CommandReply,
        state.StateOutcome,
        state.CooldownUse,
        state.CooldownStep,
        Tx,
        Actor,
        Row,
        Entry,
    ],
    ids=lambda part: part.__name__,
)
def test_what_a_body_is_made_of_has_its_fields_in_order(part: type[msgspec.Struct]) -> None:
    assert f"[{', '.join(part.__struct_fields__)}]" in PAGE


@pytest.mark.parametrize("name", ["GUILD_INFO", "MEMBER_UPDATE", "USER_UPDATE"])
def test_an_entry_has_what_may_have_changed(name: str) -> None:
    entry = PAGE.split(f"\n.It {name}\n")[1].split("\n.It ")[0]
    hints = get_type_hints(topics.TOPICS[name].body)
    for field in hints["changed"].__struct_fields__:
        assert re.search(rf"\b{field}\b", entry), field


@pytest.mark.parametrize("name", SPECIFIED)
def test_no_body_is_an_open_map(name: str) -> None:
    for body in (topics.TOPICS[name].body, topics.TOPICS[name].reply):
        assert body is None or issubclass(body, bodies.Body)


def test_the_header_is_the_pages() -> None:
    section = PAGE[PAGE.index(".Ss Header") : PAGE.index(".Ss Targets")]
    rows = re.findall(r"^\.It (\w+) Ta (?:integer|array|string|number) Ta", section, re.MULTILINE)
    assert rows == list(Header.__struct_fields__)


def test_kinds_and_lanes_are_the_pages() -> None:
    for values in (Kind, Lane):
        assert ", ".join(f"{v.value} {v.name.lower()}" for v in values) in PAGE


EXAMPLES = [
    [1, 2, ["b"], "client.register", 0, 1, 2000],
    ["dash", ["news"]],
    [1, 7, ["n", "a"], "", 2, 0, 30000, "", 1, 1, 1, "", 1, 1700000000.0],
    [[1, "greet", b"\xa2hi", 1, 30000]],
    [2, [[1, 3]], [], [[4, "E_REMOTE", "ValueError: no"]]],
]
"""What the page writes out byte by byte, in its order."""


def examples() -> list[bytes]:
    """Each hexadecimal example of the page: the bytes before two spaces or the line's end."""
    found = []
    for display in re.findall(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed", PAGE, re.MULTILINE | re.DOTALL):
        for example in display.split("\n\n"):
            columns = [
                re.match(r"((?:[0-9a-f]{2} ?)+)(?:  |$)", line) for line in example.split("\n")
            ]
            bytes_of = "".join(column[1] for column in columns if column)
            if bytes_of:
                found.append(bytes.fromhex(bytes_of))
    return found


def test_the_examples_are_what_an_encoder_writes() -> None:
    assert examples() == [msgpack.packb(example) for example in EXAMPLES]


def test_the_examples_are_what_the_code_writes_and_reads() -> None:
    register, client, batch, messages, receipts = examples()
    head = header(Kind.REQUEST, BROKER, topics.CLIENT_REGISTER, lane=Lane.CONTROL, correlation=1)
    assert decode_header(register) == structs.replace(head, ttl_ms=2000)
    assert decode_body(client, bodies.ClientRegister) == bodies.ClientRegister("dash", ("news",))
    head = Header(
        1, Kind.BATCH, Node("a"), "", Lane.NORMAL, 0, 30000, "", 1, 1, 1, "", 1, 1700000000.0
    )
    assert decode_header(batch) == head
    assert encode_batch([Message(int(Kind.MESSAGE), "greet", b"\xa2hi", 1, 30000)]) == messages
    said = Receipts(2, [(1, 3)], [], [(4, "E_REMOTE", "ValueError: no")])
    assert encode_body(said) == receipts


def test_roles_are_the_pages() -> None:
    section = PAGE[PAGE.index(".Ss Roles") : PAGE.index(".Sh HANDSHAKE")]
    rows = dict(re.findall(r"^\.It ([\w.-]+) Ta ([a-z, ]+)$", section, re.MULTILINE))
    assert {topic: set(roles.split(", ")) for topic, roles in rows.items()} == {
        topic: set(served.roles) for topic, (_, served) in SERVED.items()
    }


def test_reasons_are_the_pages() -> None:
    """Whatever the broker counts as rejected has its entry, and nothing else has."""
    files = [*(ROOT / "broker").rglob("*.py"), *(ROOT / "shard_node" / "wire").glob("*.py")]
    text = "\n".join(path.read_text() for path in files)
    call = r"(?:reject|WireError|[rR]efused|self\._refuse)\(\s*(?:batch, )?\"([a-z_]+)\""
    reasons = set(re.findall(call, text)) | {"unregistered"}
    section = PAGE[PAGE.index("counts by reason") : PAGE.index("Where it was a request")]
    rows = re.findall(r"^\.It ([a-z_ ,]+)$", section, re.MULTILINE)
    assert {word for row in rows for word in row.split(" , ")} == reasons == set(REASONS)


def test_codes_are_the_pages() -> None:
    """Every code that the broker or a peer puts on the wire has its entry."""
    files = [*(ROOT / "broker" / "core").glob("*.py"), *(ROOT / "broker" / "services").glob("*.py")]
    codes = {
        code
        for path in files
        for code in re.findall(r"ErrorBody\(\s*\"(E_\w+)\"|\"(E_\w+)\", f?\"", path.read_text())
        for code in code
        if code
    }
    assert codes
    for code in codes:
        assert re.search(rf"^\.(?:It|Ql) {code}\b", PAGE, re.MULTILINE), code


def test_a_message_and_the_bodies_of_the_plane_are_the_pages() -> None:
    for body in (Message, Handled, Receipts):
        fields = body.__struct_fields__
        assert f".Ql [{', '.join(fields)}]" in PAGE
    for value in Flag:
        assert f"{value.value} {str(value.name).lower()}" in PAGE


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
        limits.LINE_WINDOW_MESSAGES,
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
        limits.FRAME_MAX_BYTES,
        limits.STATE_TXS_MAX,
        limits.STATE_OPS_MAX,
        limits.STATE_WAITING_MAX,
        limits.STATE_WAITING_MAX_BYTES,
        limits.STATE_KEYS_MAX,
        limits.STATE_RECORDS_MAX,
        limits.STATE_SCANNED_MAX,
        limits.STATE_MARKS_MAX,
        DONE_KEPT,
        CHECKPOINT_KEYS_MAX,
        LOGGED_OVER_MS,
        asks.SPAN_MAX,
        senders.SPAN_MAX,
        limits.CREDIT_LENT_BYTES,
        limits.CREDIT_LENT_MESSAGES,
        inbox.REQUESTS_REMEMBERED_MAX,
        inbox.RANGES_MAX,
    ):
        assert re.search(rf"\b{value}\b", PAGE), value
    assert f"silent for {limits.HEARTBEAT_LOST_S:.0f} s" in PAGE
    assert f"no credit for {limits.STUCK_S * 1000:.0f} ms" in PAGE
    assert f"deadline {limits.PARKED_MAX_S:.0f} seconds" in PAGE
    assert f"ends after {REQUEST_DEFAULT_S:.0f} s" in PAGE
    assert f"nothing for {inbox.FORGET_S:.0f} seconds" in PAGE
    assert f"the window is {START_WINDOW_MESSAGES} messages" in PAGE
