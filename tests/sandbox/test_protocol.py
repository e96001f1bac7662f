import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_node.sandbox import intents
from shard_node.sandbox.state import SandboxState
from tests.support.sandbox import CoreClient, core_client, core_state, identify_data


def refused(state: SandboxState, shard: Any = (0, 1), **fields: Any) -> int | None:
    client = core_client(state)
    client.send(2, identify_data(state, shard, **fields))
    return client.close_code


def identified(**settings: Any) -> CoreClient:
    client = core_client(core_state(**settings))
    client.identify((0, 1))
    return client


# -- Close codes


@pytest.mark.parametrize("op", [0, 5, 7, 9, 10, 11, 12, 99, -1])
def test_4001_unknown_opcode(op: int) -> None:
    client = identified()
    client.send(op)
    assert client.close_code == 4001


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '"x"',
        "{}",
        '{"op":"1"}',
        '{"op":true}',
        '{"op":1.5}',
        b"\xff\xfe",
        '{"op":2}',
        '{"op":2,"d":[]}',
        '{"op":2,"d":{"token":1,"intents":1,"properties":{}}}',
        '{"op":2,"d":{"token":"x","intents":"1","properties":{}}}',
        '{"op":2,"d":{"token":"x","intents":1}}',
        '{"op":6,"d":{"token":"x","session_id":5,"seq":1}}',
        '{"op":6,"d":{"token":"x","session_id":"s","seq":"1"}}',
        '{"op":6,"d":{}}',
        '{"op":1,"d":"x"}',
        '{"op":1,"d":' + " " * 5_000 + "1}",
        "[" * 4_000,
    ],
)
def test_4002_what_cannot_be_decoded(text: str | bytes) -> None:
    client = core_client(core_state())
    client.connection.receive(text, 0.0)
    assert client.close_code == 4002


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60)))
def test_garbage_never_raises(text: str | bytes) -> None:
    client = core_client(core_state(guilds=1))
    client.connection.receive(text, 0.0)
    assert client.close_code is None or 4001 <= client.close_code <= 4002


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
_NAMES = ("guild_id", "channel_id", "query", "limit", "user_ids", "status", "seq", "guild_ids")


@settings(max_examples=300)
@given(
    st.sampled_from([1, 2, 3, 4, 6, 8, 31]),
    _json | st.dictionaries(st.sampled_from(_NAMES), _json),
)
def test_any_json_is_answered_or_refused(op: int, data: Any) -> None:
    client = core_client(core_state(guilds=1))
    client.identify((0, 1))
    client.send(op, data)
    assert client.close_code in (None, 4002, 4005)


@pytest.mark.parametrize("op", [3, 4, 8, 31])
def test_4003_before_identify(op: int) -> None:
    client = core_client(core_state())
    client.send(op, {})
    assert client.close_code == 4003


def test_heartbeats_are_welcome_before_identify() -> None:
    client = core_client(core_state())
    assert [p["op"] for p in client.send(1, None)] == [11]
    assert client.close_code is None


def test_4004_wrong_token() -> None:
    state = core_state()
    assert refused(state, token="nope") == 4004
    client = core_client(state)
    client.send(6, {"token": "nope", "session_id": "x", "seq": 1})
    assert client.close_code == 4004
    assert not state.hub.sessions


def test_4005_twice() -> None:
    for op in (2, 6):
        client = identified(identify_window_s=0.0)
        data = identify_data(client.state) | {"session_id": "x", "seq": 1}
        client.send(op, data)
        assert client.close_code == 4005
        assert len(client.state.hub.sessions) == 1


def test_4008_after_120_sends_in_a_minute() -> None:
    client = identified()
    for _ in range(119):
        client.send(1, None)
    assert client.close_code is None
    client.send(1, None)
    assert client.close_code == 4008
    assert len(client.state.hub.sessions) == 1, "the session can be resumed"


def test_sends_spread_over_more_than_a_minute_pass() -> None:
    client = identified(heartbeat_interval_ms=600_000)
    for n in range(400):
        client.now = n * 0.51
        client.send(1, None)
    assert client.close_code is None


