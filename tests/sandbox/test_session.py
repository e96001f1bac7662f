import json
from typing import Any

import pytest

from shard_node.sandbox import intents, payloads
from shard_node.sandbox.session import Deafness, Target
from shard_node.sandbox.snowflake import shard_of
from shard_node.sandbox.state import SandboxState
from tests.support.sandbox import CoreClient, core_client, core_state, identify_data


def clients(state: SandboxState, num_shards: int, **fields: Any) -> list[CoreClient]:
    found = []
    for shard in range(num_shards):
        client = core_client(state)
        client.identify((shard, num_shards), **fields)
        found.append(client)
    return found


def message(state: SandboxState, guild_id: int | None = None, content: str = "hi") -> dict:
    author = state.world.user(state.world.user_ids()[0])
    return payloads.message(state.world.snowflakes.next(), 77, author, content, guild_id=guild_id)


def shards(count: int, **settings: Any) -> tuple[SandboxState, list[CoreClient]]:
    state = core_state(identify_window_s=0.0, **settings)
    return state, clients(state, count)


def test_startup_guilds_follow_ready_with_unavailable_false() -> None:
    state = core_state(guilds=10)
    client = core_client(state)
    ready = client.send(2, identify_data(state, (1, 3)))[0]
    listed = [guild["id"] for guild in ready["d"]["guilds"]]
    mine = [str(g) for g in state.world.guild_ids() if shard_of(g, 3) == 1]
    assert listed == mine
    created = client.pump()
    assert [payload["d"]["id"] for payload in created] == mine
    assert all(payload["d"]["unavailable"] is False for payload in created)
    assert [payload["s"] for payload in created] == list(range(2, 2 + len(mine)))


def test_ready_is_complete() -> None:
    state = core_state(guilds=2)
    state.hub.resume_url = "ws://x/resume"
    ready = core_client(state).identify((0, 1))
    assert ready["v"] == 10
    assert ready["user"]["id"] == ready["application"]["id"] == state.world.bot_id
    assert ready["resume_gateway_url"] == "ws://x/resume"
    assert ready["shard"] == [0, 1]
    assert all(guild["unavailable"] for guild in ready["guilds"])


def test_without_the_guilds_intent_no_guild_comes() -> None:
    state = core_state(guilds=3)
    client = core_client(state)
    client.identify((0, 1), intents=intents.GUILD_MESSAGES)
    assert not state.hub.sessions[next(iter(state.hub.sessions))].pending


def test_a_guilds_event_goes_to_its_shard() -> None:
    state, four = shards(4, guilds=12)
    for guild_id in state.world.guild_ids():
        data = message(state, guild_id)
        assert state.hub.dispatch("MESSAGE_CREATE", data, guild_id=guild_id) == 1
        for shard, client in enumerate(four):
            expected = ["MESSAGE_CREATE"] if shard == shard_of(guild_id, 4) else []
            assert client.link.events() == expected


def test_shard_counts_coexist() -> None:
    state, two = shards(2, guilds=12)
    three = clients(state, 3)
    for guild_id in state.world.guild_ids():
        assert state.hub.dispatch("TYPING_START", {}, guild_id=guild_id) == 2
        hit = [c for c in two + three if c.link.events()]
        assert hit == [two[shard_of(guild_id, 2)], three[shard_of(guild_id, 3)]]


def test_direct_messages_go_to_shard_zero_of_each_count() -> None:
    state, two = shards(2)
    three = clients(state, 3)
    assert state.hub.dispatch("MESSAGE_CREATE", message(state), guild_id=None) == 2
    assert [bool(client.link.events()) for client in two + three] == [
        True,
        False,
        True,
        False,
        False,
    ]


def test_two_sessions_of_one_shard_both_get_it() -> None:
    state, (one,) = shards(1)
    (other,) = clients(state, 1)
    assert state.hub.dispatch("USER_UPDATE", {}, guild_id=None) == 2
    assert one.link.events() == other.link.events() == ["USER_UPDATE"]


