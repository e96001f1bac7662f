from collections.abc import Callable
from typing import Any

import pytest

from shard_node.sandbox.session import Target
from shard_node.sandbox.trouble import TroubleError, Troubles
from shard_node.sandbox.trouble_args import NothingFound
from tests.support.sandbox import CoreClient, core_client, core_state, identify_data


class Bench:
    """Troubles over the core, with timers that fire by hand."""

    def __init__(self, shards: int = 2, **settings: Any) -> None:
        self.state = core_state(identify_window_s=0.0, **settings)
        self.state.listening(1234)
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.troubles = Troubles(self.state, lambda s, act: self.timers.append((s, act)))
        self.clients = [self.client(shard, shards) for shard in range(shards)]

    def client(self, shard: int, num_shards: int) -> CoreClient:
        client = core_client(self.state)
        client.identify((shard, num_shards))
        return client

    def make(self, kind: str, **args: Any) -> dict[str, Any]:
        return self.troubles.make({"kind": kind, **args})

    def event(self, event: str = "USER_UPDATE", shard: int = 0) -> int:
        guild_id = next(g for g in self.state.world.guild_ids() if (g >> 22) % 2 == shard)
        return self.state.hub.dispatch(event, {}, guild_id=guild_id)


def test_drop_hits_the_target_only() -> None:
    bench = Bench()
    answer = bench.make("drop", shard=1)
    assert answer == {"kind": "drop", "sessions": [{"shard": 1, "num_shards": 2}]}
    assert [client.link.aborted for client in bench.clients] == [False, True]


def test_all_when_no_target_is_named() -> None:
    bench = Bench()
    bench.make("reconnect")
    assert [c.link.take() for c in bench.clients] == [
        [{"t": None, "s": None, "op": 7, "d": None}]
    ] * 2


def test_heartbeat_is_asked() -> None:
    bench = Bench()
    bench.make("heartbeat", shard=0)
    assert bench.clients[0].link.take()[0]["op"] == 1


def test_invalid_session_false_ends_it_and_the_connection_may_identify() -> None:
    bench = Bench()
    bench.make("invalid_session", shard=0)
    assert bench.clients[0].link.take()[0] == {"t": None, "s": None, "op": 9, "d": False}
    assert len(bench.state.hub.sessions) == 1
    bench.clients[0].identify((0, 2))


def test_invalid_session_true_keeps_it_resumable() -> None:
    bench = Bench()
    session = bench.state.hub.matching(bench_target(0))[0]
    bench.make("invalid_session", shard=0, resumable=True)
    assert bench.clients[0].link.take()[0]["d"] is True
    resume = {"token": bench.state.world.token, "session_id": session.id, "seq": session.seq}
    assert bench.clients[0].send(6, resume)[0]["t"] == "RESUMED"


def bench_target(shard: int) -> Any:
    return Target(shard=shard)


@pytest.mark.parametrize(
    ("code", "lives"), [(4000, True), (4004, False), (4009, False), (1000, True)]
)
def test_close_with_any_code(code: int, lives: bool) -> None:
    bench = Bench()
    bench.make("close", shard=0, code=code, reason="because")
    assert bench.clients[0].link.closed == (code, "because")
    assert (len(bench.state.hub.sessions) == 2) is lives


def test_deaf_for_a_while() -> None:
    bench = Bench()
    bench.make("deaf", shard=0, seconds=3)
    bench.event()
    assert bench.clients[0].link.events() == []
    ((seconds, end),) = bench.timers
    assert seconds == 3.0
    end()
    bench.event()
    assert bench.clients[0].link.events() == ["USER_UPDATE"]


def test_deaf_to_some_until_off() -> None:
    bench = Bench()
    bench.make("deaf", events=["user_update"])
    bench.event()
    bench.event("TYPING_START")
    assert bench.clients[0].link.events() == ["TYPING_START"]
    bench.make("deaf", off=True)
    bench.event()
    assert bench.clients[0].link.events() == ["USER_UPDATE"]


def test_the_end_of_an_old_deafness_leaves_a_newer_one() -> None:
    bench = Bench()
    bench.make("deaf", seconds=3)
    bench.make("deaf")
    bench.timers[0][1]()
    bench.event()
    assert bench.clients[0].link.events() == []


def test_delay_and_its_end() -> None:
    bench = Bench()
    bench.make("delay", shard=0, delay_s=1.5, seconds=10)
    bench.event()
    assert bench.clients[0].link.delays == [1.5]
    bench.timers[0][1]()
    bench.event()
    assert bench.clients[0].link.delays == [1.5, 0.0]


def test_no_ack() -> None:
    bench = Bench()
    bench.make("no_ack", shard=0)
    assert bench.clients[0].send(1, None) == []
    bench.make("no_ack", shard=0, off=True)
    assert bench.clients[0].send(1, None)[0]["op"] == 11


def test_refuse_the_next_resumes_of_a_target() -> None:
    bench = Bench()
    bench.make("refuse_resume", shard=1, count=1)
    token = bench.state.world.token
    outcomes = []
    for shard, client in enumerate(bench.clients):
        (session,) = bench.state.hub.matching(bench_target(shard))
        client.connection.ended(None, 0.0)
        resume = {"token": token, "session_id": session.id, "seq": session.seq}
        payload = core_client(bench.state).send(6, resume)[0]
        outcomes.append(payload["t"] or payload["op"])
    assert outcomes == ["RESUMED", 9]
    assert bench.state.hub.refusals == []
    bench.make("refuse_resume", count=5)
    bench.make("refuse_resume", off=True)
    assert bench.state.hub.refusals == []