def test_4009_without_heartbeats_ends_the_session() -> None:
    client = identified(heartbeat_interval_ms=1_000, heartbeat_misses=1.75)
    client.connection.overdue(1.7)
    assert client.close_code is None
    client.now = 1.0
    client.send(1, 5)
    assert client.connection.deadline() == 2.75
    client.connection.overdue(2.0)
    assert client.close_code is None
    client.connection.overdue(2.75)
    assert client.close_code == 4009
    assert client.connection.deadline() is None
    assert not client.state.hub.sessions


@pytest.mark.parametrize("shard", [(1, 1), (-1, 2), (0, 0), (4, 3), ("0", 1)])
def test_4010_invalid_shard(shard: Any) -> None:
    assert refused(core_state(), shard) == 4010


def test_a_shard_that_is_no_pair_cannot_be_decoded() -> None:
    for shard in ([1], 5, "x", {}):
        client = core_client(core_state())
        client.send(2, identify_data(client.state) | {"shard": shard})
        assert client.close_code == 4002


def test_no_shard_is_the_only_one() -> None:
    client = core_client(core_state())
    assert client.identify(None)["shard"] == [0, 1]


def test_4010_large_bots_need_a_multiple() -> None:
    state = core_state(
        guilds=40, large_bot_guilds=40, large_bot_shard_multiple=16, identify_window_s=0.0
    )
    assert refused(state, (0, 24)) == 4010
    assert refused(state, (0, 32)) is None
    assert refused(core_state(guilds=39, large_bot_guilds=40), (0, 24)) is None


def test_4011_more_than_2500_guilds_on_a_shard() -> None:
    state = core_state(guilds=2_501, identify_window_s=0.0)
    assert refused(state, (0, 1)) == 4011
    assert refused(state, (0, 2)) is None


@pytest.mark.parametrize("bits", [-1, 1 << 17, 1 << 26, 1 << 40])
def test_4013_invalid_intents(bits: int) -> None:
    assert refused(core_state(), intents=bits) == 4013


def test_4014_disallowed_intents() -> None:
    state = core_state(disallowed_intents=intents.MESSAGE_CONTENT, identify_window_s=0.0)
    assert refused(state) == 4014
    assert refused(state, intents=intents.ALL & ~intents.MESSAGE_CONTENT) is None


def test_nothing_is_done_after_a_close() -> None:
    client = core_client(core_state())
    client.send(99)
    assert client.send(2, identify_data(client.state)) == []
    assert not client.state.hub.sessions


# -- The gate


def test_identify_too_fast_is_invalid_session_and_may_be_repeated() -> None:
    state = core_state()
    core_client(state).identify((0, 2))
    late = core_client(state)
    assert late.send(2, identify_data(state, (1, 2))) == [
        {"t": None, "s": None, "op": 9, "d": False}
    ]
    late.now = 5.0
    late.identify((1, 2))
    counters = state.audit.counters
    assert (counters["identifies"], counters["identifies_rejected"]) == (3, 1)


def test_keys_go_in_parallel() -> None:
    state = core_state(max_concurrency=4)
    for shard in range(4):
        core_client(state).identify((shard, 8))
    assert refused(state, (4, 8)) is None
    assert state.audit.counters["identifies_rejected"] == 1


def test_an_overspent_budget_resets_the_token_and_ends_everything() -> None:
    state = core_state(session_starts_total=2, identify_window_s=0.0)
    first, second = core_client(state), core_client(state)
    first.identify((0, 2))
    second.identify((1, 2))
    token = state.world.token
    assert refused(state, (0, 2)) == 4004
    assert state.world.token != token
    assert (first.close_code, second.close_code) == (4004, 4004)
    assert not state.hub.sessions


# -- Requests


def test_heartbeat_is_acknowledged_even_when_deaf() -> None:
    client = identified()
    assert client.send(1, 3) == [{"t": None, "s": None, "op": 11, "d": None}]


def test_presence_is_kept() -> None:
    client = identified()
    client.send(3, {"status": "dnd", "activities": [{"name": "x", "type": 0}], "since": None})
    (session,) = client.state.hub.sessions.values()
    assert session.presence is not None
    assert session.presence["status"] == "dnd"
    client.send(3, {"status": "asleep"})
    assert client.close_code == 4002