def test_intents_filter() -> None:
    state = core_state(identify_window_s=0.0)
    (_client,) = clients(state, 1, intents=intents.GUILDS | intents.GUILD_MESSAGES)
    guild_id = state.world.guild_ids()[0]
    for event, reached in [
        ("MESSAGE_CREATE", 1),
        ("MESSAGE_REACTION_ADD", 0),
        ("PRESENCE_UPDATE", 0),
        ("GUILD_MEMBER_ADD", 0),
        ("INTERACTION_CREATE", 1),
        ("CHANNEL_CREATE", 1),
    ]:
        assert state.hub.dispatch(event, {}, guild_id=guild_id) == reached, event
    assert state.hub.dispatch("MESSAGE_CREATE", {}, guild_id=None) == 0


def test_content_is_blanked_for_those_without_the_intent() -> None:
    state, (full,) = shards(1)
    (blank,) = clients(state, 1, intents=intents.ALL & ~intents.MESSAGE_CONTENT)
    guild_id = state.world.guild_ids()[0]
    state.hub.dispatch("MESSAGE_CREATE", message(state, guild_id, "secret"), guild_id=guild_id)
    assert full.link.take()[0]["d"]["content"] == "secret"
    assert blank.link.take()[0]["d"]["content"] == ""
    state.hub.dispatch("MESSAGE_CREATE", message(state, None, "direct"), guild_id=None)
    assert blank.link.take()[0]["d"]["content"] == "direct"


def guild_create(state: SandboxState, **fields: Any) -> dict[str, Any]:
    client = core_client(state)
    client.send(2, identify_data(state, (0, 1), **fields))
    return client.pump()[0]["d"]


def test_members_need_the_presences_intent() -> None:
    state = core_state(guilds=1, identify_window_s=0.0)
    guild = state.world.guild(state.world.guild_ids()[0])
    some = guild_create(state, intents=intents.ALL & ~intents.GUILD_PRESENCES)
    assert [m["user"]["id"] for m in some["members"]] == [state.world.bot_id]
    assert some["presences"] == []
    every = guild_create(state)
    assert len(every["members"]) == len(guild.members) == every["member_count"]
    assert len(every["presences"]) == len(guild.presences)


def test_a_large_guild_sends_who_is_online() -> None:
    state = core_state(guilds=1, members_per_guild=200, identify_window_s=0.0)
    guild = state.world.guild(state.world.guild_ids()[0])
    small = guild_create(state, large_threshold=50)
    assert small["large"]
    assert len(small["members"]) == len(guild.presences) + 1 < len(guild.members)
    assert not guild_create(core_state(guilds=1, members_per_guild=10))["large"]


def test_a_dispatch_brings_a_waiting_guild_first() -> None:
    state = core_state(guilds=5)
    client = core_client(state)
    client.send(2, identify_data(state))
    last = state.world.guild_ids()[-1]
    assert state.hub.dispatch("TYPING_START", {}, guild_id=last) == 1
    first, second = client.link.take()
    assert (first["t"], first["d"]["id"], second["t"]) == (
        "GUILD_CREATE",
        str(last),
        "TYPING_START",
    )
    assert len(client.pump()) == 4


def test_a_guild_that_the_bot_joins_has_no_unavailable() -> None:
    state, (client,) = shards(1, guilds=2)
    (guild_id,) = state.world.add_guilds(1)
    assert state.hub.guild_joined(guild_id) == 1
    (payload,) = client.link.take()
    assert payload["t"] == "GUILD_CREATE"
    assert "unavailable" not in payload["d"]


def test_a_guild_that_the_bot_leaves_is_deleted_even_before_it_came() -> None:
    state = core_state(guilds=2)
    client = core_client(state)
    client.send(2, identify_data(state))
    gone, stays = state.world.guild_ids()
    assert state.hub.guild_left(gone) == 1
    state.world.remove_guild(gone)
    (deleted,) = client.link.take()
    assert (deleted["t"], deleted["d"]) == ("GUILD_DELETE", {"id": str(gone)})
    assert [payload["d"]["id"] for payload in client.pump()] == [str(stays)]


# -- RESUME