def test_dead_resume_url_and_back() -> None:
    bench = Bench()
    alive = bench.state.hub.resume_url
    answer = bench.make("dead_resume_url", seconds=1)
    dead = bench.client(0, 2)
    ready = dead.connection.session
    assert ready is not None
    assert answer["resume_gateway_url"] == bench.state.hub.resume_url != alive
    assert bench.state.resume_is_dead
    bench.timers[0][1]()
    assert (bench.state.hub.resume_url, bench.state.resume_is_dead) == (alive, False)
    bench.troubles.shut()


def test_storm_by_count_and_by_time() -> None:
    bench = Bench()
    assert bench.state.take_storm() is None
    bench.make("storm_429", count=2, retry_after_s=0.5, scope="shared")
    storms = [bench.state.take_storm() for _ in range(3)]
    assert [storm is not None for storm in storms] == [True, True, False]
    assert storms[0] is not None
    assert (storms[0].retry_after_s, storms[0].scope) == (0.5, "shared")
    bench.make("storm_429", seconds=5)
    assert bench.state.take_storm() is not None
    bench.make("storm_429", off=True)
    assert bench.state.take_storm() is None


def test_guilds_come_and_go() -> None:
    bench = Bench(guilds=4)
    added = bench.make("add_guilds", count=2)["guilds"]
    assert len(bench.state.world) == 6
    events = [event for client in bench.clients for event in client.link.events()]
    assert events == ["GUILD_CREATE", "GUILD_CREATE"]
    assert bench.state.audit.counters["guild_joins_sent"] == 2
    assert bench.make("remove_guilds", guilds=added[:1])["guilds"] == added[:1]
    assert bench.make("remove_guilds")["guilds"] == added[1:]
    events = [event for client in bench.clients for event in client.link.events()]
    assert events == ["GUILD_DELETE", "GUILD_DELETE"]
    assert len(bench.state.world) == 4


def test_recommendation_and_budget() -> None:
    bench = Bench(shards=2)
    bench.make("recommend_shards", shards=8)
    bench.make("budget", remaining=3)
    found = bench.state.gateway_bot()
    assert found["shards"] == 8
    assert found["session_start_limit"]["remaining"] == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"kind": "nonsense"}, "there is no trouble 'nonsense'"),
        ({}, "there is no trouble None"),
        ({"kind": ["drop"]}, "there is no trouble"),
        ({"kind": "drop", "shard": -1}, "shard is -1; it must be an integer between 0"),
        ({"kind": "drop", "shard": "0"}, "shard is '0'"),
        ({"kind": "drop", "shard": True}, "shard is True"),
        ({"kind": "close", "code": 99}, "code is 99"),
        ({"kind": "close", "reason": "x" * 124}, "reason is longer"),
        ({"kind": "deaf", "events": "MESSAGE_CREATE"}, "events must be null or a list"),
        ({"kind": "deaf", "lost": 1}, "lost is 1"),
        ({"kind": "deaf", "seconds": -1}, "seconds is -1"),
        ({"kind": "deaf", "seconds": float("nan")}, "seconds is nan"),
        ({"kind": "delay"}, "delay_s is missing"),
        ({"kind": "storm_429", "scope": "moon"}, "scope is 'moon'"),
        ({"kind": "add_guilds", "count": 0}, "count is 0"),
        ({"kind": "add_guilds", "count": 10**6}, "holds at most"),
        ({"kind": "remove_guilds", "guilds": "1"}, "guilds must be a list"),
        ({"kind": "remove_guilds", "guilds": ["x"]}, "guilds must be a list"),
        ({"kind": "recommend_shards"}, "shards is missing"),
    ],
)
def test_a_wrong_request_says_why_and_changes_nothing(args: dict[str, Any], message: str) -> None:
    bench = Bench()
    with pytest.raises(TroubleError, match=message.replace("[", r"\[")):
        bench.troubles.make(args)
    assert [client.link.texts for client in bench.clients] == [[], []]


def test_nothing_to_hit_says_what_there_is() -> None:
    bench = Bench()
    with pytest.raises(NothingFound) as caught:
        bench.make("drop", shard=7)
    assert caught.value.exists == [
        {"shard": 0, "num_shards": 2},
        {"shard": 1, "num_shards": 2},
    ]
    with pytest.raises(NothingFound, match="the bot is not in 5"):
        bench.make("remove_guilds", guilds=["5"])


def test_disconnected_sessions_are_not_hit_by_what_needs_a_connection() -> None:
    bench = Bench()
    bench.clients[0].connection.ended(None, 0.0)
    assert bench.make("drop")["sessions"] == [{"shard": 1, "num_shards": 2}]


def test_a_big_startup_is_not_needed_for_trouble() -> None:
    state = core_state(guilds=10)
    client = core_client(state)
    client.send(2, identify_data(state))
    troubles = Troubles(state, lambda s, act: None)
    troubles.make({"kind": "remove_guilds", "count": 10})
    assert client.link.events() == ["GUILD_DELETE"] * 10
    assert client.pump() == []


def test_who_ignores_op_7_is_closed_and_may_resume() -> None:
    bench = Bench()
    bench.make("reconnect")
    ignoring, following = bench.clients
    session = following.connection.session
    assert session is not None
    following.connection.ended(4900, 1.0)
    ((grace_s, hang_up),) = bench.timers
    hang_up()
    assert (grace_s, ignoring.close_code, following.close_code) == (10.0, 4000, None)
    assert len(bench.state.hub.sessions) == 2


def test_the_grace_after_op_7_can_be_given() -> None:
    bench = Bench()
    bench.make("reconnect", grace_s=0.5)
    assert [seconds for seconds, _ in bench.timers] == [0.5]
    with pytest.raises(TroubleError, match="grace_s"):
        bench.make("reconnect", grace_s=-1)