def test_voice_state_comes_back_and_stays_in_the_guild() -> None:
    client = identified(guilds=2)
    world = client.state.world
    guild_id = world.guild_ids()[0]
    channel_id = list(world.guild(guild_id).channels)[-1]
    join = {"guild_id": str(guild_id), "channel_id": str(channel_id), "self_mute": True}
    update, server = client.send(4, join)
    assert (update["t"], server["t"]) == ("VOICE_STATE_UPDATE", "VOICE_SERVER_UPDATE")
    assert update["d"]["channel_id"] == str(channel_id)
    assert (update["d"]["self_mute"], update["d"]["user_id"]) == (True, world.bot_id)
    assert server["d"]["endpoint"] is None
    assert world.application_id in world.guild(guild_id).voice_states
    (leave,) = client.send(4, {"guild_id": str(guild_id), "channel_id": None})
    assert leave["d"]["channel_id"] is None
    assert not world.guild(guild_id).voice_states


def test_voice_and_members_of_a_foreign_guild_stay_unanswered() -> None:
    client = core_client(core_state(guilds=2))
    client.identify((0, 2))
    (foreign,) = (g for g in client.state.world.guild_ids() if (g >> 22) % 2 == 1)
    assert client.send(4, {"guild_id": str(foreign), "channel_id": None}) == []
    assert client.send(8, {"guild_id": str(foreign), "query": "", "limit": 0}) == []
    assert client.send(31, {"guild_ids": [str(foreign)]}) == []
    assert client.close_code is None


def test_soundboard_sounds_are_none() -> None:
    client = identified(guilds=1)
    guild_id = str(client.state.world.guild_ids()[0])
    (answer,) = client.send(31, {"guild_ids": [guild_id]})
    assert answer["d"] == {"guild_id": guild_id, "soundboard_sounds": []}


def test_members_come_in_chunks() -> None:
    client = identified(guilds=1, members_per_guild=4_000)
    guild = client.state.world.guild(client.state.world.guild_ids()[0])
    request = {"guild_id": [str(guild.id)], "query": "", "limit": 0, "nonce": "n1"}
    chunks = [payload["d"] for payload in client.send(8, request)]
    assert len(chunks) == -(-len(guild.members) // 1_000) > 1
    assert [chunk["chunk_index"] for chunk in chunks] == list(range(len(chunks)))
    assert {chunk["chunk_count"] for chunk in chunks} == {len(chunks)}
    assert {chunk["nonce"] for chunk in chunks} == {"n1"}
    assert max(len(chunk["members"]) for chunk in chunks) == 1_000
    got = {m["user"]["id"] for chunk in chunks for m in chunk["members"]}
    assert got == {str(user_id) for user_id in guild.members}


def test_hello_says_the_interval() -> None:
    client = core_client(core_state(heartbeat_interval_ms=1_234))
    client.connection.hello()
    assert json.loads(client.link.texts[0])["d"]["heartbeat_interval"] == 1_234


@pytest.mark.parametrize(
    ("op", "data"),
    [
        (8, {"guild_id": float("inf"), "query": "", "limit": 0}),
        (8, {"guild_id": "1", "query": "", "limit": float("inf")}),
        (4, {"guild_id": float("-inf"), "channel_id": None}),
        (31, {"guild_ids": [float("inf")]}),
    ],
)
def test_4002_infinite_numbers(op: int, data: Any) -> None:
    client = identified()
    client.send(op, data)
    assert client.close_code == 4002


@pytest.mark.parametrize(
    ("config", "fields", "code"),
    [
        ({}, {"token": "wrong"}, 4004),
        ({"session_starts_remaining": 0}, {}, 4004),
        ({}, {"intents": 1 << 40}, 4013),
        ({"disallowed_intents": intents.GUILD_MEMBERS}, {}, 4014),
        ({"guilds": 9, "shard_guilds_max": 5}, {}, 4011),
    ],
)
def test_every_refused_identify_is_counted_as_rejected(
    config: dict[str, Any], fields: dict[str, Any], code: int
) -> None:
    state = core_state(**config)
    assert refused(state, **fields) == code
    report = state.audit.report(0.0)
    assert (report["identifies"], report["identifies_rejected"]) == (1, 1)