def resume(state: SandboxState, session_id: str, seq: Any, now: float = 0.0) -> CoreClient:
    client = core_client(state, now)
    token = state.world.token
    client.connection.receive(
        payload_of(6, {"token": token, "session_id": session_id, "seq": seq}), now
    )
    return client


def payload_of(op: int, data: Any) -> str:
    return json.dumps({"op": op, "d": data})


def test_resume_replays_what_was_missed_in_order() -> None:
    state, (client,) = shards(1)
    (session,) = state.hub.sessions.values()
    guild_id, seen = state.world.guild_ids()[0], session.seq
    client.connection.ended(4000, 1.0)
    for n in range(3):
        assert state.hub.dispatch("TYPING_START", {"n": n}, guild_id=guild_id) == 1
    replay = resume(state, session.id, seen).link.take()
    assert [(p["t"], p["s"]) for p in replay] == [
        ("TYPING_START", seen + 1),
        ("TYPING_START", seen + 2),
        ("TYPING_START", seen + 3),
        ("RESUMED", seen + 4),
    ]
    assert [p["d"]["n"] for p in replay[:3]] == [0, 1, 2]
    assert state.audit.counters["resumes"] == 1


def test_resume_goes_on_with_the_startup_guilds() -> None:
    state = core_state(guilds=5)
    client = core_client(state)
    client.send(2, identify_data(state))
    client.connection.pump()
    (session,) = state.hub.sessions.values()
    client.connection.ended(None, 1.0)
    assert not state.hub.pump(session)
    again = resume(state, session.id, session.seq)
    assert again.link.events() == ["RESUMED"]
    assert len(again.pump()) == 4


@pytest.mark.parametrize("code", [1000, 1001])
def test_a_client_close_that_ends_the_session(code: int) -> None:
    state, (client,) = shards(1)
    client.connection.ended(code, 1.0)
    assert not state.hub.sessions
    assert state.hub.dispatch("USER_UPDATE", {}, guild_id=None) == 0


@pytest.mark.parametrize("code", [None, 0, 1006, 1011, 4000, 4900])
def test_a_close_that_keeps_the_session(code: int | None) -> None:
    state, (client,) = shards(1)
    client.connection.ended(code, 1.0)
    (session,) = state.hub.sessions.values()
    assert not session.connected
    assert resume(state, session.id, session.seq).link.events() == ["RESUMED"]


def invalid(client: CoreClient) -> bool:
    return [p["d"] for p in client.link.take() if p["op"] == 9] == [False]


def test_a_session_ends_when_nobody_resumes_it_in_time() -> None:
    state, (client,) = shards(1, session_ttl_s=100.0)
    (session,) = state.hub.sessions.values()
    client.connection.ended(None, 50.0)
    assert state.hub.expiries() == [150.0]
    state.hub.expire(149.9)
    assert session.id in state.hub.sessions
    assert invalid(resume(state, session.id, session.seq, 150.0))
    assert not state.hub.sessions
    assert state.audit.counters["resumes_failed"] == 1


def test_a_resume_older_than_the_buffer_is_refused() -> None:
    state, (client,) = shards(1, guilds=1, replay_events_max=5)
    (session,) = state.hub.sessions.values()
    seen = session.seq
    client.connection.ended(None, 0.0)
    for _ in range(6):
        state.hub.dispatch("USER_UPDATE", {}, guild_id=None)
    assert invalid(resume(state, session.id, seen))
    assert not state.hub.sessions


def test_a_resume_from_the_buffers_edge_holds() -> None:
    state, (client,) = shards(1, guilds=1, replay_events_max=5)
    (session,) = state.hub.sessions.values()
    client.connection.ended(None, 0.0)
    for _ in range(6):
        state.hub.dispatch("USER_UPDATE", {}, guild_id=None)
    edge = session.seq - 5
    assert resume(state, session.id, edge).link.events() == ["USER_UPDATE"] * 5 + ["RESUMED"]


@pytest.mark.parametrize("seq", [-1, 1_000])
def test_a_seq_that_never_was_closes_4007_and_ends_the_session(seq: int) -> None:
    state, (client,) = shards(1)
    (session,) = state.hub.sessions.values()
    client.connection.ended(None, 0.0)
    assert resume(state, session.id, seq).close_code == 4007
    assert not state.hub.sessions


def test_unknown_sessions_and_no_seq_are_invalid() -> None:
    state, (_client,) = shards(1)
    (session,) = state.hub.sessions.values()
    assert invalid(resume(state, "nope", 1))
    assert invalid(resume(state, session.id, None))


def test_a_resume_takes_the_session_from_its_old_connection() -> None:
    state, (old,) = shards(1)
    (session,) = state.hub.sessions.values()
    new = resume(state, session.id, session.seq)
    assert new.link.events() == ["RESUMED"]
    assert old.close_code == 4000
    old.connection.ended(1000, 1.0)
    assert session.connected
    state.hub.dispatch("USER_UPDATE", {}, guild_id=None)
    assert (new.link.events(), old.link.events()) == (["USER_UPDATE"], [])


def test_after_an_invalid_resume_the_connection_can_identify() -> None:
    state, _ = shards(1)
    client = resume(state, "nope", 1)
    assert invalid(client)
    client.identify((0, 1))


# -- Deafness and delay


def test_a_deaf_session_is_replayed_and_cured_by_a_resume() -> None:
    state, (client,) = shards(1)
    (session,) = state.hub.sessions.values()
    seen, session.deaf = session.seq, Deafness()
    assert state.hub.dispatch("USER_UPDATE", {}, guild_id=None) == 1
    assert client.link.events() == []
    assert [p["op"] for p in client.send(1, seen)] == [11]
    again = resume(state, session.id, seen)
    assert again.link.events() == ["USER_UPDATE", "RESUMED"]
    state.hub.dispatch("USER_UPDATE", {}, guild_id=None)
    assert again.link.events() == ["USER_UPDATE"]


def test_sticky_and_lost_deafness() -> None:
    state, (_client,) = shards(1)
    (session,) = state.hub.sessions.values()
    session.deaf = Deafness(lost=True, sticky=True)
    seen = session.seq
    assert state.hub.dispatch("USER_UPDATE", {}, guild_id=None) == 0
    again = resume(state, session.id, seen)
    assert again.link.events() == ["RESUMED"]
    state.hub.dispatch("USER_UPDATE", {}, guild_id=None)
    assert again.link.events() == []


def test_deaf_to_some_events_only() -> None:
    state, (client,) = shards(1)
    (session,) = state.hub.sessions.values()
    session.deaf = Deafness(frozenset({"MESSAGE_CREATE"}))
    state.hub.dispatch("MESSAGE_CREATE", {}, guild_id=None)
    state.hub.dispatch("USER_UPDATE", {}, guild_id=None)
    assert client.link.events() == ["USER_UPDATE"]


def test_delay_is_handed_to_the_link_but_not_for_acknowledgements() -> None:
    state, (client,) = shards(1)
    (session,) = state.hub.sessions.values()
    session.delay_s = 2.5
    state.hub.dispatch("USER_UPDATE", {}, guild_id=None)
    assert client.link.delays == [2.5]
    client.connection.receive(payload_of(1, None), 0.0)
    assert client.link.delays == [2.5, None]


def test_target_matches() -> None:
    state, _ = shards(3)
    clients(state, 2)
    found = state.hub.matching
    assert len(found(Target())) == 5
    assert len(found(Target(shard=1))) == 2
    assert len(found(Target(shard=1, num_shards=3))) == 1
    assert len(found(Target(num_shards=2))) == 2
    assert not found(Target(shard=2, num_shards=2))


@pytest.mark.parametrize("seq", [None, 0, 10**6])
def test_a_resume_that_fails_closes_the_connection_that_holds_the_session(seq: int | None) -> None:
    """It would be acknowledged and hear nothing for ever."""
    state, (holder,) = shards(1)
    session_id = next(iter(state.hub.sessions))
    other = core_client(state)
    other.send(6, {"token": state.world.token, "session_id": session_id, "seq": seq})
    assert not state.hub.sessions
    assert holder.close_code == 4009
